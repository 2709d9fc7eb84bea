"""Federated averaging beside protected pairs and pooled images: the comparison, and its blocks."""

from collections.abc import Callable, Mapping

from evidence.cells import NOT_YET, change, dice, head, people, row, with_range
from evidence.places import Places, Result
from evidence.sites import CENTERS, POOLED, Centers
from evidence.summaries import Load, difference, joined, mean
from evidence.together import SCHEMES, part_name

WAY = "fedavg"
TITLES = {WAY: "federated averaging", **SCHEMES, POOLED: "raw images of all sites, pooled"}
# Of one site averaged with nobody, against its own training: the same steps on the same examples.
TOLERANCE = 0.005


def name_of(job: Centers) -> str:
    """Of the job, and of its results."""
    return f"{WAY}-{job.data.name}"


def compared(job: Centers, parts: Mapping[str, Result], control: Result, load: Load) -> Result:
    """Dice of the average on each site's patients, beside every other way that was measured."""
    evaluated = {WAY: dict(parts)}
    for way in (*SCHEMES, POOLED):
        found = {site: load(part_name(job, way, site)) for site in job.sites}
        there = {site: one for site, one in found.items() if one is not None}
        # Of the same data, or it is no comparison.
        if len(there) == len(parts) and all(
            there[site]["data_sha256"] == parts[site]["data_sha256"] for site in parts
        ):
            evaluated[way] = there
    by_site = {
        site: joined({way: those[site] for way, those in evaluated.items()}) for site in job.sites
    }
    cases = [case for those in by_site.values() for case in those]
    first = {way: those[job.sites[0]] for way, those in evaluated.items()}
    return {
        "dataset": first[WAY]["dataset"],
        "control": control,
        "ways": {
            way: {
                "all": mean(cases, way),
                "on": {site: mean(those, way) for site, those in by_site.items()},
            }
            for way in evaluated
        },
        "differences": {way: difference(cases, WAY, way) for way in evaluated if way != WAY},
        "fits": {way: one["fit"] for way, one in first.items() if "fit" in one},
        "sources": {
            way: {"bundle_id": one["bundle_id"], "commit": one["commit"]}
            for way, one in first.items()
        },
    }


def accuracy(places: Places) -> str:
    """Dice of every way on each site's patients, and what averaging gains over it."""
    return _tables(places, _accuracy)


def _accuracy(job: Centers, found: Result) -> list[str]:
    tested = found["ways"][WAY]["on"]
    lines = head(
        f"{job.data.title}, trained on",
        *(f"{job.titles[site]}: {people(tested[site])}" for site in job.sites),
        "all of them",
        "averaging − this",
    )
    for way, title in TITLES.items():
        if way not in found["ways"]:
            lines.append(row(title, *["–"] * len(job.sites), "not measured yet", ""))
            continue
        scores = found["ways"][way]
        cells = (with_range(scores["on"][site]) for site in job.sites)
        gap = "" if way == WAY else change(found["differences"][way])
        lines.append(row(title, *cells, dice(scores["all"]["dice"]), gap))
    return lines


def cost(places: Places) -> str:
    """Rounds, bytes both ways and seconds of every way to train together."""
    return _tables(places, _cost)


def _cost(job: Centers, found: Result) -> list[str]:
    lines = head(
        f"{job.data.title}, what",
        "rounds",
        "MB from sites",
        "MB to sites",
        "steps",
        "examples",
        "seconds",
    )
    for way, fit in found["fits"].items():
        sites = fit["sites"].values()
        if way == WAY:
            rounds, steps = fit["of"]["rounds"], fit["of"]["steps"]
            sent, received = (sum(one[part] for one in sites) for part in ("sent", "received"))
            came, seen = f"{received / 1e6:.0f}", f"{steps * fit['batch']:,}"
        else:
            rounds, steps = 1, fit["steps"]
            sent, came, seen = sum(one["bytes"] for one in sites), "–", "–"
        cells = (
            str(rounds),
            f"{sent / 1e6:.0f}",
            came,
            f"{steps:,}",
            seen,
            dice(fit["seconds"], 0),
        )
        lines.append(row(TITLES[way], *cells))
    return lines


def control(places: Places) -> str:
    """One site averaged with nobody, against its own training."""
    return _tables(places, _control)


def _control(job: Centers, found: Result) -> list[str]:
    known = found["control"]
    local, averaged = (known["dice"][which] for which in ("local", "averaged"))
    apart = abs(averaged - local)
    told = "as it has to be" if apart <= TOLERANCE else "more than it may: no fair comparison"
    return [
        f"{job.data.title}, {job.titles[known['site']]} alone, {known['of']['steps']} steps in "
        f"{known['of']['rounds']} rounds: Dice {dice(averaged, 4)}, by its own training "
        f"{dice(local, 4)}, {told}; weights differ by at most "
        f"{known['largest_weight_difference']:.2g}."
    ]


def _tables(places: Places, table: Callable[[Centers, Result], list[str]]) -> str:
    parts = []
    for job in CENTERS:
        found = places.load(name_of(job))
        missing = [f"{job.data.title}: {NOT_YET[0].lower()}{NOT_YET[1:]}"]
        parts.append("\n".join(missing if found is None else table(job, found)))
    return "\n\n".join(parts)


BLOCKS: dict[str, Callable[[Places], str]] = {
    "federated": accuracy,
    "federated-cost": cost,
    "federated-control": control,
}
