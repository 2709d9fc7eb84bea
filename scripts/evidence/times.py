"""Blocks of documents about time: of a segmentation, of a training."""

from evidence.cells import NOT_YET, change, head, row
from evidence.jobs import BRAIN, HIPPOCAMPUS
from evidence.places import Places, Result
from evidence.usage import overhead_name


def overhead(places: Places) -> str:
    """Time of private ÷ plain."""
    found = places.load("overhead")
    if found is None:
        return f"Overhead of protection: {NOT_YET[0].lower()}{NOT_YET[1:]}"
    lines = head("end to end", "private ÷ plain, median", "plain", "private", "cold start")
    for data in (HIPPOCAMPUS, BRAIN):
        for scheme, told in (("mixup", ""), ("encoding", ", encoded")):
            for engine, where in (("onnxruntime", ""), ("openvino", ", OpenVINO at the site")):
                name = overhead_name(data.name, scheme, engine)
                if name in found:
                    what = f"{data.title}{told}{where}"
                    lines.append(_overhead_row(what, found[name], scheme))
    return "\n".join(lines)


def _overhead_row(what: str, entry: Result, scheme: str) -> str:
    ratio = entry["ratio"]
    seconds = (f"{entry['seconds'][s]['total']:.2f} s" for s in ("plain", scheme))
    cold = " / ".join(f"{entry['cold_start'][s]:.1f} s" for s in ("plain", scheme))
    low, high = ratio["interval"]
    times = f"{ratio['median']:.2f} ({low:.2f} to {high:.2f})"
    return row(f"{what}, {entry['n_pairs']} pairs", times, *seconds, cold)


def overhead_phases(places: Places) -> str:
    """Where the time of one segmentation goes, in milliseconds."""
    found = places.load("overhead")
    if found is None:
        return f"Phases: {NOT_YET[0].lower()}{NOT_YET[1:]}"
    phases = ("protect", "process", "recover", "write")
    lines = head("milliseconds, median", *phases, "in all")
    for data in (HIPPOCAMPUS, BRAIN):
        for scheme, name in (("plain", "plain"), ("mixup", "private")):
            seconds = found[data.name]["seconds"][scheme]
            cells = (f"{1000 * seconds[phase]:.0f}" for phase in (*phases, "total"))
            lines.append(row(f"{data.title}, {name}", *cells))
    return "\n".join(lines)


def encoding_compute(places: Places) -> str:
    """What of encoded segmentation is computed where: multiply-adds and milliseconds."""
    found = places.load("overhead") or {}
    entries = {
        data.title: found[name]
        for data in (HIPPOCAMPUS, BRAIN)
        if (name := overhead_name(data.name, "encoding", "onnxruntime")) in found
    }
    if not entries:
        return NOT_YET
    columns = ("at the site", "at the server", "site ÷ server", "encode", "server", "decode")
    lines = head("billions of multiply-adds a tile; milliseconds an image", *columns)
    for title, entry in entries.items():
        of = entry["multiply_adds"]["encoding"]
        seconds = entry["seconds"]["encoding"]
        billions = (f"{of[where] / 1e9:.2f}" for where in ("site", "server"))
        times = (f"{1000 * seconds[phase]:.0f}" for phase in ("protect", "process", "recover"))
        lines.append(row(title, *billions, f"{of['site'] / of['server']:.2f}", *times))
    return "\n".join(lines)


def training_time(places: Places) -> str:
    """How long the private hippocampus network was trained, and how far from plain it ends."""
    found = places.load("training-time")
    if found is None:
        return f"Time of training: {NOT_YET[0].lower()}{NOT_YET[1:]}"
    steps = found["sources"]["mixup"]["steps"]
    return (
        f"Trained from nothing, the private hippocampus network takes {found['minutes']:.0f} "
        f"minutes ({steps:,} steps) on {found['cores']} cores, and ends "
        f"{change(found['margin'])} Dice from plain."
    )
