"""Blocks of docs/privacy.md: what leaks, and what each defence is worth."""

from collections.abc import Iterator, Mapping

from evidence.audits import (
    CURVE,
    ENCODED,
    FRONTIER,
    HALF,
    HEART,
    KEYED,
    LABELLED,
    MIXUP,
    PLAIN,
    WHOLE_BRAIN,
    findings,
)
from evidence.cells import NOT_YET, head, row
from evidence.places import Places, Result
from evidence.together import INVERTED
from veilseg.audit.findings import CHANNELS, RUN
from veilseg.audit.verdict import nothing_known, sentence, strongest

WITHOUT_PAIRS = "0 pairs"
TITLES = {
    PLAIN: "hippocampus, raw images (quick audit)",
    MIXUP: "hippocampus, private",
    LABELLED: "hippocampus, private, labelled references",
    HEART: "heart, private, labelled references (quick audit)",
    WHOLE_BRAIN: "brain tissue, private (quick audit)",
    ENCODED: "hippocampus, encoded",
    HALF: "hippocampus, encoded: what a site's half remembers",
    KEYED: "hippocampus, encoded with a key",
}
NOTHING: Result = {"channels": {channel: [] for channel in CHANNELS}}


def leaks(places: Places) -> str:
    """The strongest attack on each channel of what a site does by default, for each audit."""
    lines = head("audited", "channel", "strongest attack", "reaches", "knowing nothing")
    for audit, title in TITLES.items():
        result = places.load(audit.name)
        if result is None:
            lines.append(row(title, "not measured yet", "", "", ""))
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
        mixed_otherwise = not one["setting"] or one["setting"].startswith("a = ")
        if mixed_otherwise and one["status"] == RUN:
            name = one["setting"].removeprefix("a = ") or f"{result['coefficient']:g}"
            baseline = f"{one['baseline']['population-mean mask']:.2f}"
            lines.append(row(name, one["details"]["strongest"], _value(one), baseline))
    return "\n".join(lines)


def averaging(places: Places) -> str:
    """What K fresh proxies of one image show."""
    result = places.load(MIXUP.name)
    if result is None:
        return NOT_YET
    curves = [
        one["details"]["ssim"]
        for one in findings(result, "image", "A2")
        if one["status"] == RUN and one["details"]
    ]
    if not curves:
        return "Not run, or its control failed: nothing is said."
    (curve,) = curves
    return "\n".join(
        [*head("fresh proxies", *curve), row("SSIM", *(f"{v:.2f}" for v in curve.values()))]
    )


def inversion(places: Places) -> str:
    """What an attacker makes of encodings, over how many it knows, and how soon it has a key."""
    titles = {ENCODED.name: "without a key", KEYED.name: "with a key"}
    return "\n".join([_inverted(places, titles), *_keys_found(places, titles)])


def collusion(places: Places) -> str:
    """What a site and the provider make of what all sites gave, and how soon they have a key."""
    titles = {audit: f"{job.data.title}, all sites" for audit, job in INVERTED.items()}
    return "\n".join([_inverted(places, titles), *_keys_found(places, titles)])


def _keys_found(places: Places, titles: Mapping[str, str]) -> Iterator[str]:
    for audit, title in titles.items():
        for one in findings(places.load(audit) or NOTHING, "image", "A11"):
            if one["status"] == RUN and "error_by_images" in one["details"]:
                left = one["details"]["error_by_images"].items()
                told = ", ".join(f"{error:.3f} from {count}" for count, error in left)
                what = "a key hides this share of an encoding, by known images (A11)"
                yield from ("", f"{title}: {what}: {told}.")


def _inverted(places: Places, titles: Mapping[str, str]) -> str:
    rows = {}
    for audit, title in titles.items():
        result = places.load(audit)
        by_pairs = [] if result is None else findings(result, "image", "A10")
        ran = [one for one in by_pairs if one["status"] == RUN]
        if ran:
            # Of how many pairs the control failed, nothing is said.
            failed = {one["setting"].partition(": ")[2] for one in by_pairs if one not in ran}
            curve = ran[0]["details"]["ssim_by_pairs"]
            rows[title] = {n: None if n in failed else value for n, value in curve.items()}
            for one in findings(result, "image", "A10b"):
                if one["status"] == RUN:  # else the mean image is all there is without a pair
                    rows[title][WITHOUT_PAIRS] = max(one["value"], rows[title][WITHOUT_PAIRS])
    if not rows:
        return NOT_YET
    lines = head("SSIM of the image, by known pairs", *next(iter(rows.values())))
    for title, curve in rows.items():
        shown = ("–" if value is None else f"{value:.2f}" for value in curve.values())
        lines.append(row(title, *shown))
    return "\n".join(lines)


