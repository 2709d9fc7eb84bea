"""The main path with everything in one process: what is kept, what is refused, what is sent."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import pytest
from servers import ideal_server

from veilseg.bundle import ClientBundle, ClientManifest, open_client_half
from veilseg.client import pipeline
from veilseg.client.sizes import sizes, volumes_ml
from veilseg.client.uncertainty import predictive_entropy
from veilseg.errors import InvalidAnswer, InvalidImage, RepeatRefused, WrongUsage
from veilseg.imaging.nifti import read_label_map, write_label_map
from veilseg.imaging.preprocessing import restore, restore_map
from veilseg.imaging.volume import Geometry, LabelMap
from veilseg.payload import Answer, Proxy
from veilseg.scheme import ClientHalf
from veilseg.schemes.bare_answers import NothingKept
from veilseg.schemes.mixup.client import MixupClient
from veilseg.schemes.plain.client import PlainClient
from veilseg.vault.vault import Vault

# Flips and turns, a shift, and a slight rotation as scanners write it.
TILTED = np.array([[0.02, -1.0, 0, 50], [-1, -0.02, 0, -20], [0, 0, -1, 7], [0, 0, 0, 1]])
# A bundle of 8-bit pictures.
IN_PIXELS = {"spatial_dims": 2, "unit": "pixel", "raw_scale": phantoms.RAW_SCALE // 4}


@pytest.fixture(scope="module")
def mixup(tmp_path_factory: pytest.TempPathFactory) -> ClientBundle:
    return open_client_half(phantoms.make_bundle(tmp_path_factory.mktemp("mixup"), "mixup"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ClientManifest:
    folder = phantoms.make_bundle(tmp_path_factory.mktemp("plain"), "plain")
    return open_client_half(folder).manifest


@pytest.fixture
def phantom(tmp_path: Path) -> Callable[..., tuple[Path, np.ndarray]]:
    """Write a phantom; gives its file and its labels."""

    def write(
        shape: tuple[int, ...] = (18, 20, 14), affine: np.ndarray = phantoms.TURNED
    ) -> tuple[Path, np.ndarray]:
        # A margin of nothing around it, unequal on its sides: cropping has to be undone.
        labels = np.pad(phantoms.truth(shape), ((1, 4), (2, 0), (0, 3)))
        image = phantoms.raw_image(labels)
        return phantoms.write_nifti(tmp_path / "x.nii.gz", image, affine), labels

    return write


@pytest.mark.parametrize("affine", [np.eye(4), phantoms.TURNED, TILTED])
def test_plain_gives_the_truth_on_the_images_own_grid(
    plain: ClientManifest, phantom: Callable, affine: np.ndarray
):
    file, labels = phantom(affine=affine)
    done = []
    result = pipeline.segment(
        [file],
        "anna",
        plain,
        PlainClient(),
        phantoms.nearest_centre,
        progress=lambda *counts: done.append(counts),
    )
    np.testing.assert_array_equal(result.labels.array, labels)
    assert result.labels.geometry.shape == labels.shape
    np.testing.assert_allclose(result.labels.geometry.affine, affine, atol=1e-6)
    # The voxels of an affine are as large as its determinant says.
    millilitres = abs(np.linalg.det(affine[:3, :3])) / 1000
    expected = {
        "shell": (labels == 1).sum() * millilitres,
        "core": (labels == 2).sum() * millilitres,
    }
    assert result.volumes_ml == pytest.approx(expected, rel=1e-6)
    assert set(result.seconds) == {"protect", "process", "recover"}
    assert min(result.seconds.values()) >= 0
    assert result.warnings == []
    # Two of the three axes are longer than a tile, by less than its half.
    assert done == [(number, 4) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("unmixing", ["learned", "algebraic"])
@pytest.mark.parametrize("coefficient", [0.3, 0.5])
def test_mixup_with_an_ideal_server_gives_the_truth(
    mixup: ClientBundle, phantom: Callable, unmixing: str, coefficient: float
):
    file, labels = phantom()
    bundle = phantoms.with_coefficient(mixup, coefficient)
    manifest = bundle.manifest
    half = MixupClient(bundle, Vault.in_memory(bytes(32)), unmixing)
    outgoing = pipeline.protect([file], "anna", manifest, half)
    on_grid = LabelMap(labels, Geometry(labels.shape, phantoms.TURNED))
    server = ideal_server(outgoing, on_grid, manifest, coefficient)
    result = pipeline.segment([file], "anna", manifest, half, server)
    np.testing.assert_array_equal(result.labels.array, labels)


def test_coarser_and_finer_images_come_back_on_their_own_grid(
    plain: ClientManifest, phantom: Callable
):
    for spacing in (0.8, 1.5):
        file, labels = phantom(affine=np.diag([spacing, 1, 1, 1.0]))
        result = pipeline.segment(
            [file], "anna", plain, PlainClient(), phantoms.nearest_centre
        ).labels
        assert result.array.shape == labels.shape
        np.testing.assert_allclose(result.geometry.affine, np.diag([spacing, 1, 1, 1.0]))
        # Resampling there and back moves borders by less than a voxel; the inside stays.
        assert (result.array == labels).mean() > 0.9


def test_a_veto_comes_before_anything_is_sent(plain: ClientManifest, phantom: Callable):
    file, _ = phantom()
    seen: list[Proxy] = []

    def veto(proxies: Sequence[Proxy]) -> None:
        seen.extend(proxies)
        raise RepeatRefused("no")

    def processor(tile: np.ndarray) -> np.ndarray:
        raise AssertionError("a tile was sent")

    with pytest.raises(RepeatRefused):
        pipeline.segment([file], "anna", plain, PlainClient(), processor, before_sending=veto)
    assert [proxy.array.shape for proxy in seen] == [(1, 20, 18, 16)]


def test_what_is_approved_is_what_is_sent(plain: ClientManifest, phantom: Callable):
    file, _ = phantom((12, 13, 14))
    approved: list[Proxy] = []
    sent: list[np.ndarray] = []

    def processor(tile: np.ndarray) -> np.ndarray:
        sent.append(tile)
        return phantoms.nearest_centre(tile)

    pipeline.segment([file], "anna", plain, PlainClient(), processor, approved.extend)
    np.testing.assert_array_equal(approved[0].array, sent[0])
    assert len(approved) == len(sent) == 1


def test_mixtures_are_recovered_one_by_one_and_averaged(mixup: ClientBundle, phantom: Callable):
    file, _ = phantom()
    manifest = mixup.manifest
    half = MixupClient(mixup, Vault.in_memory(bytes(32)))
    approved: list[Proxy] = []
    sent, done = [], []

    def processor(tile: np.ndarray) -> np.ndarray:
        assert len(approved) == 3, "something was sent before all was approved"
        sent.append(tile)
        return phantoms.nearest_centre(tile)

    result = pipeline.segment(
        [file], "anna", manifest, half, processor, approved.extend,
        lambda *counts: done.append(counts), mixtures=3, uncertainty=True,
    )  # fmt: skip
    assert done == [(number, 12) for number in range(1, 13)]
    assert len(sent) == 12
    alone = [pipeline.protect([file], "anna", manifest, half, number) for number in range(3)]
    assert [one.proxy.digest() for one in alone] == [proxy.digest() for proxy in approved]
    single = [
        pipeline.recover([one], manifest, [half], phantoms.nearest_centre, None).probabilities[0]
        for one in alone
    ]
    together = pipeline.recover(alone, manifest, [half], phantoms.nearest_centre, None)
    (mean,) = together.probabilities
    np.testing.assert_allclose(mean, np.mean(single, axis=0), atol=1e-6)
    # The positive control: they do not agree by themselves.
    assert np.abs(single[0] - single[1]).max() > 0.1
    restoration = alone[0].restoration
    np.testing.assert_array_equal(result.labels.array, restore(mean, restoration).array)
    expected = restore_map(predictive_entropy(mean), restoration, 0.0)
    np.testing.assert_array_equal(result.uncertainty, expected)


def test_nothing_is_sent_for_mixtures_of_plain(plain: ClientManifest, phantom: Callable):
    file, _ = phantom()

    def processor(tile: np.ndarray) -> np.ndarray:
        raise AssertionError("a tile was sent")

    with pytest.raises(WrongUsage, match="plain mixes nothing"):
        pipeline.segment([file], "anna", plain, PlainClient(), processor, mixtures=2)


def test_averages_use_no_more_memory_than_one_answer_and_a_sum(
    mixup: ClientBundle, phantom: Callable, monkeypatch: pytest.MonkeyPatch
):
    file, _ = phantom()
    half = MixupClient(mixup, Vault.in_memory(bytes(32)))
    outgoing = [
        pipeline.protect([file], "anna", mixup.manifest, half, number) for number in range(4)
    ]
    answers: list[weakref.ref[Answer]] = []
    process = pipeline.process

    def watched(*arguments: object) -> Answer:
        assert sum(answer() is not None for answer in answers) <= 1
        answer = process(*arguments)
        answers.append(weakref.ref(answer))
        return answer

    monkeypatch.setattr(pipeline, "process", watched)
    pipeline.recover(outgoing, mixup.manifest, [half], phantoms.nearest_centre, None)
    assert len(answers) == 4


def test_averages_in_2d(plain: ClientManifest):
    """Halves, tiles and sums know no number of axes."""

    class Scaled(PlainClient):
        def recover(self, answer: Answer, receipt: object) -> np.ndarray:
            return 2 * answer.array

    flat = replace(plain, tile_shape=(8, 8), answer=replace(plain.answer, shape=(1, 3, 8, 8)))
    rng = np.random.default_rng(0)
    images = [rng.random((1, 12, 8), dtype=np.float32) for _ in range(3)]
    outgoing = [pipeline.Outgoing(Proxy(image), NothingKept(), None, [], 0.0) for image in images]
    done: list[tuple[int, int]] = []
    one, double = pipeline.recover(
        outgoing,
        flat,
        [PlainClient(), Scaled()],
        lambda tile: np.concatenate([tile, 1 - tile, 0 * tile]),
        lambda *counts: done.append(counts),
    ).probabilities
    mean = np.mean(images, axis=0)
    np.testing.assert_allclose(one, np.concatenate([mean, 1 - mean, 0 * mean]), atol=1e-6)
    np.testing.assert_allclose(double, 2 * one, atol=1e-6)
    assert done == [(number, 6) for number in range(1, 7)]


def test_uncertainty_lies_where_classes_meet(plain: ClientManifest, phantom: Callable):
    file, labels = phantom(affine=TILTED)
    blurred = lambda tile: 0.9 * phantoms.nearest_centre(tile) + np.float32(0.1 / 3)  # noqa: E731
    result = pipeline.segment([file], "anna", plain, PlainClient(), blurred, uncertainty=True)
    assert result.uncertainty is not None
    assert (result.uncertainty.dtype, result.uncertainty.shape) == (np.float32, labels.shape)
    # One class has 0.9 + 0.1/3 and two have 0.1/3; nothing is known to be nothing beyond the crop.
    shares = np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    inside = result.uncertainty[labels > 0]
    np.testing.assert_allclose(inside, -(shares * np.log(shares)).sum() / np.log(3), atol=1e-4)
    assert result.uncertainty[0].max() == 0
    without = pipeline.segment([file], "anna", plain, PlainClient(), blurred)
    assert without.uncertainty is None


BAD_ANSWERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "too few classes": lambda answer: answer[:2],
    "another grid": lambda answer: answer[..., :-1],
    "NaN": lambda answer: np.where(answer > 0.5, np.nan, answer),
    "infinity": lambda answer: np.where(answer > 0.5, np.inf, answer),
    "a batch axis": lambda answer: answer[None],
}


@pytest.mark.parametrize("spoil", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_what_is_no_answer(plain: ClientManifest, spoil: Callable):
    proxy = Proxy(np.zeros((1, *phantoms.TILE), dtype=np.float32))
    with pytest.raises(InvalidAnswer, match=r"expected finite values of shape \(3, 16, 16, 16\)"):
        pipeline.process(
            proxy, plain, lambda tile: spoil(phantoms.nearest_centre(tile)), progress=None
        )


def test_an_unusual_image_draws_a_warning(plain: ClientManifest, phantom: Callable):
    file, _ = phantom(affine=np.diag([2.0, 2.0, 4.5, 1]))
    outgoing = pipeline.protect([file], "anna", plain, PlainClient())
    assert any("voxels are 2…4.5 mm" in warning for warning in outgoing.warnings)


def test_volumes_of_absent_classes(plain: ClientManifest):
    labels = LabelMap(np.zeros((2, 2, 2), dtype=np.uint8), Geometry((2, 2, 2), np.eye(4)))
    assert volumes_ml(labels, plain) == {"shell": 0.0, "core": 0.0}
    labels.array[0] = 2
    affine = np.diag([1, 2, 5.0, 1])
    labels = LabelMap(labels.array, Geometry((2, 2, 2), affine))
    assert volumes_ml(labels, plain) == {"shell": 0.0, "core": pytest.approx(0.04)}


def test_areas_of_slices_and_pictures(plain: ClientManifest):
    labels = np.zeros((3, 4), dtype=np.uint8)
    labels[0] = 2
    in_mm = LabelMap(labels, Geometry((3, 4), np.diag([0.5, 2, 9, 1])))
    expected = {"shell": 0.0, "core": pytest.approx(4.0)}
    assert sizes(in_mm, plain) == ("areas_mm2", expected)
    in_pixels = LabelMap(labels, Geometry((3, 4), np.eye(4), "pixel"))
    assert sizes(in_pixels, plain) == ("areas_px", {"shell": 0.0, "core": 4.0})
    assert volumes_ml(in_mm, plain) == {}


@pytest.mark.parametrize("axes", [np.eye(4), phantoms.TURNED, TILTED])
@pytest.mark.parametrize("third_axis", [False, True])
def test_plain_gives_the_truth_on_a_slices_own_grid(
    tmp_path: Path, axes: np.ndarray, third_axis: bool
):
    folder = phantoms.make_bundle(tmp_path / "bundle", "plain", spatial_dims=2)
    manifest = open_client_half(folder).manifest
    labels = np.pad(phantoms.truth((18, 20)), ((1, 4), (2, 0)))
    raw = phantoms.raw_image(labels)
    file = phantoms.write_nifti(tmp_path / "x.nii", raw[..., None] if third_axis else raw, axes)
    result = pipeline.segment([file], "anna", manifest, PlainClient(), phantoms.nearest_centre)
    np.testing.assert_array_equal(result.labels.array, labels)
    np.testing.assert_allclose(result.labels.geometry.affine, axes, atol=1e-6)
    assert result.warnings == []


def test_a_bundle_in_pixels_takes_millimetres_as_pixels(tmp_path: Path):
    folder = phantoms.make_bundle(tmp_path / "bundle", "plain", **IN_PIXELS)
    manifest = open_client_half(folder).manifest
    labels = phantoms.truth((18, 20))
    raw = phantoms.raw_image(labels) // 4
    file = phantoms.write_nifti(tmp_path / "x.nii", raw, np.diag([0.3, 0.4, 1, 1]))
    result = pipeline.segment([file], "anna", manifest, PlainClient(), phantoms.nearest_centre)
    np.testing.assert_array_equal(result.labels.array, labels)
    (warning,) = result.warnings
    assert warning.startswith("the bundle takes pixels as they are: ")


def test_files_of_channels(plain: ClientManifest, tmp_path: Path):
    one = tmp_path / "any name.nii"
    assert pipeline.channel_files(one, plain) == (one,)
    folder = phantoms.make_bundle(tmp_path / "two", "plain", channels=2)
    manifest = open_client_half(folder).manifest
    raw = phantoms.raw_image(phantoms.truth())
    first, second, other = (
        phantoms.write_nifti(tmp_path / f"{name}.nii.gz", raw)
        for name in ("case_0000", "case_0001", "case")
    )
    assert pipeline.channel_files(first, manifest) == (first, second)
    with pytest.raises(InvalidImage, match=r"takes 2 channels .*name the first file CASE_0000"):
        pipeline.channel_files(other, manifest)


def test_an_rgb_file_holds_three_channels(tmp_path: Path):
    folder = phantoms.make_bundle(tmp_path / "rgb", "plain", channels=3, **IN_PIXELS)
    manifest = open_client_half(folder).manifest
    raw = phantoms.raw_image(phantoms.truth((9, 11)))
    colours = phantoms.write_png(tmp_path / "c_0000.png", (np.stack([raw] * 3) // 4).astype("u1"))
    assert pipeline.channel_files(colours, manifest) == (colours,)
    grey = phantoms.write_png(tmp_path / "g_0000.png", raw.astype("u2"))
    with pytest.raises(InvalidImage, match=r"g_0001\.png: no such file: g_0000\.png holds one"):
        pipeline.channel_files(grey, manifest)
    others = [phantoms.write_png(tmp_path / f"g_000{i}.png", raw.astype("u2")) for i in (1, 2)]
    assert pipeline.channel_files(grey, manifest) == (grey, *others)


def test_a_missing_channel_is_named(tmp_path: Path):
    folder = phantoms.make_bundle(tmp_path / "two", "plain", channels=2)
    manifest = open_client_half(folder).manifest
    file = phantoms.write_nifti(tmp_path / "c_0000.nii", phantoms.raw_image(phantoms.truth()))
    with pytest.raises(InvalidImage, match=r"c_0001\.nii: no such file: c_0000\.nii holds one"):
        pipeline.channel_files(file, manifest)
    with pytest.raises(InvalidImage, match="has 1 channel; the bundle takes 2"):
        pipeline.protect([file], "c", manifest, PlainClient())


def test_any_half_and_any_processor_will_do(plain: ClientManifest, phantom: Callable):
    """The seams are interfaces: halves and processors know nothing of files and grids."""

    class Mirror(PlainClient):
        def recover(self, answer: Answer, receipt: object) -> np.ndarray:
            return answer.array[::-1]

    file, labels = phantom((16, 16, 16))
    half: ClientHalf = Mirror()
    result = pipeline.segment([file], "anna", plain, half, phantoms.nearest_centre)
    inside = labels > 0
    np.testing.assert_array_equal(result.labels.array[inside], 2 - labels[inside])


def test_a_written_map_is_read_as_it_was(plain: ClientManifest, phantom: Callable, tmp_path: Path):
    file, labels = phantom(affine=TILTED)
    result = pipeline.segment([file], "anna", plain, PlainClient(), phantoms.nearest_centre)
    write_label_map(tmp_path / "out.nii.gz", result.labels)
    read = read_label_map(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(read.array, labels)
    np.testing.assert_allclose(read.geometry.affine, TILTED, atol=1e-6)
