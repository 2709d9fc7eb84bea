"""How large what was found is."""

import numpy as np

from veilseg.bundle import ClientManifest
from veilseg.imaging.volume import LabelMap


def volumes_ml(labels: LabelMap, manifest: ClientManifest) -> dict[str, float]:
    """Volume of each foreground class in millilitres; none in 2D."""
    quantity, found = sizes(labels, manifest)
    return found if quantity == "volumes_ml" else {}


def sizes(labels: LabelMap, manifest: ClientManifest) -> tuple[str, dict[str, float]]:
    """Size of each foreground class, and what it is.

    Returns
    -------
    str
        ``volumes_ml`` in 3D, ``areas_mm2`` in 2D, or ``areas_px`` where the unit is the pixel.
    dict
        By name of the class.
    """
    counts = np.bincount(labels.array.ravel(), minlength=len(manifest.labels))
    geometry = labels.geometry
    if geometry.ndim == 3:
        quantity, each = "volumes_ml", geometry.voxel_volume_ml
    else:
        quantity = "areas_px" if geometry.unit == "pixel" else "areas_mm2"
        each = geometry.pixel_area
    found = {
        label.name: float(counts[label.value]) * each for label in manifest.labels if label.value
    }
    return quantity, found
