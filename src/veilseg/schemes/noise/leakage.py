"""What noise leaves of an image, in closed form. Apart: a site does not wait for it to load."""

import math

from scipy.optimize import brentq
from scipy.stats import norm

# Of the (ε, δ) that is stated beside a strength.
DELTA = 1e-5


def hidden_share(strength: float, deviation: float, proxies: int = 1) -> float:
    """Share of the image's variance that the best linear attacker leaves hidden.

    ``n / (s² + n)`` with ``n = σ² / K``, for a pattern of standard deviation s at one frequency and
    K proxies with noise of their own. What is coarse has a large s: hardly any of it is hidden.

    Parameters
    ----------
    strength : float
        σ.
    deviation : float
        s.
    proxies : int
        K.
    """
    left = strength**2 / proxies
    return left / (deviation**2 + left)


def epsilon(strength: float, values: int, delta: float = DELTA) -> float:
    """The ε of (ε, δ) local differential privacy that this noise gives a whole image.

    By the analytic Gaussian mechanism; the least ε for which
    ``Φ(Δ/2σ − εσ/Δ) − e^ε Φ(−Δ/2σ − εσ/Δ) ≤ δ``, where two images in [0, 1] differ by at most
    ``Δ = √values``.

    Parameters
    ----------
    strength : float
        σ.
    values : int
        Of the image: voxels times channels.
    delta : float

    References
    ----------
    Balle and Wang, ICML 2018, arXiv:1805.06530.
    """
    ratio = math.sqrt(values) / strength

    def excess(eps: float) -> float:
        first = norm.cdf(ratio / 2 - eps / ratio)
        # In logarithms: e^ε alone is no number for the ε that noise of a useful strength gives.
        second = math.exp(min(0.0, eps + float(norm.logcdf(-ratio / 2 - eps / ratio))))
        return float(first) - second - delta

    if excess(0.0) <= 0:
        return 0.0
    # At this ε even the first term is below δ.
    most = ratio * (ratio / 2 - float(norm.ppf(delta)))
    return float(brentq(excess, 0.0, most))
