"""Text, plots and summaries of made-up results, and the table of jobs."""

import json
from collections import Counter
from pathlib import Path

import pytest
from evidence import audits, blocks, encodings, goals, plots, sites, summaries, together, verdicts
from evidence.jobs import (
    BRAIN,
    COEFFICIENTS,
    EVALUATIONS,
    FOLDS,
    MOST_MIXTURES,
    TRAININGS,
    Training,
    curve_name,
    fold_stem,
)
from evidence.places import Places
from figures import update
from PIL import Image

COMMIT = "0" * 40


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, tmp_path / "data", tmp_path / "work")


def result(name: str, dice: list[float | None], patients: str = "aabb") -> dict:
    """An evaluation: one foreground class, one case per Dice, a letter per case for its patient."""
    defined = [value for value in dice if value is not None]
    cases = [
        {"case": f"{name[:5]}{number}", "patient": patient, "dice": {"blob": value}}
        for number, (value, patient) in enumerate(zip(dice, patients, strict=True))
    ]
    bins = [{"confidence": 0.5, "accuracy": 0.4, "voxels": 10}, *[{"voxels": 0}] * 2]
    return {
        "bundle": name,
        "bundle_id": f"id of {name}",
        "cases": cases,
        "n_cases": len(defined),
        "n_patients": len(set(patients)),
        "mean_dice": sum(defined) / len(defined),
        "interval": [min(defined), max(defined)],
        "per_class": {"blob": {"dice": 0.5, "hd95_mm": None, "nsd": 0.25}},
        "surface_tolerance_mm": 1.0,
        "variants": {"learned": 0.5, "algebraic": 0.4},
        "calibration": {"ece": 0.1, "error_auroc": 0.8, "bins": bins},
        "dataset": "phantoms",
        "data_sha256": "1" * 64,
        "references": "synthetic",
        "provenance": {"steps": 2, "seed": 0},
        "commit": COMMIT,
        "training": {"minutes": 12.4, "cores": 2},
    }


def everything() -> dict[str, dict]:
    """An evaluation under every name of the table; private loses 0.1, the algebra 0.3."""
    loss = {"plain": 0.0, "mixup": 0.1, "algebraic": 0.3, "learned": 0.1}

    def lost(name: str) -> float:
        return next((loss[part] for part in reversed(name.split("-")) if part in loss), 0.1)

    return {
        one.name: result(one.name, [value - lost(one.name) for value in (0.8, 0.9, 0.7, 0.6)])
        for one in EVALUATIONS
    }


SWEEP = [
    {"what": what, "coefficient": a, "references": count, "dice": 0.8 * a, "image": a}
    | {"mask": a, "identity": a, "membership": 0.5}
    | {"intervals": {"dice": [0.7 * a, 0.9 * a], "image": [None, None], "mask": [0.9 * a, a]}}
    for what, a, count in (("mixture", 0.3, 1), ("mixture", 0.7, 1), ("raw image", 1.0, 0))
]


def publish(places: Places, evaluations: dict[str, dict]) -> None:
    for name, found in evaluations.items():
        places.store(name, found)
    summaries.summarise(places, evaluations.get)


def made_up(job: sites.Centers) -> dict:
    """What a plot shows of several sites."""
    ways = (*job.sites, *together.SCHEMES, sites.POOLED)
    scores = {site: {"dice": 0.8, "interval": [0.7, 0.9]} for site in job.sites}
    return {"ways": {way: {"on": scores} for way in ways}}


def test_names_are_unique_and_every_evaluation_has_its_training():
    names = [job.name for job in TRAININGS]
    assert len(set(names)) == len(names)
    assert {one.training for one in EVALUATIONS} == set(names)
    evaluations = Counter(one.name for one in EVALUATIONS)
    assert max(evaluations.values()) == 1


def test_schemes_of_one_comparison_differ_in_nothing_else():
    for job in TRAININGS:
        if job.name.endswith("-plain"):
            stem = job.name.removesuffix("-plain")
            others = [
                one
                for one in TRAININGS
                if one.name in {f"{stem}-{kind}" for kind in ("mixup", "algebraic", "encoding")}
            ]
            assert others
            for other in others:
                assert (other.data, other.seed, other.fold) == (job.data, job.seed, job.fold)
                assert all_steps(other) == job.data.steps
                assert other.init in (None, job)
            assert all_steps(job) == (job.data.raw_steps or job.data.steps)


def test_plain_is_trained_longer_wherever_the_others_go_on_from_it():
    data = {job.data for job in TRAININGS if job.init is not None}
    checked = [job for job in TRAININGS if job.name.endswith("-longer")]
    assert {job.data for job in checked} == data
    for job in checked:
        assert (job.scheme, job.init.scheme, all_steps(job)) == ("plain", "plain", job.data.steps)


