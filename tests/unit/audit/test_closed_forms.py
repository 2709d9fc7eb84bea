"""What may be said of mixing without any experiment, each derived and checked.

Real images are those of the small world (``conftest.py``): smooth, not Gaussian, aligned.
"""

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import brentq
from scipy.stats import norm

from veilseg.audit.laws import MixtureLaw
from veilseg.audit.linear import LinearAttacker
from veilseg.audit.reading_off import read_off
from veilseg.audit.scene import on_the_wire
from veilseg.training.examples import one_hot

COEFFICIENTS = (0.2, 0.35, 0.5, 0.65, 0.9)
VOXELS, PAIRS = 64, 4000


def gaussian(seed: int, pairs: int = PAIRS) -> np.ndarray:
    """Centred images of variance 1 whose voxels are independent: (pairs, 1, VOXELS, 1)."""
    shape = (pairs, 1, VOXELS, 1)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def left_by(attacker: LinearAttacker, images: np.ndarray, proxies: np.ndarray) -> float:
    """Share of the images' variance that the attacker's guess does not explain."""
    return float(((images - attacker.guess(proxies)) ** 2).mean() / images.var(axis=0).mean())


@pytest.mark.parametrize("a", COEFFICIENTS)
def test_best_linear_attacker_leaves_one_half_at_a_half(a):
    """``z = a·x + b·r`` with ``b = 1 − a``; x, r centred, uncorrelated, of variance v.

    The best slope is ``β = Cov(x, z) / Var(z) = a·v / (a²·v + b²·v)``. What stays of x is
    ``Var(x − β·z) = v·(1 − a² / (a² + b²)) = v·b² / (a² + b²)``: one half at a = ½.

    Tolerance: the share is a mean over 4000·64 squares, each of relative spread √2, so that its
    standard deviation is below 0.003 of itself; four of them.
    """
    x, r = gaussian(0), gaussian(1)
    z = (a * x + (1 - a) * r).astype(np.float32)
    left = left_by(LinearAttacker.of(x, z), x, z)
    assert left == pytest.approx((1 - a) ** 2 / (a**2 + (1 - a) ** 2), rel=0.012, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_several_mixtures_leave_one_part_in_k_plus_one(count):
    """The mean of K mixtures is ``½·x + ½·r̄`` with ``Var(r̄) = v / K``.

    As above with b² = ¼/K: ``(¼/K) / (¼ + ¼/K) = 1 / (K + 1)``.
    """
    x = gaussian(0)
    z = np.mean([0.5 * x + 0.5 * gaussian(10 + k) for k in range(count)], axis=0, dtype=np.float32)
    left = left_by(LinearAttacker.of(x, z), x, z)
    assert left == pytest.approx(1 / (count + 1), rel=0.012)


def test_aligned_images_leak_more_than_the_bound_for_uncorrelated_ones(mixup, people):
    """x and r share anatomy: their means are alike, and the mean costs an attacker nothing.

    So of the whole energy of an image, not only of its variance, far less than half stays.
    """
    law = mixup.law()
    seen = mixup.simulate(law, people, answered=False)
    x, z = (np.stack([getattr(one, name) for one in seen]) for name in ("image", "proxy"))
    attacker = LinearAttacker.of(x, z)
    assert ((x - attacker.guess(z)) ** 2).mean() / (x**2).mean() < 0.25


@pytest.mark.parametrize("a", COEFFICIENTS)
def test_whoever_knows_the_reference_has_the_patient(make_scene, people, a):
    """``x = (z − (1 − a)·r) / a``; on the wire z is off by 2⁻¹² at the most, x by that over a."""
    scene = make_scene("mixup")
    (one,) = scene.simulate(scene.law(a), people[:1], answered=False)
    found = (one.proxy - (1 - a) * one.reference) / a
    shown = one.image > 0  # elsewhere the patient's own fill is found
    assert np.abs(found - one.image)[shown].max() <= 2.0**-12 / a + 1e-5


def test_unknown_coefficient_is_one_regression(mixup, people):
    """Grain of x and of r is uncorrelated, so ``⟨z, r⟩ = (1 − a)·⟨r, r⟩`` of what is left of both
    after smoothing.

    Tolerance: ``a·⟨x, r⟩ / ⟨r, r⟩`` is about a / √256 for images of 256 voxels; four of them.
    """
    (one,) = mixup.simulate(mixup.law(0.4), people[:1], answered=False)
    z, r = (image[0] - ndimage.gaussian_filter(image[0], 1) for image in (one.proxy, one.reference))
    assert 1 - (z * r).sum() / (r * r).sum() == pytest.approx(0.4, abs=4 * 0.4 / 16)


def test_a_gallery_of_candidates_leaves_its_logarithm(mixup, people):
    """With a known, every candidate r gives exactly one x: ``H(x | z) = H(r | z) ≤ log₂ N``.

    So of N candidates N patients are left, all different; 1000 candidates leave under 10 bits.
    """
    law = mixup.law()
    assert isinstance(law, MixtureLaw)
    (one,) = mixup.simulate(law, people[:1], answered=False)
    references = [law.reference(people[0], np.random.default_rng(seed)).image for seed in range(50)]
    left = {((one.proxy - 0.5 * r) / 0.5).tobytes() for r in references}
    assert len(left) == len(references)


def test_two_coefficients_for_one_pair_are_solved(people):
    """Two equations, two unknowns: never redraw a alone."""
    x, r = people[0].image, people[1].image
    first, second = 0.5, 0.6
    z = [on_the_wire(np.float32(a) * x + np.float32(1 - a) * r) for a in (first, second)]
    # z₁·(1 − a₂) − z₂·(1 − a₁) = x·(a₁ − a₂)
    found = (z[0] * (1 - second) - z[1] * (1 - first)) / (first - second)
    # Each z is off by 2⁻¹², weighed by 0.4 and 0.5 over 0.1.
    assert np.abs(found - x).max() <= 9 * 2.0**-12 + 1e-5


def test_one_reference_for_two_scans_leaks_their_difference(people):
    """``z₁ − z₂ = a·(x₁ − x₂)``: what changed is shown exactly."""
    x, later, r = (person.image for person in people[:3])
    z = [on_the_wire(0.5 * image + 0.5 * r) for image in (x, later)]
    assert np.abs((z[0] - z[1]) / 0.5 - (x - later)).max() <= 4 * 2.0**-12 + 1e-6


@pytest.mark.parametrize("a", [0.3, 0.45, 0.55, 0.7, 0.9])
def test_an_ideal_answer_gives_the_mask_away_unless_a_is_one_half(people, a):
    """Levels {0, 1 − a, a, 1} are all different, so each voxel names its patient's class."""
    y, y_r = (one_hot(person.labels, 3) for person in people[:2])
    assert (read_off(a * y + (1 - a) * y_r, a) == people[0].labels).all()


def test_at_one_half_an_ideal_answer_shows_the_union(people):
    y, y_r = (one_hot(person.labels, 3) for person in people[:2])
    found = read_off(0.5 * y + 0.5 * y_r, 0.5)
    union = (people[0].labels > 0) | (people[1].labels > 0)
    assert ((found > 0) == union).all()


def test_local_privacy_of_a_whole_image_needs_noise_beyond_use():
    """Analytic Gaussian mechanism (Balle and Wang, arXiv:1805.06530), a = ½, 128² voxels in [0, 1].

    Two images differ by at most 1 a voxel, so their mixtures by ``Δ = ½·128`` in Euclidean norm.
    ``δ(σ) = Φ(Δ/2σ − εσ/Δ) − e^ε·Φ(−Δ/2σ − εσ/Δ)``; ε = 8, δ = 10⁻⁵. Through zCDP,
    ``ε = ρ + 2·√(ρ·ln 1/δ)`` with ``ρ = Δ²/2σ²``.
    """
    sensitivity, epsilon, delta = 0.5 * 128, 8.0, 1e-5

    def excess(sigma):
        one, other = sensitivity / (2 * sigma), epsilon * sigma / sensitivity
        return norm.cdf(one - other) - np.exp(epsilon) * norm.cdf(-one - other) - delta

    assert brentq(excess, 1, 1000) == pytest.approx(38.4, abs=0.05)
    log = np.log(1 / delta)
    rho = (np.sqrt(log + epsilon) - np.sqrt(log)) ** 2
    assert sensitivity / np.sqrt(2 * rho) == pytest.approx(44.2, abs=0.05)
