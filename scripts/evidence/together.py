"""Together against alone and against pooled raw images: the comparison, and its blocks."""

from collections.abc import Iterator, Mapping
from typing import Any

from evidence.cells import NOT_YET, change, dice, head, people, row, with_range
from evidence.goals import LARGEST_LOSS, Goal, signed
from evidence.places import Places, Result
from evidence.sites import CENTERS, POOLED, SCALES, Centers
from evidence.summaries import Case, Load, difference, joined, mean

RESULT = "centers"
SCHEMES = {"encoding": "encoded pairs of all sites", "mixup": "mixed pairs of all sites"}

# Audits of what was fitted to encoded pairs.
INVERTED = {f"audit-{job.name}": job for job in CENTERS}


def part_name(job: Centers, way: str, site: str) -> str:
    """Of the evaluation of one way on a site's test patients."""
    return f"parts/{job.name}-{way}-on-{site}"


def facts_name(job: Centers) -> str:
    """Of what is known of the sites' data."""
    return f"parts/{job.name}-sites"


def centers(load: Load) -> Result | None:
    """Every data set that was measured by all ways on all sites; None if there is none."""
    found = {job.name: _compared(job, load) for job in CENTERS}
    there = {name: entry for name, entry in found.items() if entry is not None}
    return {"sets": there} if there else None


def _compared(job: Centers, load: Load) -> Result | None:
    ways = (*job.sites, *SCHEMES, POOLED)
    facts = load(facts_name(job))
    parts = {(way, site): load(part_name(job, way, site)) for way in ways for site in job.sites}
    there = {key: part for key, part in parts.items() if part is not None}
    if facts is None or len(there) < len(parts):
        return None
    for way in ways:
        if len({there[way, site]["bundle_id"] for site in job.sites}) > 1:
            return None  # one site's evaluation is of a network that was trained anew since
    by_site = {site: joined({way: there[way, site] for way in ways}) for site in job.sites}
    cases = [case for those in by_site.values() for case in those]
    schemes = {scheme: _gained(job, scheme, by_site, cases) for scheme in SCHEMES}
    first = {way: there[way, job.sites[0]] for way in ways}
    return {
        "dataset": first[POOLED]["dataset"],
        "sites": {site: facts[site] for site in job.sites},
        "ways": {
            way: {
                "all": mean(cases, way),
                "on": {site: mean(those, way) for site, those in by_site.items()},
            }
            for way in ways
        },
        "schemes": {
            scheme: {**entry, "fit": first[scheme]["fit"]} for scheme, entry in schemes.items()
        },
        "sources": {
            way: {
                "bundle_id": one["bundle_id"],
                "steps": one.get("fit", one["provenance"])["steps"],
                "seed": one.get("fit", one["provenance"])["seed"],
                "references": one["references"],
                "commit": one["commit"],
            }
            for way, one in first.items()
        },
    }


def _gained(
    job: Centers, scheme: str, by_site: Mapping[str, list[Case]], cases: list[Case]
) -> Result:
    """Over each site alone, on the patients of the others; the best of them is gained least over.

    Which is best is decided on the very patients that are compared, in favour of being alone.
    """
    over = {}
    for site in job.sites:
        others = [case for other in job.sites if other != site for case in by_site[other]]
        over[site] = difference(others, scheme, site)
    best = min(over, key=lambda site: over[site]["difference"])
    return {"over": over, "best_site": best, "to_pooled": difference(cases, scheme, POOLED)}


def _sets(places: Places) -> Iterator[tuple[Centers, Any]]:
    found = (places.load(RESULT) or {"sets": {}})["sets"]
    for job in CENTERS:
        yield job, found.get(job.name)


def goals(places: Places) -> Iterator[Goal]:
    """What encoded collaboration was to reach, and what it reached."""
    for job, entry in _sets(places):
        found = None if entry is None else entry["schemes"]["encoding"]
        what = f"{job.data.title}: encoded − best site alone, on the others' patients: lower end"
        low = None if found is None else found["over"][found["best_site"]]["interval"][0]
        yield what, "above 0", None if low is None else signed(low), low is not None and low > 0
        what = f"{job.data.title}: encoded − pooled raw images"
        gap = None if found is None else found["to_pooled"]["difference"]
        reached = gap is not None and gap >= -LARGEST_LOSS
        yield what, f"at least −{LARGEST_LOSS:g}", None if gap is None else signed(gap), reached


