"""Blocks of docs/families.md: one layer on shares and ciphertexts, and the network, estimated."""

from collections.abc import Callable

from evidence import versus
from evidence.cells import head, row
from evidence.places import Places, Result
from evidence.speed import NOT_YET, ratio, where

RESULT = "bench-families"


def layer(places: Places) -> str:
    """Seconds, bytes and error of the layer in every family, beside the clear."""
    found = places.load(RESULT)
    if found is None:
        return NOT_YET
    lines = head("the layer", "part", "seconds (least to most)", "MB", "× in the clear", "error")
    plain = found["plain"]
    seconds = _seconds(plain["phases"]["convolve"])
    lines.append(row("in the clear", "convolve", seconds, "0", "1", _error(plain)))
    for entry in found["families"]:
        name = entry["family"]
        if entry["status"] != "run":
            lines.append(row(name, entry["status"], "", "", "", ""))
            continue
        for number, (part, figures) in enumerate(entry["phases"].items()):
            own = part == "convolve"
            times, error = (ratio(entry["times_plain"]), _error(entry)) if own else ("", "")
            megabytes = f"{figures['bytes'] / 1e6:.3g}"
            first = name if number == 0 else ""
            lines.append(row(first, part, _seconds(figures), megabytes, times, error))
    planes, channels, *grid = found["layer"]["image"]
    note = (
        f"{channels} channels to {found['layer']['weight'][0]} by 3×3 on {planes} planes of "
        f"{'×'.join(map(str, grid))}, {found['layer']['multiply_adds'] / 1e6:.1f} million "
        f"multiply-adds, as in {found['model']}; {found['n_rounds']} rounds"
    )
    return "\n".join([*lines, "", *_settings(found), "", where(found, note)])


def _settings(found: Result) -> list[str]:
    """How each was set up."""
    lines = []
    for entry in found["families"]:
        if entry["status"] == "run":
            told = ", ".join(
                f"{name.replace('_', ' ')} {value}" for name, value in entry["parameters"].items()
            )
            versions = ", ".join(f"{name} {one}" for name, one in entry["libraries"].items())
            lines.append(f"- {entry['family']}: {told}; {versions}")
    return lines


def network(places: Places) -> str:
    """What one tile through the whole network would cost."""
    found = places.load(RESULT)
    if found is None:
        return NOT_YET
    lines = head("one tile, estimated", "seconds", "of them", "MB", "of them", "rounds")
    for entry in found["families"]:
        if entry["status"] != "run":
            continue
        whole = entry["estimate"]
        cells = []
        for part, unit in (("seconds", 1.0), ("bytes", 1e6)):
            each = {name: value / unit for name, value in whole[part].items()}
            told = ", ".join(f"{name} {value:.3g}" for name, value in each.items())
            cells += [f"{sum(each.values()):.3g}", told]
        lines.append(row(entry["family"], *cells, str(whole["rounds"])))
    counted = found["network"]
    tile = "×".join(map(str, found["tile"][2:]))
    note = (
        f"{found['model']}, a tile of {tile}: {counted['multiply_adds'] / 1e9:.2f} billion "
        f"multiply-adds in {counted['convolutions']} convolutions, "
        f"{counted['rectified'] / 1e6:.2f} million numbers through {counted['rectifiers']} "
        f"rectifiers."
    )
    return "\n".join([*lines, "", note])


def _seconds(figures: Result) -> str:
    least, most = figures["spread_s"]
    return f"{figures['seconds']:.3g} ({least:.3g} to {most:.3g})"


def _error(entry: Result) -> str:
    return f"{entry['largest_error']:.1e}"


BLOCKS: dict[str, Callable[[Places], str]] = {
    "families-layer": layer,
    "families-network": network,
    **versus.BLOCKS,
}
