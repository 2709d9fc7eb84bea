"""Small data sets on disk and small cases."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from veilseg.datasets.cases import PreparedCase

SHAPE = (16, 16, 16)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """A data set in the nnU-Net layout; one file per channel and case."""

    def build(
        patients: Sequence[str] = ("a", "b", "c"), channels: int = 1, csv: bool = True
    ) -> Path:
        folder = tmp_path / "dataset"
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True)
        fields = {
            "name": "small",
            "channel_names": {str(i): f"channel {i}" for i in range(channels)},
            "labels": {"background": 0, "core": 1},
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(fields))
        rows = ["case,patient"]
        for number, patient in enumerate(patients):
            rng = np.random.default_rng(number)
            name = f"case{number:03d}"
            for channel in range(channels):
                image = nib.Nifti1Image(rng.random((8, 9, 10), dtype=np.float32), np.eye(4))
                nib.save(image, folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
            labels = rng.integers(0, 2, (8, 9, 10)).astype(np.uint8)
            nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "labelsTr" / f"{name}.nii.gz")
            rows.append(f"{name},{patient}")
        if csv:
            (folder / "cases.csv").write_text("\n".join(rows) + "\n")
        return folder

    return build


@pytest.fixture(scope="session")
def cases() -> list[PreparedCase]:
    """Five prepared cases: noise around a brighter, labelled core."""

    def case(seed: int) -> PreparedCase:
        rng = np.random.default_rng(seed)
        distance = np.linalg.norm(
            np.indices(SHAPE) - 7.5 + rng.uniform(-2, 2, (3, 1, 1, 1)), axis=0
        )
        labels = (distance < 4).astype(np.uint8)
        image = np.clip(0.3 + 0.4 * labels + rng.normal(0, 0.05, SHAPE), 0.01, 1)
        image = np.where(distance < 7, image, 0)[None].astype(np.float32)
        return PreparedCase(f"case{seed}", f"patient{seed}", image, labels)

    return [case(seed) for seed in range(5)]
