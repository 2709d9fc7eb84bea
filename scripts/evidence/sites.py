"""Data sets of several sites, cut out of one: who is where, and whom nobody has trained on.

A cut is a folder of links in the nnU-Net layout, so that every command runs on it as it does at a
hospital. Each site is split by the default rule; all its networks train on the same cases.
"""

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evidence.jobs import HIPPOCAMPUS, RETINA, SEED, Data
from evidence.places import Places, Result
from veilseg.datasets.cases import read_case
from veilseg.datasets.layout import Case, Dataset, read_dataset
from veilseg.datasets.split import Split, split_by_patient
from veilseg.errors import InvalidDataset
from veilseg.files import write_text_whole

TABLE, DOCUMENT = "cases.csv", "dataset.json"
POOLED = "pooled"
# Where the scales of the hippocampus lie apart: bytes, some thousands, hundreds of thousands.
SCALES = {"up to 255": 255.0, "up to 10,000": 10_000.0, "more": float("inf")}


@dataclass(frozen=True)
class Centers:
    """A data set that several sites share among them, and what they train on it.

    Attributes
    ----------
    data : Data
        What is cut.
    titles : dict
        Each site's name in tables, by its name in commands. The first site trains what all begin
        with.
    site_of : callable
        The site of a row of ``cases.csv``.
    steps : int
        Of every training and of every fit.
    views : int
        Protected views of each case that leave a site.
    seed : int
    """

    data: Data
    titles: Mapping[str, str]
    site_of: Callable[[Mapping[str, str]], str]
    steps: int
    views: int = 8
    seed: int = SEED

    @property
    def name(self) -> str:
        """Of the job, and beginning of the names of all that it makes."""
        return f"centers-{self.data.name}"

    @property
    def sites(self) -> tuple[str, ...]:
        """By their names in commands."""
        return tuple(self.titles)


def _by_clinic(row: Mapping[str, str]) -> str:
    return row["site"].lower().replace("_", "-")


def _by_id(row: Mapping[str, str]) -> str:
    """All images are of one clinic, but their grey values follow the id.

    Nearly all volumes in hundreds of thousands, and most of those in bytes, are in blocks 11 to 21;
    those before and after are in some thousands, nearly all. A block counts as one patient, so that
    none is cut through to make the sites purer than they are.
    """
    block = int(row["patient"].removeprefix("block"))
    return "early" if block <= 10 else "middle" if block <= 21 else "late"


CENTERS = (
    Centers(
        RETINA,
        {"drive": "DRIVE", "chase-db1": "CHASE_DB1"},
        _by_clinic,
        RETINA.raw_steps,
    ),
    Centers(
        HIPPOCAMPUS,
        {"early": "ids to 109", "middle": "ids 114 to 219", "late": "ids from 220"},
        _by_id,
        HIPPOCAMPUS.steps,
    ),
)


def at_sites(job: Centers, places: Places) -> Places:
    """The same places with the sites' data sets, which are made if they are not there.

    Raises
    ------
    InvalidDataset
        If the data set, or what a site has of it, cannot be used: a site has no case, or no pooled
        split is that of the sites.
    """
    here = replace(places, data=places.work / "sites")
    source = read_dataset(places.data / job.data.folder)
    with (source.folder / TABLE).open(newline="", encoding="utf-8") as stream:
        site_of = {row["case"]: job.site_of(row) for row in csv.DictReader(stream)}
    splits = []
    for site in job.sites:
        own = tuple(case for case in source.cases if site_of[case.name] == site)
        if not own:
            raise InvalidDataset(f"{source.folder}: no case of {site}")
        split = split_by_patient(replace(source, cases=own))
        splits.append(split)
        for part, cases in (("", own), ("train", split.train), ("test", split.test)):
            _link(here.data / folder(job, site, part), source, {one.name: one for one in cases})
    _link(here.data / folder(job, POOLED), source, pooled(source, splits))
    return here


def folder(job: Centers, site: str, part: str = "") -> str:
    """Of a site's data set, or of its cases that are trained on or tested, among the sites'."""
    return "-".join(filter(None, (job.name, site, part)))


def pooled(source: Dataset, splits: Sequence[Split]) -> dict[str, Case]:
    """All sites' cases under names by which the default split trains on what sites train on.

    It goes by the order of names, and takes the fewest patients that are enough: those whom sites
    test are last, so that nobody trains on them, and of those by whom sites validate there are as
    many as it takes. A validation changes nothing in a training.

    Raises
    ------
    InvalidDataset
        If no number of them makes it so.
    """
    train, validation, test = (
        [case for split in splits for case in getattr(split, part)]
        for part in ("train", "validation", "test")
    )
    patients = list(dict.fromkeys(case.patient for case in validation))
    for count in range(len(patients) + 1):
        some = [case for case in validation if case.patient in patients[:count]]
        names = {
            f"{part}-{case.name}": case
            for part, cases in enumerate((train, some, test))
            for case in cases
        }
        renamed = (replace(case, name=name) for name, case in sorted(names.items()))
        split = split_by_patient(replace(source, cases=tuple(renamed)))
        if {case.name for case in split.train} == {f"0-{case.name}" for case in train}:
            return names
    raise InvalidDataset(f"{source.folder}: no pooled split trains on what the sites train on")


def facts(job: Centers, places: Places) -> Result:
    """How many cases and patients a site trains on and tests, and how bright its images are."""
    here, found = at_sites(job, places), {}
    for site in job.sites:
        whole, train, test = (
            read_dataset(here.data / folder(job, site, part)) for part in ("", "train", "test")
        )
        numbers = {
            name: {"cases": len(one.cases), "patients": len({case.patient for case in one.cases})}
            for name, one in (("train", train), ("test", test))
        }
        brightest = (np.max(read_case(case, len(whole.labels))[0].array) for case in whole.cases)
        scales = Counter(next(s for s, end in SCALES.items() if v <= end) for v in brightest)
        sha256 = whole.content_hash()
        found[site] = {**numbers, "data_sha256": sha256, "scales": {s: scales[s] for s in SCALES}}
    return found


def _link(target: Path, source: Dataset, cases: Mapping[str, Case]) -> None:
    """A data set of links to some cases of another, by their names here; as it is, it stays."""
    table = "".join(f"{name},{case.patient}\n" for name, case in sorted(cases.items()))
    table = f"case,patient\n{table}"
    links = {
        target / part / file.name.replace(case.name, name, 1): file.resolve()
        for name, case in cases.items()
        for part, files in (("imagesTr", case.images), ("labelsTr", (case.labels,)))
        for file in files
    }
    known = target / TABLE
    same = known.is_file() and known.read_text(encoding="utf-8") == table
    if same and all(link.resolve() == file for link, file in links.items()):
        return
    shutil.rmtree(target, ignore_errors=True)
    for link, file in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    shutil.copyfile(source.folder / DOCUMENT, target / DOCUMENT)
    # Last: by it a whole cut is known.
    write_text_whole(known, table)
