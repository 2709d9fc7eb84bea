"""What cells say together: closed cases, by hand."""

import dataclasses
import math

import made_up
import pytest

from veilseg.bench.evidence.cells import Cell, table
from veilseg.bench.evidence.comparisons import comparisons, nearest, shortfalls, verdict
from veilseg.bench.evidence.data import CARDIAC
from veilseg.bench.evidence.leakage import leakage
from veilseg.bench.evidence.means import averaged, difference_of_dice, over_seeds
from veilseg.bench.evidence.measure import accuracy
from veilseg.errors import InvalidInput

CHANNELS = tuple(made_up.NOTHING)
BY_NAME = {cell.name: cell for cell in table()}


def cases(*dice, patients="aabb"):
    return [
        {"case": f"case{number}", "patient": patient, "dice": value}
        for number, (value, patient) in enumerate(zip(dice, patients, strict=True))
    ]


def test_cases_count_once_by_their_mean_over_seeds():
    seeds = [{"cases": cases(0.8, 0.6, None, 0.9)}, {"cases": cases(0.9, 0.7, 0.5, 0.7)}]
    joined = over_seeds(seeds, "dice")
    assert [case["dice"] for case in joined] == [
        pytest.approx(0.85),
        pytest.approx(0.65),
        None,
        pytest.approx(0.8),
    ]
    found = averaged(joined, "dice")
    assert found["value"] == pytest.approx(2.3 / 3, abs=1e-4)
    assert (found["n_cases"], found["n_patients"]) == (3, 2)
    low, high = found["interval"]
    # Of two people drawn twice: a alone, b alone, or both.
    assert (low, high) == (pytest.approx(0.75, abs=1e-4), pytest.approx(0.8, abs=1e-4))


def test_a_constant_loss_has_an_interval_without_width():
    first, second = cases(0.8, 0.6, 0.5, 0.9), cases(0.9, 0.7, 0.6, 1.0)
    found = difference_of_dice(first, second)
    assert found["value"] == -0.1
    assert found["interval"] == [-0.1, -0.1]


def test_what_is_of_other_cases_is_not_compared():
    other = [{**case, "case": "another"} for case in cases(0.8, 0.6, 0.5, 0.9)]
    with pytest.raises(InvalidInput, match="schemes were measured on different cases"):
        difference_of_dice(cases(0.8, 0.6, 0.5, 0.9), other)
    with pytest.raises(InvalidInput, match="cells of one scheme were measured on different cases"):
        over_seeds([{"cases": cases(0.8, 0.6, 0.5, 0.9)}, {"cases": other}], "dice")


def test_nothing_defined_is_no_figure():
    assert averaged(cases(None, None, None, None), "dice")["value"] is None


def test_evaluations_are_told_by_case_over_classes():
    told = {
        "dataset": "phantoms",
        "data_sha256": "1" * 64,
        "provenance": {"seed": 3},
        "references": "synthetic",
        "unit": "pixel",
        "surface_tolerance_mm": 1.0,
        "n_cases": 2,
        "n_patients": 2,
        "cases": [
            {
                **{"case": "c0", "patient": "a", "dice": {"x": 0.8, "y": 0.6}},
                **{"hd95_mm": {"x": 2.0, "y": None}, "nsd": {"x": None, "y": None}},
            },
            {
                **{"case": "c1", "patient": "b", "dice": {"x": 0.6, "y": 0.6}},
                **{"hd95_mm": {"x": 4.0, "y": 2.0}, "nsd": {"x": 1.0, "y": 0.5}},
            },
        ],
    }
    found = accuracy(told)
    assert [case["dice"] for case in found["cases"]] == [0.7, 0.6]
    assert [case["hd95"] for case in found["cases"]] == [2.0, 3.0]
    assert [case["nsd"] for case in found["cases"]] == [None, 0.75]
    assert found["accuracy"]["dice"]["value"] == 0.65
    assert found["accuracy"]["nsd"]["n_cases"] == 1


def test_an_attack_without_its_controls_is_no_leak_and_no_safety():
    document = made_up.audit("mixup")
    document["channels"]["image"] = [
        made_up.finding("image", 0.9, "not run: control failed"),
        made_up.finding("image", 0.95, occurs="if asked for"),
    ]
    found = leakage(document)["image"]
    assert found["by_default"] is None
    assert found["if_asked"]["share"] == pytest.approx(0.6 / 0.65, abs=1e-4)
    assert len(found["attacks"]) == 2
    assert all(one["positive_control"] for one in found["attacks"])


