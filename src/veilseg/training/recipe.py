"""What a run is tuned by; docs/experiments.md says what was tried, on validation patients."""

from dataclasses import dataclass
from typing import Literal

from veilseg.errors import WrongUsage

Unmixing = Literal["learned", "algebraic"]


@dataclass(frozen=True)
class Recipe:
    """Tuning of a run; part of what defines it.

    Attributes
    ----------
    learning_rate : float
        At the end of the warm-up.
    unmixing : {"learned", "algebraic"}
        Mixup-Privacy with its unmixing network, or the baseline without: ``L(S(z), m)`` alone.
    unmixing_weight : float
        λ of ``L(S(z), m) + λ·L(D(S(z), y_r, r, a), y)``.
    coefficient_range : (low, high)
        The mixing coefficient is drawn from here.
    labelled_share : float
        Examples whose reference is a labelled case; the others' is synthetic.
    cropped_share : float
        First steps that see parts of a tile, where tiles are large.
    """

    learning_rate: float = 8e-3
    unmixing: Unmixing = "learned"
    unmixing_weight: float = 4.0
    coefficient_range: tuple[float, float] = (0.45, 0.55)
    labelled_share: float = 0.1
    cropped_share: float = 0.9


def parse_range(text: str) -> tuple[float, float]:
    """``LOW:HIGH`` of the mixing coefficient.

    Raises
    ------
    WrongUsage
        Unless 0 < LOW ≤ HIGH < 1.
    """
    try:
        low, high = map(float, text.split(":"))
    except ValueError as error:
        raise WrongUsage(f"--coefficients {text}: give LOW:HIGH, as 0.4:0.6") from error
    if not 0 < low <= high < 1:
        raise WrongUsage(f"--coefficients {text}: needs 0 < LOW ≤ HIGH < 1")
    return low, high
