"""Three hospitals' labelled images, generated: one organ in two parts, three scanners."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

SHAPE = (40, 40, 32)
LABELS = {"background": 0, "cortex": 1, "core": 2}
# Grey values of background tissue, cortex and core; blur in voxels; noise.
SCANNERS = {
    "north": ((0.30, 0.55, 0.80), 0.6, 0.03),
    "south": ((0.45, 0.80, 0.60), 0.9, 0.05),
    "coast": ((0.20, 0.35, 0.65), 1.2, 0.04),
}


def make(folder: Path, hospital: str, patients: int, seed: int = 0) -> Path:
    """A data set in the nnU-Net raw layout.

    Parameters
    ----------
    folder : Path
        Made here.
    hospital : str
        One of :data:`SCANNERS`.
    patients, seed : int

    Returns
    -------
    Path
        The folder.
    """
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    document = {
        "name": hospital,
        "channel_names": {"0": "MR"},
        "labels": LABELS,
        "file_ending": ".nii.gz",
        "numTraining": patients,
    }
    (folder / "dataset.json").write_text(json.dumps(document, indent=2) + "\n")
    with (folder / "cases.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["case", "patient", "site"])
        for number in range(patients):
            name = f"{hospital}{number:03d}"
            rng = np.random.default_rng([seed, sum(hospital.encode()), number])
            image, labels = _patient(rng, hospital)
            for part, array, ending in (
                ("imagesTr", image, "_0000"),
                ("labelsTr", labels, ""),
            ):
                file = folder / part / f"{name}{ending}.nii.gz"
                nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), file)
            rows.writerow([name, name, hospital])
    return folder


def _patient(rng: Generator, hospital: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    greys, blur, noise = SCANNERS[hospital]
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).astype(np.float64)
    # Nobody's organ is an ellipsoid: the places are bent first.
    bent = [ndimage.gaussian_filter(rng.standard_normal(SHAPE), 6) for _ in SHAPE]
    places += np.stack([3 * one / np.abs(one).max() for one in bent])
    centre = np.array(SHAPE) / 2 + rng.uniform(-3, 3, 3)
    radii = np.array([11.0, 9.0, 8.0]) * rng.uniform(0.85, 1.15, 3)
    distance = np.sqrt((((places.T - centre) / radii) ** 2).sum(axis=-1)).T
    labels = (distance < 1).astype(np.uint8) + (distance < rng.uniform(0.5, 0.65))
    body = np.sqrt((((places.T - np.array(SHAPE) / 2) / (np.array(SHAPE) / 2)) ** 2).sum(-1)).T < 1
    image = np.choose(labels, greys) * body
    image = ndimage.gaussian_filter(image, blur)
    drift = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 10)
    image = image * (1 + 0.1 * drift / np.abs(drift).max()) + noise * rng.standard_normal(SHAPE)
    return (1000 * np.clip(image, 0, None) * body).astype(np.float32), labels.astype(np.uint8)