def test_the_strongest_seed_speaks_for_all():
    weak, strong = (
        made_up.cell(dataclasses.replace(BY_NAME["cardiac-noise-0"], seed=seed)) for seed in (0, 1)
    )
    document = made_up.audit("noise")
    document["channels"]["mask"] = [made_up.finding("mask", 0.99)]
    strong["leakage"] = leakage(document)
    learned = comparisons([weak, strong])["cardiac"]["leakage"]["noise"]
    assert learned["mask"]["value"] == 0.99
    assert learned["image"]["value"] == made_up.REACHED["noise"][1]


def test_everything_at_once():
    found = comparisons(made_up.cells())
    assert set(found) == {cell.data.name for cell in table()}
    heart = found["cardiac"]
    assert heart["accuracy"]["mixup"]["seeds"] == [0, 1, 2]
    # Cases differ alike in every scheme, so that only the levels do.
    assert heart["margins"]["mixup"]["value"] == pytest.approx(-0.01, abs=1e-4)
    assert heart["margins"]["mixup"]["interval"] == pytest.approx([-0.01, -0.01], abs=1e-3)
    assert "plain" not in heart["margins"]
    assert heart["against"]["mixup"]["privacy_net"]["better"] is True
    # Noise hides more of the image and the person.
    assert heart["against"]["mixup"]["noise"]["better"] is False
    assert found["retina"]["against"] == {}
    assert found["retina"]["nearest"]["scheme"] == "encoding"


def test_cells_of_another_budget_are_not_mixed_in():
    plain = made_up.cell(BY_NAME["cardiac-plain-0"])
    other = made_up.cell(dataclasses.replace(BY_NAME["cardiac-mixup-0"], steps=10))
    found = comparisons([plain, other])["cardiac"]
    assert set(found["accuracy"]) == {"plain"}
    assert found["margins"] == {}


def test_seeds_that_only_one_has_are_not_paired():
    def one(scheme, seed):
        return made_up.cell(Cell(CARDIAC, scheme, seed, 6000, "full"))

    found = comparisons([one("plain", 0), one("plain", 1), one("mixup", 1), one("mixup", 2)])
    assert found["cardiac"]["margins"]["mixup"]["seeds"] == [1]
    assert comparisons([one("plain", 0), one("mixup", 2)])["cardiac"]["margins"] == {}


def learned(*shares):
    return {
        channel: None if share is None else {"share": share, "value": share, "nothing_known": 0.1}
        for channel, share in zip(CHANNELS, shares, strict=True)
    }


def gained(low, high=0.1):
    return {"value": 0.05, "interval": [low, high]}


@pytest.mark.parametrize(
    ("low", "own", "other", "better"),
    [
        (0.01, (0.5, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 0.0), True),
        (0.01, (0.519, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 0.0), True),
        (0.01, (0.53, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 0.0), False),
        (0.0, (0.5, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 0.0), False),
        (0.01, (None, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 0.0), None),
        (0.01, (None, 0.6, 0.5, 0.0), (0.5, 0.5, 0.5, 0.0), False),
        (0.0, (None, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 0.0), False),
        (None, (0.5, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 0.0), None),
    ],
)
def test_better_is_more_accurate_at_no_more_leakage(low, own, other, better):
    assert verdict(gained(low), learned(*own), learned(*other))["better"] is better


def test_the_nearest_falls_least_short_where_it_falls_most():
    margins = {"mixup": {"value": -0.01}, "encoding": {"value": -0.05}}
    shares = {
        "mixup": learned(0.6, 0.2, 0.2, 0.0),
        "encoding": learned(0.2, 0.1, 0.05, 0.0),
        "noise": learned(0.0, 0.0, 0.0, 0.0),
    }
    best = nearest(margins, shares)
    assert (best["scheme"], best["largest"]) == ("encoding", pytest.approx(0.05))
    assert best["shortfalls"] == pytest.approx(
        {"dice": 0.03, "image": 0.05, "mask": 0.0, "identity": 0.0}
    )
    within = {"dice": 0.0, "image": 0.0, "mask": 0.0, "identity": 0.0}
    assert shortfalls({"value": 0.1}, shares["noise"]) == within
    assert nearest({"mixup": None}, shares) is None
    assert not math.isnan(best["largest"])
