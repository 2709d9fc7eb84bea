"""What encoded segmentation was to reach, from results of the shape that measuring writes."""

import json

import pytest
from evidence import encodings, times
from evidence.places import Places


@pytest.fixture
def places(tmp_path):
    (tmp_path / "results").mkdir()
    return Places(tmp_path, tmp_path, tmp_path)


def store(places, name, fields):
    (places.results / f"{name}.json").write_text(json.dumps(fields))


def by_what(places):
    return {what: (measured, enough) for what, _, measured, enough in encodings.goals(places)}


def test_nothing_is_reached_before_it_is_measured(places):
    found = by_what(places)
    assert len(found) == 13
    assert set(found.values()) == {(None, False)}


def test_each_goal_with_its_figure(places):
    change = {"difference": -0.0109, "interval": [-0.02, -0.001]}
    comparisons = {
        "hippocampus": {"margin": change},
        "brain-tissue": {"margin": {"difference": -0.0201, "interval": [-0.03, -0.01]}},
    }
    controls = {
        "linear": {"gain": {"difference": 0.05, "interval": [0.01, 0.09]}},
        "local": {"gain": {"difference": 0.01, "interval": [-0.01, 0.03]}},
    }
    fields = {"comparisons": comparisons, "controls": controls, "keyed": {"difference": change}}
    store(places, encodings.RESULT, fields)
    bytes_ = {"encoding": {"sent": 10, "received": 20}, "plain": {"sent": 20, "received": 40}}
    entry = {"ratio": {"median": 1.31}, "bytes_per_image": bytes_}
    store(places, "overhead", {"hippocampus-encoding": entry})
    found = by_what(places)
    assert found["hippocampus: encoded − plain"] == ("−0.011", True)
    assert found["brain tissue: encoded − plain"] == ("−0.020", False)
    # A key may make it neither worse nor better by more than this.
    assert found["with a key − without"] == ("−0.011", False)
    gains = [value for what, value in found.items() if what.startswith("gain over")]
    assert gains == [("+0.010", True), ("−0.010", False)]
    assert found["hippocampus: time, encoded ÷ plain, median"] == ("1.31", False)
    assert found["hippocampus: bytes both ways, encoded ÷ plain"] == ("0.50", True)
    assert found["brain tissue: bytes both ways, encoded ÷ plain"] == (None, False)


def test_finding_of_the_controls_is_said_plainly(places):
    assert "not measured yet" in encodings.finding(places)
    gains = {"linear": [0.01, 0.03], "local": [-0.02, -0.001]}
    controls = {
        name: {
            name: {"dice": 0.85},
            "gain": {"difference": sum(interval) / 2, "interval": interval},
        }
        for name, interval in gains.items()
    }
    fields = {"comparisons": {"hippocampus": {"encoding": {"dice": 0.86}}}, "keyed": None}
    store(places, encodings.RESULT, fields | {"controls": controls})
    told = encodings.finding(places)
    assert "network: 0.850 (the scheme gains over it: +0.020 (+0.010 to +0.030))" in told
    assert "(**it is better than the scheme**: -0.011 (-0.020 to -0.001))" in told
    assert "it is not shown that a site needs the server" in told
    for interval, said in (([-0.001, 0.02], True), ([0.001, 0.02], False)):
        controls["local"]["gain"]["interval"] = interval
        store(places, encodings.RESULT, fields | {"controls": controls})
        told = encodings.finding(places)
        assert ("no gain of the scheme is shown" in told) == said
        assert ("it is not shown that a site needs the server" in told) == said
        assert "better than the scheme" not in told


def test_compute_of_both_sides_is_told(places):
    assert "not measured yet" in times.encoding_compute(places).lower()
    entry = {
        "multiply_adds": {"encoding": {"site": 250_000_000, "server": 1_000_000_000}},
        "seconds": {"encoding": {"protect": 0.004, "process": 0.03, "recover": 0.002}},
    }
    store(places, "overhead", {"hippocampus-encoding": entry})
    told = times.encoding_compute(places).splitlines()[-1]
    assert told == "| Hippocampus | 0.25 | 1.00 | 0.25 | 4 | 30 | 2 |"


def test_an_encoding_is_to_show_less_than_a_mixture(places):
    def audit(image):
        finding = {
            **{"attack": "A10", "status": "run", "metric": "SSIM", "value": image},
            **{"baseline": {"mean image": 0.3}, "interval": [image - 0.01, image + 0.01]},
            **{"occurs": "by default", "person": "patient", "n_patients": 7},
            "threat": {"colluding_site": True},
        }
        return {"channels": {"image": [finding], "mask": []}}

    store(places, "audit-hippocampus-mixup", audit(0.9))
    store(places, "audit-hippocampus-encoding", audit(0.65))
    store(places, "audit-hippocampus-keyed", audit(0.95))
    found = by_what(places)
    share = "share of the image that is learned"
    assert found[f"hippocampus, encoded: {share}"] == ("0.50 against 0.86", True)
    assert found[f"hippocampus, encoded with a key: {share}"] == ("0.93 against 0.86", False)
    # Of masks nothing ran.
    assert found["hippocampus, encoded: share of the mask that is learned"] == (None, False)