def dice_by_site(places: Places) -> str:
    """Dice of each way on each site's patients, a table for each data set."""
    return _tables(places, _dice_by_site)


def _dice_by_site(job: Centers, entry: Result) -> list[str]:
    titles = {
        **{site: f"raw images of {title} alone" for site, title in job.titles.items()},
        **SCHEMES,
        POOLED: "raw images of all sites, pooled",
    }
    tested = entry["ways"][POOLED]["on"]
    lines = head(
        f"{job.data.title}, trained on",
        *(f"{job.titles[site]}: {people(tested[site])}" for site in job.sites),
        "all of them",
    )
    for way, title in titles.items():
        scores = entry["ways"][way]
        cells = (with_range(scores["on"][site]) for site in job.sites)
        lines.append(row(title, *cells, dice(scores["all"]["dice"])))
    return lines


def gains(places: Places) -> str:
    """Together − alone on the other sites' patients, and what is lost to pooled raw images."""
    return _tables(places, _gains)


def _gains(job: Centers, entry: Result) -> list[str]:
    lines = head(f"{job.data.title}, difference", "patients", *SCHEMES)
    for site, title in job.titles.items():
        entries = [entry["schemes"][scheme]["over"][site] for scheme in SCHEMES]
        what = f"together − {title} alone"
        lines.append(row(what, f"{people(entries[0])}, of others", *map(change, entries)))
    entries = [entry["schemes"][scheme]["to_pooled"] for scheme in SCHEMES]
    lines.append(row("together − pooled", people(entries[0]), *map(change, entries)))
    return lines


def sites(places: Places) -> str:
    """Who is where, and how bright the images are."""
    return _tables(places, _site_facts)


def _site_facts(job: Centers, entry: Result) -> list[str]:
    bright = (f"brightest voxel {scale}" for scale in SCALES)
    lines = head(f"{job.data.title}, site", "images trained on", "tested", *bright)
    for site, title in job.titles.items():
        facts = entry["sites"][site]
        cells = (f"{facts[p]['cases']} of {facts[p]['patients']} patients" for p in NUMBERS)
        lines.append(row(title, *cells, *(str(facts["scales"][scale]) for scale in SCALES)))
    return lines


NUMBERS = ("train", "test")


def cost(places: Places) -> str:
    """Bytes and seconds of a case at each site, and of the fit at the server."""
    return _tables(places, _cost)


def _cost(job: Centers, entry: Result) -> list[str]:
    lines = head(f"{job.data.title}, what", "cases", "views", "MB a case", "MB", "seconds a case")
    for scheme, title in SCHEMES.items():
        fit = entry["schemes"][scheme]["fit"]
        for site, one in fit["sites"].items():
            cases, megabytes = one["cases"], one["bytes"] / 1e6
            took = None if one["seconds"] is None else one["seconds"] / cases
            sizes = (f"{megabytes / cases:.2f}", f"{megabytes:.0f}")
            what = f"{title}: {job.titles[site]}"
            lines.append(row(what, str(cases), str(fit["views"]), *sizes, dice(took, 2)))
        every = sum(one["cases"] for one in fit["sites"].values())
        took = None if fit["seconds"] is None else fit["seconds"] / every
        megabytes = sum(one["bytes"] for one in fit["sites"].values()) / 1e6
        what = f"{title}: the fit, {fit['steps']:,} steps on {fit['cores']} cores"
        lines.append(row(what, str(every), "", "", f"{megabytes:.0f}", dice(took, 2)))
    return lines


def _tables(places: Places, table: Any) -> str:
    """A table for each data set; of those that were not measured, one line."""
    parts = []
    for job, entry in _sets(places):
        missing = [f"{job.data.title}: {NOT_YET[0].lower()}{NOT_YET[1:]}"]
        parts.append("\n".join(missing if entry is None else table(job, entry)))
    return "\n\n".join(parts)