def test_encoded_and_raw_images_are_compared_after_as_many_steps():
    by_name = {job.name: job for job in TRAININGS}
    for data in encodings.DATA:
        names = encodings.plain_name(data), f"{data.name}-encoding"
        plain, encoded = (by_name[name] for name in names)
        assert all_steps(plain) == all_steps(encoded) == data.steps
        assert (plain.fold, plain.seed) == (encoded.fold, encoded.seed)


def all_steps(job: Training) -> int:
    """With those of what it goes on from."""
    return job.steps + (0 if job.init is None else all_steps(job.init))


def test_every_fold_is_tested_once_by_each_scheme():
    folds = [f"{number}/{FOLDS}" for number in range(1, FOLDS + 1)]
    stems = {fold: fold_stem(BRAIN, int(fold[0])) for fold in folds}
    for scheme in ("plain", "mixup"):
        jobs = {
            job.fold: job.name
            for job in TRAININGS
            if job.name.startswith(BRAIN.name) and job.name.endswith(scheme)
        }
        assert jobs == {fold: f"{stem}-{scheme}" for fold, stem in stems.items()}


def test_the_algebraic_baselines_are_trained_for_themselves():
    baselines = [job for job in TRAININGS if job.name.endswith("algebraic")]
    assert len(baselines) == 3
    assert all("algebraic" in job.options() for job in baselines)


def test_margin_and_gain_are_paired_by_case(places):
    publish(places, everything())
    found = places.load("margins")["comparisons"]["hippocampus"]
    assert found["margin"]["difference"] == pytest.approx(-0.1)
    # The same loss on every case: pairing leaves no spread, though the cases differ by 0.3.
    assert found["margin"]["interval"] == pytest.approx([-0.1, -0.1])
    assert found["gain"]["difference"] == pytest.approx(0.2)
    assert found["margin"]["n_patients"] == 2


def test_case_that_one_side_rightly_leaves_empty_counts_for_it():
    """Left out, it would hide the other side's false alarm."""
    plain, mixup = result("plain", [0.9, None, 0.5, 0.7]), result("plain", [0.8, 0.1, 0.5, None])
    found = summaries.compared(summaries.joined({"plain": plain, "mixup": mixup}))
    assert found["margin"]["n_cases"] == 4
    assert found["margin"]["difference"] == pytest.approx((-0.1 - 0.9 + 0 + 0.3) / 4)


def test_different_cases_are_never_compared():
    with pytest.raises(ValueError, match="other cases"):
        summaries.joined({"plain": result("one", [0.5] * 4), "mixup": result("other", [0.5] * 4)})


def test_different_data_are_never_compared():
    other = result("plain", [0.5] * 4) | {"data_sha256": "2" * 64}
    with pytest.raises(ValueError, match="different data"):
        summaries.origin({"plain": result("plain", [0.5] * 4), "mixup": other})


def test_folds_are_pooled_when_all_are_there(places):
    evaluations = everything()
    missing = evaluations.pop(f"brain-tissue-fold{FOLDS}-mixup")
    publish(places, evaluations)
    assert places.load("brain-tissue") is None
    publish(places, evaluations | {f"brain-tissue-fold{FOLDS}-mixup": missing})
    assert len(places.load("brain-tissue")["cases"]) == 4 * FOLDS
    margin = places.load("margins")["comparisons"][summaries.POOLED]["margin"]
    assert margin["n_cases"] == 4 * FOLDS


def test_gain_is_pooled_over_several_data_sets_alone(places):
    evaluations = everything()
    missing = evaluations.pop("brain-tissue-algebraic")
    publish(places, evaluations)
    assert places.load("margins")["pooled_gain"] is None
    publish(places, evaluations | {"brain-tissue-algebraic": missing})
    pooled = places.load("margins")["pooled_gain"]
    # People of two data sets are not one person because they have one name.
    assert (pooled["n_patients"], pooled["n_cases"]) == (4, 8)


def test_curve_and_mixtures_need_every_point(places):
    evaluations = everything()
    publish(places, evaluations)
    assert [point["coefficient"] for point in places.load("curve")["points"]] == list(COEFFICIENTS)
    counts = [point["mixtures"] for point in places.load("mixtures")["points"]]
    assert counts == list(range(1, MOST_MIXTURES + 1))
    del evaluations[curve_name("learned", 0.3)]
    assert summaries.curve(evaluations.get) is None
    del evaluations["hippocampus-mixup-x3"]
    assert summaries.mixtures(evaluations.get) is None


def test_unchanged_results_keep_their_commit(places):
    places.store("site", {"megabytes": 1.0, "commit": COMMIT})
    places.store("site", {"megabytes": 1.0, "commit": "1" * 40})
    assert places.load("site")["commit"] == COMMIT
    places.store("site", {"megabytes": 2.0, "commit": "1" * 40})
    assert places.load("site")["commit"] == "1" * 40


# What is trained, and for how long, is known before it is measured.
@pytest.mark.parametrize("name", sorted(set(blocks.BLOCKS) - {"trainings"}))
def test_block_without_results_says_so(places, name):
    assert "measured yet" in blocks.BLOCKS[name](places) or "No plot" in blocks.BLOCKS[name](places)


