"""Each site alone, all together on protected pairs, and all raw images in one place: measured.

Every way is tested on every site's own test patients; what is published of it is not done again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from evidence.audits import Audit, audit
from evidence.background import run
from evidence.jobs import Training
from evidence.places import Places, Result, read, source_state
from evidence.projects import Project, fit_together
from evidence.runs import (
    VEILSEG,
    content_hash,
    duration,
    is_of,
    key_options,
    synthetic,
    train,
    trained,
)
from evidence.sites import POOLED, Centers, at_sites, facts, folder
from evidence.together import INVERTED, RESULT, SCHEMES, centers, facts_name, part_name
from veilseg.bundle import open_client_half
from veilseg.errors import InvalidDataset

# What a colluding site and the provider learn of encodings, of patients whom no site trained on.
AUDITS = {
    Audit(
        name,
        f"{job.name}-encoding",
        replace(job.data, folder=folder(job, POOLED), fold=""),
        keyed=True,
        options=("--attacks", "A10,A11,A15e,A16e"),
    ): job
    for name, job in INVERTED.items()
}


@dataclass(frozen=True)
class Way:
    """One way to a network.

    Attributes
    ----------
    name : str
        The site that trains alone, the scheme that all train together by, or ``pooled``.
    training : Training
        Of raw images; of a scheme, the first bundle, which one site trains.
    together : bool
    """

    name: str
    training: Training
    together: bool


def ways(job: Centers) -> list[Way]:
    """All that are compared; every network is trained with as many steps and the same seed.

    Encodings are keyed: sites that train together have a key that the provider has not.
    """

    def training(name: str, site: str, scheme: str = "plain") -> Training:
        data = replace(job.data, folder=folder(job, site), fold="")
        fields = f"{job.name}-{name}", data, scheme, job.steps, job.seed
        return Training(*fields, keyed=scheme == "encoding")

    first = job.sites[0]
    return [
        *(Way(site, training(site, site), together=False) for site in (*job.sites, POOLED)),
        *(Way(one, training(f"first-{one}", first, one), together=True) for one in SCHEMES),
    ]


def collaborate(job: Centers, places: Places, again: bool) -> None:
    """Train, fit and evaluate what is not published yet, and compare."""
    here = at_sites(job, places)
    places.store(facts_name(job), facts(job, places))
    for way in ways(job):
        if again or len(kept(job, way, here)) < len(job.sites):
            _measure(job, way, here, again)
    found = centers(places.load)
    if found is not None:
        places.store(RESULT, found)


def kept(job: Centers, way: Way, here: Places) -> Mapping[str, Result]:
    """Evaluations that are published and of this very run, by site; all of one bundle."""
    whole = {site: content_hash(here.data / folder(job, site)) for site in job.sites}
    fitted = {"steps": job.steps, "views": job.views, "seed": job.seed, "data_sha256": whole}
    found: dict[str, Result] = {}
    for site in job.sites:
        one = here.load(part_name(job, way.name, site))
        tested = content_hash(here.data / folder(job, site, "test"))
        if one is None or one["data_sha256"] != tested or not is_of(one, way.training, here):
            continue
        if way.together and {name: one["fit"][name] for name in fitted} != fitted:
            continue
        if all(other["bundle_id"] == one["bundle_id"] for other in found.values()):
            found[site] = one
    return found


def _measure(job: Centers, way: Way, here: Places, again: bool) -> None:
    train(way.training, here)
    key = key_options(here) if way.training.keyed else []
    bundle = trained(way.training, here) or here.bundle(way.training.name)
    about: Result = {"training": duration(way.training, here)}
    if way.together:
        name = f"{job.name}-{way.name}"
        folders = {
            part: {site: here.data / folder(job, site, part) for site in job.sites}
            for part in ("", "train")
        }
        project = Project(
            *(name, here.work / "projects" / name, bundle, folders[""], folders["train"]),
            *(job.steps, job.views, job.seed, tuple(key)),
        )
        bundle = here.bundle(name)
        about = {"fit": fit_together(project, bundle)}
    manifest = open_client_half(bundle).manifest
    known = kept(job, way, here)
    for site in job.sites:
        if not again and site in known and known[site]["bundle_id"] == manifest.bundle_id:
            continue
        # Of other patients of the same site.
        own = here.data / folder(job, site, "train")
        options = () if synthetic(manifest) else ("--references", own)
        file = here.evaluation(part_name(job, way.name, site))
        file.parent.mkdir(parents=True, exist_ok=True)
        commit = source_state()
        tested = here.data / folder(job, site, "test")
        run(*VEILSEG, "evaluate", bundle, tested, *options, *key, "--json", file)
        here.store(
            part_name(job, way.name, site), {**(read(file) or {}), **about, "commit": commit}
        )


def how_far(job: Centers, places: Places) -> str:
    """How far it is."""
    try:
        here = at_sites(job, places)
    except InvalidDataset:
        return "its data are not there"
    all_ways = ways(job)
    done = sum(len(kept(job, way, here)) for way in all_ways)
    count = len(all_ways) * len(job.sites)
    return "published" if done == count else f"{done} of {count} evaluated" if done else "waiting"


def invert(audited: Audit, places: Places, again: bool) -> None:
    """Attack what was fitted to encoded pairs, on the patients whom all sites test."""
    audit(audited, at_sites(AUDITS[audited], places), again)


INVERSIONS = {audited.name: partial(invert, audited) for audited in AUDITS}