def frontier_settings(places: Places) -> str:
    """Every point of the sweep."""
    points = (places.load(FRONTIER.name) or {}).get("frontier")
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


def _cells(best: Result | None) -> tuple[str, str, str]:
    if best is None:
        return "none ran with its controls", "", ""
    name = f"{best['attack']}: {best['title'].lower()}"
    return name, f"{best['metric']} {_value(best)}", f"{nothing_known(best):.2f}"


def _value(one: Result, digits: int = 2) -> str:
    low, high = one["interval"]
    spread = "" if low is None else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{one['value']:.{digits}f}{spread}"


def _defences(result: Result, labelled: Result | None) -> Iterator[tuple[str, str, str, str]]:
    for one in findings(result, "image", "A4"):
        bare = one["baseline"].get("backgrounds not filled")
        without = "–" if bare is None else f"{bare:.1f}"
        what = "A4, % of voxels that show the patient alone"
        yield "background filled", what, _shown(one, 1), without
    for one in findings(result, "image", "A2"):
        if one["setting"] == "memoised":
            without = f"{one['baseline']['fresh proxies']:.2f}"
            yield "memoised proxies", "A2, SSIM gained over one proxy", _shown(one), without
    what = "a new reference on follow-up, instead of the same"
    yield from _pair(result, "A2b", what, "a second", "same", "SSIM from two scans")
    what = "a reference for each image, instead of one for all"
    yield from _pair(result, "A3", what, "a reference for each", "one reference", "SSIM")
    what = "a reference for each image, instead of a few for all"
    yield from _pair(result, "A8", what, "a reference for each", "references for all", "SSIM")
    for one in findings(result, "image", "A1"):
        rates = one["details"].get("hit_rate", {}) if one["status"] == RUN else {}
        for size in (name.split()[0] for name in rates if "no warp" in name):
            names = (f"{size} candidates, {warp}" for warp in ("secret warp", "no warp"))
            with_it, without = (rates[name] for name in names)
            what = f"secret warp, {size} public candidates"
            yield what, "A1, hit rate", f"{with_it:.2f}", f"{without:.2f}"
    default, *others = findings(result, "mask", "A16") or [None]
    for one in others:
        kept = one["details"].get("dice_of_the_site", {})
        for name, value in kept.items():
            if name != "all probabilities":
                whole = kept["all probabilities"]
                what = f"answers: {name} (the site's Dice: {value:.3f} instead of {whole:.3f})"
                yield what, "A16, Dice", _shown(one), _shown(default)
        if one["occurs"] == "if asked for":
            yield (
                f"one proxy instead of {one['setting']}",
                "A16, Dice",
                _shown(default),
                _shown(one),
            )
    if labelled is not None:
        for channel, attack in (("image", "A5"), ("mask", "A16"), ("identity", "A15")):
            pair = [findings(one, channel, attack) for one in (result, labelled)]
            if all(pair):
                one, other = (some[0] for some in pair)
                what = "synthetic references, instead of labelled cases"
                yield what, f"{attack}, {one['metric']}", _shown(one), _shown(other)


def _pair(
    result: Result, attack: str, what: str, good: str, bad: str, metric: str
) -> Iterator[tuple[str, str, str, str]]:
    """A defence whose attack has two settings, known by a word of theirs."""
    found = findings(result, "image", attack)
    with_it = [one for one in found if one["setting"].startswith(good)]
    without = [one for one in found if bad in one["setting"] and one not in with_it]
    if with_it and without:
        yield what, f"{attack}, {metric}", _shown(with_it[0]), _shown(without[0])


def _shown(one: Result, digits: int = 2) -> str:
    """A value with its interval; of an attack that did not run, why."""
    return _value(one, digits) if one["status"] == RUN else one["status"]
