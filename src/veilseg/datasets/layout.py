"""Data sets in the nnU-Net raw layout, checked before anything long starts."""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from veilseg.bundle import Label
from veilseg.errors import InvalidDataset
from veilseg.imaging import formats

# Longest texts that DICOM has for a code's value, its scheme and its meaning.
CODE_FIELDS = {"value": 16, "scheme": 16, "meaning": 64}


@dataclass(frozen=True)
class Case:
    """One image with its labels.

    Attributes
    ----------
    name, patient : str
    images : tuple of Path
        One file per channel, or one RGB file.
    labels : Path
    channels, spatial_dims : int
        What the data set promises of the image; checked when it is read.
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    labels: Path
    channels: int = 1
    spatial_dims: int = 3


@dataclass(frozen=True)
class Dataset:
    """A folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``; cases in id order.

    Its first image decides whether it is 2D or 3D, and whether one file holds all channels.
    """

    folder: Path
    name: str
    labels: tuple[Label, ...]
    channels: tuple[str, ...]
    cases: tuple[Case, ...]
    spatial_dims: int = 3

    def content_hash(self) -> str:
        """SHA-256 over every image and label file: names the exact data a result came from."""
        digest = hashlib.sha256()
        for case in self.cases:
            for path in (*case.images, case.labels):
                digest.update(path.name.encode())
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def patients_hash(self) -> str:
        """SHA-256 over who each case is of: the same data are split otherwise if that changes."""
        told = "".join(f"{case.name},{case.patient}\n" for case in self.cases)
        return hashlib.sha256(told.encode()).hexdigest()


def read_dataset(folder: Path) -> Dataset:
    """Read and check a data set.

    Raises
    ------
    InvalidDataset
        If ``dataset.json`` is missing or malformed, an image or label file is missing, labels
        are not consecutive from 0, a code is none or of no label, ``cases.csv`` does not name every
        case, or the first image has other channels than ``dataset.json`` names.
    InvalidImage
        If the header of the first image cannot be read; no other image is opened.
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
    codes = _codes(
        f"{path}: label_codes", fields.get("label_codes", {}), [name for _, name in pairs]
    )
    if ending not in formats.ENDINGS:
        raise InvalidDataset(
            f"{path}: file_ending: {ending} is none of {', '.join(formats.ENDINGS)}"
        )
    names = sorted(
        file.name.removesuffix(f"_0000{ending}")
        for file in (folder / "imagesTr").glob(f"*_0000{ending}")
    )
    if not names:
        raise InvalidDataset(f"{folder}: imagesTr: no image ends in _0000{ending}")
    patients = _patients(folder, names)
    first = folder / "imagesTr" / f"{names[0]}_0000{ending}"
    held, geometry = formats.read_header(first)
    if held not in (1, len(channels)):
        raise InvalidDataset(
            f"{first}: holds {held} channels; dataset.json names {len(channels)}: "
            f"{', '.join(channels)}"
        )
    files_each = len(channels) // held
    cases = []
    for case in names:
        images = tuple(
            folder / "imagesTr" / f"{case}_{index:04d}{ending}" for index in range(files_each)
        )
        labels = folder / "labelsTr" / f"{case}{ending}"
        for file in (*images, labels):
            if not file.is_file():
                raise InvalidDataset(f"{file}: missing for case {case}")
        cases.append(Case(case, patients[case], images, labels, len(channels), len(geometry.shape)))
    return Dataset(
        folder,
        name,
        tuple(Label(value, label, codes.get(label)) for value, label in pairs),
        channels,
        tuple(cases),
        len(geometry.shape),
    )


def with_codes(dataset: Dataset, file: Path) -> Dataset:
    """A data set whose labels have the codes of a file, in place of those of ``dataset.json``.

    Parameters
    ----------
    dataset : Dataset
    file : Path
        JSON as ``label_codes`` in ``dataset.json``. It is no part of the data set's hash.

    Raises
    ------
    InvalidDataset
        If it cannot be read, or a code is none or of no label.
    """
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidDataset(f"{file}: no file of label codes: {error}") from error
    codes = _codes(str(file), given, [label.name for label in dataset.labels])
    labels = tuple(replace(label, code=codes.get(label.name)) for label in dataset.labels)
    return replace(dataset, labels=labels)


def _codes(where: str, given: Any, labels: Sequence[str]) -> dict[str, dict[str, str]]:
    """Code of each label that has one, as DICOM codes are: value, scheme and meaning."""
    if not isinstance(given, dict):
        raise InvalidDataset(f"{where}: must name labels with their codes")
    for label, code in given.items():
        if label not in labels:
            raise InvalidDataset(f"{where}: {label}: no such label")
        if not isinstance(code, dict) or code.keys() != CODE_FIELDS.keys():
            raise InvalidDataset(
                f"{where}: {label}: needs {', '.join(CODE_FIELDS)} and nothing else"
            )
        for name, longest in CODE_FIELDS.items():
            text = code[name]
            if not isinstance(text, str) or not text.strip() or len(text) > longest:
                raise InvalidDataset(
                    f"{where}: {label}: {name}: must be text of 1 to {longest} letters"
                )
            if "\\" in text:
                raise InvalidDataset(f"{where}: {label}: {name}: has a backslash")
    return given


def _patients(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Patient of each case by ``cases.csv``; without one, each case is its own patient."""
    path = folder / "cases.csv"
    return read_patients(path, names) if path.is_file() else {name: name for name in names}


def read_patients(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Patient of each case, from a table with the columns ``case`` and ``patient``.

    Parameters
    ----------
    path : Path
        CSV in UTF-8; further columns and cases do not matter.
    names : sequence of str
        Cases that the table has to name.

    Raises
    ------
    InvalidDataset
        If it cannot be read, lacks a column, or names no patient of a case.
    """
    try:
        # Spreadsheets put a byte order mark first.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise InvalidDataset(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise InvalidDataset(f"{path}: not a table: {error}") from error
    if not rows or not {"case", "patient"} <= rows[0].keys():
        raise InvalidDataset(f"{path}: needs the columns case and patient")
    patients = {row["case"]: row["patient"] for row in rows}
    missing = [name for name in names if not patients.get(name)]
    if missing:
        raise InvalidDataset(f"{path}: no patient for case {missing[0]}")
    return patients
