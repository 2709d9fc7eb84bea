"""What protection costs in time: on a real server with phantoms, and in closed form."""

import sys

import overhead
import phantoms
import pytest


def test_ratio_is_of_pairs_not_of_medians():
    found = overhead.ratio([1.0, 10.0, 2.0], [1.2, 11.0, 2.2])
    assert found["each"] == [1.2, 1.1, 1.1]
    assert found["median"] == 1.1
    assert found["interval"] == [1.1, 1.2]


def test_every_image_is_segmented_once(tmp_path, monkeypatch):
    patients = tuple("abcdef")
    data = phantoms.make_dataset(tmp_path / "data", patients)
    bundles = [phantoms.make_bundle(tmp_path / s, s) for s in ("plain", "mixup")]
    monkeypatch.setattr(overhead, "COLD_STARTS", 1)
    found = overhead.measure(bundles, data, 3)
    assert found["n_pairs"] == len(found["ratio"]["each"]) == 3
    assert set(found["bundles"]) == {"phantom-plain", "phantom-mixup"}
    for scheme in ("plain", "mixup"):
        phases = found["seconds"][scheme]
        assert phases["total"] >= max(phases[phase] for phase in overhead.PHASES) > 0
        assert found["cold_start"][scheme] > phases["total"]
        assert found["bytes_per_image"][scheme]["sent"] > 0
        assert found["multiply_adds"][scheme]["server"] > 0


def test_too_few_images_are_refused(tmp_path, monkeypatch, capsys):
    data = phantoms.make_dataset(tmp_path / "data", ("a", "b", "c"))
    arguments = [tmp_path / "plain", tmp_path / "mixup", data, "--json", tmp_path / "out.json"]
    monkeypatch.setattr(sys, "argv", ["overhead.py", *map(str, arguments)])
    assert overhead.main() == 3
    assert "data has 3 images and 25 are needed" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_bundles_in_the_wrong_order_are_refused(tmp_path, monkeypatch):
    data = phantoms.make_dataset(tmp_path / "data", tuple("abcdef"))
    bundles = [phantoms.make_bundle(tmp_path / s, s) for s in ("mixup", "plain")]
    monkeypatch.setattr(overhead, "COLD_STARTS", 1)
    with pytest.raises(overhead.WrongUsage, match="a plain bundle is needed"):
        overhead.measure(bundles, data, 1)
