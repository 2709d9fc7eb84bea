"""Builders of small images."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from veilseg.imaging.volume import Geometry, Volume


@pytest.fixture
def write_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Write an array as NIfTI with exactly the given affine, however unusable."""

    def write(
        array: NDArray[np.generic],
        affine: NDArray[np.float64] | None = None,
        name: str = "x.nii.gz",
    ) -> Path:
        header = nib.Nifti1Header()
        header.set_data_dtype(array.dtype)
        header.set_sform(np.eye(4) if affine is None else affine, code=1)
        # Without an affine of its own, the image keeps the header's.
        image = nib.Nifti1Image(array, None, header)
        path = tmp_path / name
        nib.save(image, path)
        return path

    return write


@pytest.fixture
def disk_full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, writing a file stops half way, as the operating system has it."""

    def write_half(path: Path, content: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(Path, "write_bytes", write_half)


@pytest.fixture(scope="session")
def make_brain() -> Callable[..., Volume]:
    """An ellipsoid of three tissues in an empty field, with noise: a skull-stripped T1 in small."""

    def build(
        seed: int = 0, spacing_mm: float = 4.0, radius_mm: float = 80.0, contrast: float = 1.0
    ) -> Volume:
        rng = np.random.default_rng(seed)
        size = int(260 / spacing_mm)
        place = (np.indices((size, size, size)) - (size - 1) / 2) * spacing_mm
        semi = radius_mm * np.array([0.8, 1.0, 0.75]) * rng.uniform(0.95, 1.05, 3)
        distance = np.sqrt(((place / semi.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))
        tissues = np.select([distance < 0.3, distance < 0.75, distance < 1], [0.25, 0.85, 0.6], 0)
        noise = rng.normal(0, 0.04, tissues.shape)
        array = np.where(tissues > 0, np.clip(tissues * contrast + noise, 0.02, 1), 0)
        affine = np.diag([spacing_mm] * 3 + [1.0])
        return Volume(array[None].astype(np.float32), Geometry(array.shape, affine))

    return build
