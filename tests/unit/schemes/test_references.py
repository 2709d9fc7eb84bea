"""The law of references: reproducible, labelled truly, with contrast, folded nowhere."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.errors import BundleIntegrity
from veilseg.schemes import references
from veilseg.schemes.references import (
    LEAST_CONTRAST,
    TISSUE_JITTER,
    Reference,
    Template,
    contrast,
    fill_background,
    labelled_reference,
    synthetic_reference,
    with_contrast,
)


def labelled_base(case):
    return Reference(case.image, case.labels)


def test_same_seed_gives_identical_arrays(template, make_case):
    for draw in (
        lambda rng: synthetic_reference(template, (40, 56, 40), rng),
        lambda rng: labelled_reference(labelled_base(make_case(0)), (40, 56, 40), rng),
    ):
        first, again, other = (draw(np.random.default_rng(seed)) for seed in (7, 7, 8))
        assert first.image.tobytes() == again.image.tobytes()
        assert first.labels.tobytes() == again.labels.tobytes()
        assert first.image.tobytes() != other.image.tobytes()
        assert first.labels.tobytes() != other.labels.tobytes()


@pytest.mark.parametrize("shape", [(40, 56, 40), (64, 40, 48)])
def test_reference_has_the_patients_grid_and_range(template, make_case, shape):
    rng = np.random.default_rng(0)
    for reference in (
        synthetic_reference(template, shape, rng),
        labelled_reference(labelled_base(make_case(0)), shape, rng),
    ):
        assert reference.image.shape == (1, *shape)
        assert reference.image.dtype == np.float32
        assert reference.labels.shape == shape
        assert reference.labels.dtype == np.uint8
        assert reference.image.min() >= 0
        assert reference.image.max() <= 1


def test_labels_are_those_of_the_tissues_that_were_drawn(template):
    # Without spread inside tissues, brightness orders them, and labels must follow it.
    sharp = Template(
        template.tissues, template.label_of_tissue, template.mean, np.zeros_like(template.spread)
    )
    for seed in range(20):
        reference = synthetic_reference(sharp, (40, 56, 40), np.random.default_rng(seed))
        empty = reference.image[0] == 0
        assert not reference.labels[empty].any()
        assert set(np.unique(reference.labels)) == {0, 1, 2}
        inner = reference.image[0][reference.labels == 2].mean()
        outer = reference.image[0][(reference.labels == 0) & ~empty].mean()
        assert inner > outer


def test_intensities_follow_the_template_on_average(template):
    # Tissue means get jitter of sd 0.04 and a gain of sd 0.05 around 1, which is 0.035 at 0.7: over
    # 60 references the mean of label 1 has standard error 0.007, and 4 of those are allowed.
    means = []
    for seed in range(60):
        reference = synthetic_reference(template, (40, 56, 40), np.random.default_rng(seed))
        means.append(reference.image[0][reference.labels == 1].mean())
    assert np.mean(means) == pytest.approx(
        0.7, abs=4 * np.hypot(TISSUE_JITTER, 0.035) / np.sqrt(60)
    )
    assert np.std(means) > TISSUE_JITTER / 2


def test_label_volumes_stay_near_the_templates(template):
    # Scaling by ±8 % per axis moves volumes by ±26 % at most; the smooth flow adds little.
    labels = template.label_of_tissue[template.tissues]
    for value in (1, 2):
        ratios = [
            (
                synthetic_reference(template, labels.shape, np.random.default_rng(s)).labels
                == value
            ).sum()
            / (labels == value).sum()
            for s in range(40)
        ]
        assert np.median(ratios) == pytest.approx(1, abs=0.15)
        assert min(ratios) > 0.4
        assert max(ratios) < 2


def test_labelled_reference_keeps_image_and_labels_together(make_case):
    base = labelled_base(make_case(0))
    for seed in range(20):
        reference = labelled_reference(base, base.labels.shape, np.random.default_rng(seed))
        inside = reference.image[0][reference.labels == 1]
        outside = reference.image[0][(reference.labels == 0) & (reference.image[0] > 0)]
        # The curve rises, so the brighter class stays the brighter.
        assert np.median(inside) > np.median(outside)
        assert (inside > 0).all()


def patients():
    """Images from nearly flat to black and white, with any share of them empty."""

    def build(seed, share, low, high, binary):
        rng = np.random.default_rng(seed)
        values = rng.random((1, 40, 56, 40))
        if binary:
            values = np.round(values)
        image = np.clip(low + (high - low) * values, 0.001, 1)
        return np.where(rng.random((40, 56, 40)) < share, image, 0).astype(np.float32)

    return st.builds(
        build,
        st.integers(0, 2**32 - 1),
        st.floats(0.05, 1),
        st.floats(0, 0.5),
        st.floats(0.5, 1),
        st.booleans(),
    )


@given(patients(), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_reference_has_four_fifths_of_any_patients_contrast(
    template, make_case, patient, seed, synthetic
):
    rng = np.random.default_rng(seed)
    shape = patient.shape[1:]
    reference = (
        synthetic_reference(template, shape, rng)
        if synthetic
        else labelled_reference(labelled_base(make_case(seed % 7)), shape, rng)
    )
    stretched = with_contrast(reference, patient)
    # 1e-4: standard deviations in float32 over ten thousand voxels.
    assert (contrast(stretched.image) >= LEAST_CONTRAST * contrast(patient) - 1e-4).all()
    np.testing.assert_array_equal(stretched.image > 0, reference.image > 0)
    assert stretched.image.max() <= 1
    np.testing.assert_array_equal(stretched.labels, reference.labels)


@pytest.mark.parametrize(("shape", "channels"), [((40, 56), 1), ((64, 48), 3), ((24, 20, 16), 2)])
def test_plane_images_and_several_channels(template, make_case, shape, channels):
    plane = template.tissues if len(shape) == 3 else template.tissues[:, :, 20]
    several = Template(
        plane,
        template.label_of_tissue,
        template.mean.repeat(channels, axis=1),
        template.spread.repeat(channels, axis=1),
    )
    base = labelled_base(make_case(0, shape, channels))
    patient = make_case(1, shape, channels).image
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for reference in (
            synthetic_reference(several, shape, rng),
            labelled_reference(base, shape, rng),
        ):
            image = reference.image
            assert image.shape == (channels, *shape)
            assert image.dtype == np.float32
            assert reference.labels.shape == shape
            assert reference.labels.any()
            # Empty in all channels or in none; what is empty is so exactly.
            assert ((image > 0) == (image[:1] > 0)).all()
            assert (image == 0).any()
            stretched = with_contrast(reference, patient)
            assert (contrast(stretched.image) >= LEAST_CONTRAST * contrast(patient) - 1e-4).all()
            assert (fill_background(stretched.image, rng) > 0).all()


def test_channels_share_the_gain_but_not_the_jitter_of_tissues():
    flat = Template(
        np.ones((32, 40), np.uint8),
        np.zeros(2, np.uint8),
        np.array([[0, 0], [0.6, 0.5]], np.float32),
        np.zeros((2, 2), np.float32),
    )
    ratios = []
    for seed in range(30):
        image = synthetic_reference(flat, (64, 64), np.random.default_rng(seed)).image
        assert image[0].std() > 0.005
        ratio = image[0] / image[1]
        assert np.ptp(ratio) < 1e-5
        ratios.append(ratio.mean())
    # Of two tissue means, each with its own jitter of sd 0.04: about 1.2·√(0.067² + 0.08²) = 0.13.
    assert 0.06 < np.std(ratios) < 0.25


def test_no_labelled_reference_loses_its_foreground(make_case, monkeypatch):
    """An answer to such a mixture would be the patient's mask alone."""
    base = make_case(0, (32, 32))
    labels = np.zeros_like(base.labels)
    labels[1:4, 1:4] = 1
    small = Reference(base.image, labels)

    def lost():
        drawn = (
            labelled_reference(small, labels.shape, np.random.default_rng(s)) for s in range(100)
        )
        return sum(not reference.labels.any() for reference in drawn)

    assert lost() == 0
    monkeypatch.setattr(references, "MOST_WARPS", 1)
    assert lost() > 0


