"""Blocks of docs/privacy.md: what leaks, and what each defence is worth."""

from collections.abc import Iterator

from evidence.audits import CURVE, HEART, LABELLED, MIXUP, PLAIN, WHOLE_BRAIN, findings
from evidence.cells import NOT_YET, head, row
from evidence.places import Places, Result
from veilseg.audit.findings import CHANNELS, RUN
from veilseg.audit.verdict import nothing_known, sentence, share_learned, strongest

TITLES = {
    PLAIN: "hippocampus, raw images",
    MIXUP: "hippocampus, private",
    LABELLED: "hippocampus, private, labelled references",
    HEART: "heart, private, labelled references",
    WHOLE_BRAIN: "brain tissue, private (quick audit)",
}


def leaks(places: Places) -> str:
    """The strongest attack on each channel of what a site does by default, for each audit."""
    lines = head("audited", "channel", "strongest attack", "reaches", "knowing nothing", "controls")
    for audit, title in TITLES.items():
        result = places.load(audit.name)
        if result is None:
            lines.append(row(title, "not measured yet", "", "", "", ""))
            continue
        for channel in CHANNELS:
            found = findings(result, channel)
            best = strongest(found)
            if not found:
                continue
            lines.append(row(title, channel, *_cells(best)))
    return "\n".join(lines)


def verdicts(places: Places) -> str:
    """What the audit of the shipped hippocampus bundle says in words."""
    result = places.load(MIXUP.name)
    if result is None:
        return NOT_YET
    return "\n".join(
        f"- **{channel.capitalize()}.** {sentence(channel, findings(result, channel))}"
        for channel in CHANNELS
    )


def defences(places: Places) -> str:
    """Each defence with what an attack reaches with and without it."""
    result = places.load(MIXUP.name)
    if result is None:
        return NOT_YET
    lines = head("defence", "attack", "with it", "without it")
    lines += [row(*cells) for cells in _defences(result, places.load(LABELLED.name))]
    return "\n".join(lines)


def masks(places: Places) -> str:
    """The mask over the mixing coefficient."""
    result = places.load(CURVE.name)
    if result is None:
        return NOT_YET
    lines = head("a", "strongest attacker", "Dice", "population-mean mask")
    for one in findings(result, "mask", "A16"):
        if one["occurs"] != "never" and one["status"] == RUN:
            name = one["setting"].removeprefix("a = ") or f"{result['coefficient']:g}"
            baseline = f"{one['baseline']['population-mean mask']:.2f}"
            lines.append(row(name, one["details"]["strongest"], _value(one), baseline))
    return "\n".join(lines)


def averaging(places: Places) -> str:
    """What K fresh proxies of one image show."""
    result = places.load(MIXUP.name)
    if result is None:
        return NOT_YET
    fresh, _ = findings(result, "image", "A2")
    curve = fresh["details"]["ssim"]
    return "\n".join(
        [*head("fresh proxies", *curve), row("SSIM", *(f"{v:.2f}" for v in curve.values()))]
    )


def frontier_settings(places: Places) -> str:
    """Every point of the sweep."""
    points = (places.load(MIXUP.name) or {}).get("frontier")
    if points is None:
        return NOT_YET
    channels = ("image", "mask", "identity", "membership")
    lines = head("setting", "Dice kept", *channels)
    for point in points:
        count = point["references"]
        name = f"a = {point['coefficient']:g}, {count} reference{'s' if count > 1 else ''}"
        values = (f"{point[c]:.2f}" if point[c] is not None else "–" for c in channels)
        shown = name if point["what"] == "mixture" else point["what"]
        lines.append(row(shown, f"{point['dice']:.3f}", *values))
    return "\n".join(lines)


def _cells(best: Result | None) -> tuple[str, str, str, str]:
    if best is None:
        return "none ran with its controls", "", "", ""
    controls = "passed" if best["controls_passed"] else "**failed**"
    name = f"{best['attack']}: {best['title'].lower()}"
    return name, f"{best['metric']} {_value(best)}", f"{nothing_known(best):.2f}", controls


def _value(one: Result) -> str:
    low, high = one["interval"]
    spread = "" if low is None else f" ({low:.2f} to {high:.2f})"
    return f"{one['value']:.2f}{spread}"


def _defences(result: Result, labelled: Result | None) -> Iterator[tuple[str, str, str, str]]:
    (bare,) = findings(result, "image", "A4")
    yield (
        "background filled",
        "A4, % of voxels that show the patient alone",
        f"{bare['value']:.1f}",
        f"{bare['baseline']['backgrounds not filled']:.1f}",
    )
    fresh, memoised = findings(result, "image", "A2")
    yield (
        "memoised proxies",
        f"A2, SSIM gained by {fresh['setting'].split(',')[0]}",
        f"{memoised['value']:.2f}",
        f"{memoised['baseline']['fresh proxies']:.2f}",
    )
    same, new = findings(result, "image", "A2b")
    yield (
        "a new reference on follow-up, instead of the same",
        "A2b, SSIM from two scans",
        _value(new),
        _value(same),
    )
    shared, own = findings(result, "image", "A3")
    yield (
        "a reference for each image, instead of one for all",
        "A3, SSIM",
        _value(own),
        _value(shared),
    )
    (gallery,) = findings(result, "image", "A1")
    for size in (name.split()[0] for name in gallery["details"]["hit_rate"] if "no warp" in name):
        rates = gallery["details"]["hit_rate"]
        yield (
            f"secret warp, {size} public candidates",
            "A1, hit rate",
            f"{rates[f'{size} candidates, secret warp']:.2f}",
            f"{rates[f'{size} candidates, no warp']:.2f}",
        )
    default, *others = findings(result, "mask", "A16")
    for one in others:
        if one["setting"].startswith("answers: "):
            (kept,) = (
                value
                for name, value in one["details"]["dice_of_the_site"].items()
                if name != "all probabilities"
            )
            whole = one["details"]["dice_of_the_site"]["all probabilities"]
            yield (
                f"{one['setting']} (the site's Dice: {kept:.3f} instead of {whole:.3f})",
                "A16, Dice",
                _value(one),
                _value(default),
            )
    if labelled is not None:
        for channel, attack in (("image", "A5"), ("mask", "A16"), ("identity", "A15")):
            one, other = (findings(r, channel, attack)[0] for r in (result, labelled))
            yield (
                "synthetic references, instead of labelled cases",
                f"{attack}, {one['metric']}",
                _shown(one),
                _shown(other),
            )


def _shown(one: Result) -> str:
    return _value(one) if share_learned(one) is not None else one["status"]
