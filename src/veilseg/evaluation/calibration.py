"""Is a class that is given with 90 % right in nine of ten voxels, and do errors look unsure?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilseg.client.uncertainty import distribution, predictive_entropy
from veilseg.errors import GeometryMismatch
from veilseg.payload import Float32Array

CONFIDENCE_BINS = 15
# Voxels whose entropy falls into one bin count as tied: fine enough to cost no third decimal.
ENTROPY_BINS = 4096


class Calibration:
    """Confidence against accuracy, pooled over the voxels of cases that are added one by one.

    Counted are voxels where truth or prediction is foreground; the wide, easy background would
    hide all else. So voxels taken for background enter only where that is wrong, and even
    probabilities that are right on the whole image show some overconfidence at their borders.
    """

    def __init__(self) -> None:
        self._voxels = np.zeros(CONFIDENCE_BINS, dtype=np.int64)
        self._confidence = np.zeros(CONFIDENCE_BINS)
        self._correct = np.zeros(CONFIDENCE_BINS, dtype=np.int64)
        self._entropy_of_right = np.zeros(ENTROPY_BINS, dtype=np.int64)
        self._entropy_of_wrong = np.zeros(ENTROPY_BINS, dtype=np.int64)

    def add(self, probabilities: Float32Array, truth: NDArray[np.integer]) -> None:
        """Count one case.

        Parameters
        ----------
        probabilities : ndarray, shape (K, X, Y, Z) or (K, X, Y), float32
        truth : ndarray of int, shape (X, Y, Z) or (X, Y)
            Labels on the same grid.

        Raises
        ------
        GeometryMismatch
            If the shapes differ.
        """
        if probabilities.shape[1:] != truth.shape:
            raise GeometryMismatch(
                f"probabilities of shape {probabilities.shape[1:]} for a truth of {truth.shape}"
            )
        region = (truth > 0) | (probabilities.argmax(axis=0) > 0)
        shares = distribution(probabilities[:, region])
        confidence = shares.max(axis=0)
        correct = shares.argmax(axis=0) == truth[region]
        bins = _bins(confidence, CONFIDENCE_BINS)
        self._voxels += np.bincount(bins, minlength=CONFIDENCE_BINS)
        self._confidence += np.bincount(bins, confidence, minlength=CONFIDENCE_BINS)
        self._correct += np.bincount(bins[correct], minlength=CONFIDENCE_BINS)
        entropy = _bins(predictive_entropy(shares), ENTROPY_BINS)
        self._entropy_of_right += np.bincount(entropy[correct], minlength=ENTROPY_BINS)
        self._entropy_of_wrong += np.bincount(entropy[~correct], minlength=ENTROPY_BINS)

    def result(self) -> dict[str, Any]:
        """Expected calibration error with its bins, and how well entropy finds errors.

        Returns
        -------
        dict
            ``ece``: mean over voxels of how far accuracy and confidence of their bin lie apart.
            ``bins``: 15 of equal width, each with mean ``confidence``, ``accuracy`` and
            ``voxels``. ``error_auroc``: how likely a wrong voxel has more entropy than a right
            one, ties counted half. None where there are no voxels to say so.
        """
        voxels = np.maximum(self._voxels, 1)
        confidence, accuracy = self._confidence / voxels, self._correct / voxels
        total = int(self._voxels.sum())
        gap = float((np.abs(accuracy - confidence) * self._voxels).sum())
        return {
            "ece": round(gap / total, 4) if total else None,
            "error_auroc": self._error_auroc(),
            "bins": [
                {
                    "confidence": round(float(sure), 4) if count else None,
                    "accuracy": round(float(right), 4) if count else None,
                    "voxels": int(count),
                }
                for sure, right, count in zip(confidence, accuracy, self._voxels, strict=True)
            ],
        }

    def _error_auroc(self) -> float | None:
        right, wrong = self._entropy_of_right, self._entropy_of_wrong
        pairs = float(wrong.sum()) * float(right.sum())
        if not pairs:
            return None
        below = np.cumsum(right) - right / 2
        return round(float((wrong * below).sum()) / pairs, 4)


def _bins(values: Float32Array, count: int) -> NDArray[np.intp]:
    """Number of the equal-width bin of [0, 1] that each value lies in; 1 lies in the last."""
    return np.minimum((values * count).astype(np.intp), count - 1)