def test_intensity_curve_rises(make_case):
    base = labelled_base(make_case(0))
    ramp = np.linspace(0.05, 1, 40, dtype=np.float32)
    base.image[0] = ramp[:, None, None]
    for seed in range(10):
        image = labelled_reference(base, base.labels.shape, np.random.default_rng(seed)).image[0]
        # A ramp stays nearly a ramp: turned by 0.15 and bent, but in the order of its planes.
        planes = np.median(image, axis=(1, 2))
        assert (np.diff(planes) > -0.02).all()
        assert planes[-1] - planes[0] > 0.4


def test_enough_contrast_is_left_alone(template):
    reference = synthetic_reference(template, (40, 56, 40), np.random.default_rng(0))
    bland = np.full((1, 24, 32, 16), 0.5, np.float32)
    assert with_contrast(reference, bland).image is reference.image


def test_no_channel_is_bland_beside_a_lively_one():
    rng = np.random.default_rng(0)
    image = rng.random((2, 24, 32)).clip(0.001).astype(np.float32)
    image[1] = 0.5 + 0.001 * image[1]
    patient = rng.random((2, 24, 32)).clip(0.001).astype(np.float32)
    stretched = with_contrast(Reference(image, np.zeros((24, 32), np.uint8)), patient)
    assert contrast(image)[1] < 0.001
    assert contrast(stretched.image)[1] >= LEAST_CONTRAST * contrast(patient)[1]
    np.testing.assert_array_equal(stretched.image[0], image[0])