def test_card_without_results_says_so(places):
    assert blocks.card(places, "hippocampus-mixup") == blocks.NOT_YET


def test_empty_block_does_not_swallow_what_follows(places):
    end = "<!-- /figures -->"
    empty = f"<!-- figures:site -->\n{end}\nkept\n<!-- figures:demo -->\nx\n{end}"
    assert "\nkept\n" in blocks.rendered(empty, places)


def test_blocks_state_the_figures(places):
    publish(places, everything())
    assert "| Hippocampus, 4 images of 2 patients | 0.750 | 0.650 | 0.450 | -0.100 (" in (
        blocks.accuracy(places)
    )
    assert "+0.200 (+0.200 to +0.200)" in blocks.gain(places)
    assert "| 0.9 | 0.650 (" in blocks.curve(places)
    assert blocks.mixtures(places).endswith("+0.000 (+0.000 to +0.000) |")
    assert "0.100 | 0.800" in blocks.calibration(places)
    assert "takes 12 minutes (2 steps) on 2 cores, and ends -0.100 (" in (
        blocks.training_time(places)
    )
    card = blocks.card(places, "hippocampus-mixup")
    assert "| blob | 0.500 | – | 0.250 |" in card
    assert "surface Dice at 1 mm" in card


def test_goals_are_compared_with_what_was_measured(places):
    publish(places, everything())
    ratio = {"n_pairs": 3, "ratio": {"median": 1.15, "interval": [1, 2]}}
    places.store("overhead", {"hippocampus": ratio, "brain-tissue": ratio})
    found = {what: (measured, enough) for what, _, measured, enough in goals.goals(places)}
    assert found["hippocampus: Dice of plain"] == ("0.750", False)
    assert found["hippocampus: private − plain"] == ("−0.100", False)
    assert found["learned − algebraic, pooled: lower end of the interval"] == ("+0.200", True)
    assert found["brain tissue: time, private ÷ plain, median"] == ("1.15", True)
    (time,) = [value for what, value in found.items() if what.startswith("minutes")]
    assert time == ("not within 0.02 after 12.4", False)
    assert "| at least −0.02 | −0.100 | **no** |" in blocks.BLOCKS["goals"](places)


def test_phases_are_told_in_milliseconds(places):
    seconds = {"protect": 0.1, "process": 0.2, "recover": 0.03, "write": 0.004, "total": 0.34}
    entry = {"seconds": {"plain": seconds, "mixup": seconds | {"recover": 0.5}}}
    places.store("overhead", {"hippocampus": entry, "brain-tissue": entry})
    assert "| Hippocampus, plain | 100 | 200 | 30 | 4 | 340 |" in blocks.overhead_phases(places)
    assert "| Brain tissue, private | 100 | 200 | 500 | 4 | 340 |" in blocks.overhead_phases(places)


def test_time_of_a_training_that_was_resumed_is_not_told(places):
    evaluations = everything()
    evaluations["hippocampus-mixup"]["training"] = {}
    publish(places, evaluations)
    assert places.load("training-time") is None


def test_card_of_pictures_counts_pixels(places):
    places.store("nuclei-mixup", result("nuclei-mixup", [0.5] * 4) | {"unit": "pixel"})
    assert "HD95, px" in blocks.card(places, "nuclei-mixup")


def test_plots_name_their_results_and_follow_them(places):
    (places.root / "docs").mkdir()
    page = places.root / "docs" / "accuracy.md"
    page.write_text("<!-- figures:curve-plot -->\n<!-- /figures -->\n")
    publish(places, everything())
    places.store(audits.FRONTIER.name, {"frontier": SWEEP})
    places.store(together.RESULT, {"sets": {job.name: made_up(job) for job in sites.CENTERS}})
    update(places)
    # Those of speed are drawn in test_speed.py, those of every scheme in test_results_page.py.
    drawn = {name: own for name, (own, _) in plots.PLOTS.items() if "bench" not in own[0]}
    shown = {name: own for name, own in drawn.items() if own != (verdicts.RESULT,)}
    assert {file.stem for file in places.images.iterdir()} == set(shown)
    for name, sources in shown.items():
        assert plots.recorded(places, name) == places.digest(sources)
        with Image.open(places.images / f"{name}.png") as image:
            assert len(set(image.convert("L").resize((64, 40)).tobytes())) > 3, "nothing is drawn"
    assert "(images/curve.png)" in page.read_text()
    file = places.results / "curve.json"
    found = json.loads(file.read_text())
    found["points"][0]["learned"]["dice"] = 0.1
    file.write_text(json.dumps(found))
    update(places)
    assert plots.recorded(places, "curve") == places.digest(("curve",))
    file.unlink()
    update(places)
    assert not (places.images / "curve.png").exists()
    assert "No plot yet" in page.read_text()
