"""DICOM series as scanners write them, made of arrays and affines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pydicom.valuerep import DSfloat

PATIENT = "Grünewald^Änne"
Change = Callable[[list[FileDataset]], object]


def oblique(seed: int = 0, spacing: Sequence[float] = (0.9, 1.3, 2.5)) -> np.ndarray:
    """A right-handed grid turned about all axes, to RAS millimetres."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn[:, 2] *= np.linalg.det(turn)
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = rng.uniform(-90, 90, 3)
    return affine


def slices(
    array: np.ndarray,
    affine: np.ndarray,
    syntax: str = ExplicitVRLittleEndian,
    slopes: Sequence[float] = (),
    intercept: float = 0.0,
    space: str | None = None,
    study: str | None = None,
) -> list[FileDataset]:
    """One dataset per slice of an (X, Y, Z) array of integers, in order of the third axis.

    Values are stored as they are; with ``slopes``, one per slice, they mean something else.
    """
    study, series = study or generate_uid(), generate_uid()
    space = space or generate_uid()
    made = []
    for k in range(array.shape[2]):
        dataset = _header(MRImageStorage, syntax, array.dtype, array.shape)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID = space
        dataset.InstanceNumber = k + 1
        for name, value in _place(affine, k).items():
            setattr(dataset, name, value)
        if len(slopes):
            dataset.RescaleSlope, dataset.RescaleIntercept = _ds([slopes[k], intercept])
        _set_pixels(dataset, array[:, :, k].T)
        made.append(dataset)
    return made


def enhanced(array: np.ndarray, affine: np.ndarray, order: Sequence[int]) -> FileDataset:
    """One multi-frame file with its slices in any order."""
    dataset = _header(EnhancedMRImageStorage, ExplicitVRLittleEndian, array.dtype, array.shape)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.NumberOfFrames = len(order)
    first = _place(affine, 0)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = first["ImageOrientationPatient"]
    measures.PixelSpacing, measures.SliceThickness = first["PixelSpacing"], first["SliceThickness"]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k in order:
        group, position, rescale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _place(affine, k)["ImagePositionPatient"]
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -3, "US"
        group.PlanePositionSequence = [position]
        group.PixelValueTransformationSequence = [rescale]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    _set_pixels(dataset, array.transpose(2, 1, 0)[list(order)])
    return dataset


def write(folder: Path, datasets: Sequence[FileDataset], seed: int = 0, ending: str = ".dcm"):
    """Write files whose names and instance numbers say nothing of where slices lie."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(datasets))
    for number, dataset in zip(order, datasets, strict=True):
        dataset.InstanceNumber = int(number) + 1
        dataset.save_as(folder / f"IM{number:04d}{ending}", enforce_file_format=True)
    return folder


def write_series(folder: Path, array: np.ndarray, affine: np.ndarray, **options: Any) -> Path:
    """:func:`slices`, written to a folder."""
    return write(folder, slices(array, affine, **options))


def _header(kind: str, syntax: str, dtype: Any, shape: Sequence[int]) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = syntax
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    dataset = FileDataset(
        None, {}, b"\0" * 128, meta, is_implicit_VR=implicit, is_little_endian=little
    )
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    dataset.Modality = "MR"
    dataset.PatientName, dataset.PatientID = PATIENT, "secret-id-17"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19700102", "F", "055Y"
    dataset.PatientComments = "allergic"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260102", "101112", "S1"
    dataset.StudyDescription = "head for a reason"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "A17", "Doctor^Who"
    dataset.InstitutionName, dataset.StationName = "A clinic", "MR1"
    dataset.SeriesNumber = 3
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Columns, dataset.Rows = shape[:2]
    bits = 8 * np.dtype(dtype).itemsize
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(np.dtype(dtype).kind == "i")
    return dataset


def _place(affine: np.ndarray, k: int) -> dict[str, Any]:
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    columns, rows, step = (lps[:3, axis] for axis in range(3))
    lengths = [np.linalg.norm(axis) for axis in (columns, rows, step)]
    return {
        "ImagePositionPatient": _ds(lps[:3, 3] + k * step),
        "ImageOrientationPatient": _ds([*(columns / lengths[0]), *(rows / lengths[1])]),
        "PixelSpacing": _ds([lengths[1], lengths[0]]),
        "SliceThickness": _ds([lengths[2]])[0],
    }


def _ds(values: Any) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def _set_pixels(dataset: FileDataset, rows: np.ndarray) -> None:
    little = dataset.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
    stored = rows.astype(rows.dtype.newbyteorder("<" if little else ">"))
    dataset.add_new(0x7FE00010, "OW" if stored.itemsize > 1 else "OB", stored.tobytes())
