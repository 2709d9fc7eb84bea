"""Data sets in the nnU-Net raw layout, checked before anything long starts."""

import csv
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from veilseg.bundle import Label
from veilseg.errors import InvalidDataset

# Shares of cases, taken from the end of the id order in whole patients.
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Case:
    """One image with its labels.

    Attributes
    ----------
    name, patient : str
    images : tuple of Path
        One file per channel.
    labels : Path
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    labels: Path


@dataclass(frozen=True)
class Dataset:
    """A folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``; cases in id order."""

    folder: Path
    name: str
    labels: tuple[Label, ...]
    channels: tuple[str, ...]
    cases: tuple[Case, ...]

    def content_hash(self) -> str:
        """SHA-256 over every image and label file: names the exact data a result came from."""
        digest = hashlib.sha256()
        for case in self.cases:
            for path in (*case.images, case.labels):
                digest.update(path.name.encode())
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class Split:
    """Cases by use; no patient is in two of them."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]


def read_dataset(folder: Path) -> Dataset:
    """Read and check a data set.

    Raises
    ------
    InvalidDataset
        If ``dataset.json`` is missing or malformed, an image or label file is missing, labels
        are not consecutive from 0, or ``cases.csv`` does not name every case.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise InvalidDataset(f"{folder}: no dataset.json: not a data set in the nnU-Net layout")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        channels = tuple(
            fields["channel_names"][str(i)] for i in range(len(fields["channel_names"]))
        )
        ending = str(fields["file_ending"])
        pairs = sorted((int(value), str(name)) for name, value in fields["labels"].items())
        name = str(fields.get("name", folder.name))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidDataset(f"{path}: malformed: {type(error).__name__}: {error}") from error
    if [value for value, _ in pairs] != list(range(len(pairs))) or len(pairs) < 2:
        raise InvalidDataset(f"{path}: labels: must be 0 (background), 1, 2, … without gaps")
    names = sorted(
        file.name.removesuffix(f"_0000{ending}")
        for file in (folder / "imagesTr").glob(f"*_0000{ending}")
    )
    if not names:
        raise InvalidDataset(f"{folder}: imagesTr: no image ends in _0000{ending}")
    patients = _patients(folder, names)
    cases = []
    for case in names:
        images = tuple(
            folder / "imagesTr" / f"{case}_{index:04d}{ending}" for index in range(len(channels))
        )
        labels = folder / "labelsTr" / f"{case}{ending}"
        for file in (*images, labels):
            if not file.is_file():
                raise InvalidDataset(f"{file}: missing for case {case}")
        cases.append(Case(case, patients[case], images, labels))
    return Dataset(folder, name, tuple(Label(v, n) for v, n in pairs), channels, tuple(cases))


def split_by_patient(dataset: Dataset) -> Split:
    """Split whole patients by id: test from the end, validation before it, training the rest.

    Patients are ordered by their first case id; each share is the smallest number of patients
    that reaches it. The rule needs no seed and no list that could go astray.

    Raises
    ------
    InvalidDataset
        If there are fewer than three patients.
    """
    order = list(dict.fromkeys(case.patient for case in dataset.cases))
    if len(order) < 3:
        raise InvalidDataset(
            f"{dataset.folder}: {len(order)} patients: training, validation and test need three"
        )
    count = Counter(case.patient for case in dataset.cases)
    chosen: dict[str, set[str]] = {}
    for use, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        taken: set[str] = set()
        keep = 2 if use == "test" else 1
        while len(order) > keep and sum(count[p] for p in taken) < share * len(dataset.cases):
            taken.add(order.pop())
        chosen[use] = taken
    groups: dict[str, list[Case]] = {"train": [], "validation": [], "test": []}
    for case in dataset.cases:
        use = next((use for use, taken in chosen.items() if case.patient in taken), "train")
        groups[use].append(case)
    return Split(*(tuple(groups[use]) for use in ("train", "validation", "test")))


def _patients(folder: Path, names: list[str]) -> dict[str, str]:
    """Patient of each case by ``cases.csv``; without one, each case is its own patient."""
    path = folder / "cases.csv"
    if not path.is_file():
        return {name: name for name in names}
    try:
        # Spreadsheets put a byte order mark first.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (ValueError, csv.Error) as error:
        raise InvalidDataset(f"{path}: not a table: {error}") from error
    if not rows or not {"case", "patient"} <= rows[0].keys():
        raise InvalidDataset(f"{path}: needs the columns case and patient")
    patients = {row["case"]: row["patient"] for row in rows}
    missing = [name for name in names if not patients.get(name)]
    if missing:
        raise InvalidDataset(f"{path}: no patient for case {missing[0]}")
    return patients
