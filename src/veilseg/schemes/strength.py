"""How strongly comparators protect unless told otherwise."""

from typing import Final

DEFAULT_STRENGTHS: Final = {
    # Standard deviation, of intensities in [0, 1].
    "noise": 0.3,
    # Root mean square of the velocity, as a share of the image's side.
    "deformation": 0.04,
    # Weight of the discriminator's loss against the segmentation's.
    "privacy_net": 1.0,
}


def variant_of(strength: float) -> str:
    """As a run of training names it."""
    return f"strength {strength:g}"