def test_contrast_is_met_even_where_most_voxels_share_one_value():
    rng = np.random.default_rng(0)
    for saturated in (np.float32(1), np.float32(0.001), np.float32(0.5)):
        image = np.full((2, 16, 16, 16), saturated, np.float32)
        image[:, rng.random((16, 16, 16)) < 0.05] = 0.4
        image[:, :2] = 0
        patient = np.round(rng.random((2, 16, 16, 16))).astype(np.float32).clip(0.001)
        stretched = with_contrast(Reference(image, np.zeros((16, 16, 16), np.uint8)), patient)
        assert (contrast(stretched.image) >= LEAST_CONTRAST * contrast(patient)).all()
        np.testing.assert_array_equal(stretched.image > 0, image > 0)


@pytest.mark.parametrize(
    "shape",
    [
        (104, 128, 96),
        (40, 56, 40),
        (16, 16, 16),
    ],
)
def test_gain_of_the_coil_varies_around_one(template, shape):
    images = [
        synthetic_reference(template, shape, np.random.default_rng(seed)).image
        for seed in range(10)
    ]
    medians = [np.median(image[image > 0]) for image in images]
    # The template's tissues lie in 0.3 … 0.9, their median near 0.5.
    assert min(medians) > 0.2
    assert max(medians) < 0.95


def test_contrast_closed_form():
    image = np.zeros((1, 4, 4), np.float32)
    image[0, :2] = 0.2
    image[0, 2] = 0.8
    # Eight voxels of 0.2 and four of 0.8: sd = 0.6·√(⅓·⅔).
    assert contrast(image) == pytest.approx([0.6 * np.sqrt(2) / 3])
    assert contrast(np.zeros((1, 4, 4), np.float32)) == [0]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 3))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_fill_leaves_nothing_empty_and_touches_nothing_present(seed, share, channels):
    rng = np.random.default_rng(seed)
    image = np.where(rng.random((12, 10, 8)) < share, rng.random((channels, 12, 10, 8)) + 1e-3, 0)
    image = np.clip(image, 0, 1).astype(np.float32)
    before = image.copy()
    filled = fill_background(image, rng)
    present = (image > 0).any(axis=0)
    assert (filled > 0).any(axis=0).all()
    assert (filled[:, ~present] > 0).all()
    np.testing.assert_array_equal(filled[:, present], image[:, present])
    np.testing.assert_array_equal(image, before)
    assert filled.max() <= 1
    # At the wire's precision too.
    assert (filled.astype(np.float16) > 0).any(axis=0).all()


def test_fills_are_independent():
    """Whoever knows one fill knows nothing of the next one from the same generator."""
    shape, seeds = (1, 48, 48, 48), 20
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        first, second = (fill_background(np.zeros(shape, np.float32), rng) for _ in range(2))
        found.append(np.corrcoef(first.ravel(), second.ravel())[0, 1])
    # Two fields of n values that correlate by ρ within themselves have a chance correlation of
    # variance Σρ²/n. Half of the variance has Σρ² = 4³·(70/36)³, see the texture's own test; the
    # rest adds less than a tenth.
    error = np.sqrt(1.1 * 0.25 * (4 * 70 / 36) ** 3 / 48**3)
    assert np.abs(found).max() < 4 * error
    assert np.mean(found) == pytest.approx(0, abs=4 * error / np.sqrt(seeds))


def test_template_round_trip(template, tmp_path):
    template.save(tmp_path / "template.npz")
    again = Template.load(tmp_path / "template.npz")
    for name in Template.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(template, name))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_damaged_template_is_refused(tmp_path, content):
    path = tmp_path / "template.npz"
    path.write_bytes(content)
    with pytest.raises(BundleIntegrity, match="not a label template") as caught:
        Template.load(path)
    assert str(path) in str(caught.value)


def test_template_with_pickles_or_without_its_fields_is_refused(tmp_path):
    path = tmp_path / "template.npz"
    np.savez(path, tissues=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BundleIntegrity, match="not a label template"):
        Template.load(path)
    np.savez(path, tissues=np.zeros(3))
    with pytest.raises(BundleIntegrity, match="not a label template"):
        Template.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tissues", np.full((8, 8, 8), 200, np.uint8)),
        ("label_of_tissue", np.zeros(1, np.uint8)),
        ("mean", np.zeros((2, 1), np.float32)),
        ("spread", np.zeros(3, np.float32)),
    ],
)
def test_template_whose_parts_do_not_fit_is_refused(template, tmp_path, field, value):
    path = tmp_path / "template.npz"
    dataclasses.replace(template, **{field: value}).save(path)
    with pytest.raises(BundleIntegrity, match=r"template\.npz: not a label template"):
        Template.load(path)
