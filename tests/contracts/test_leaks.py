"""What docs/privacy.md says is what audits found."""

import json
from dataclasses import replace

import pytest
from evidence import audits, leaks, together
from evidence.cells import NOT_YET
from evidence.places import Places

from veilseg.audit.attacks import (
    averaging,
    blind_inversion,
    follow_up,
    gallery,
    inversion,
    key_recovery,
    mask_recovery,
    reidentification,
    separation,
    shared_reference,
    support,
)
from veilseg.audit.findings import CHANNELS, CONTROL_FAILED, Control
from veilseg.evaluation.bootstrap import Interval

PASSED, NULL = Control("easy", 1.0, low=0.9), Control("nobody", 0.3, 0.2, 0.4)
FAILED = Control("easy", 0.1, low=0.9)


def found(finding, value, baseline, positive=PASSED, **fields):
    details = fields.pop("details", {})
    overall = Interval(value, value - 0.01, value + 0.01, 7, 40)
    measured = finding.measured(overall, baseline, positive, NULL, details)
    return replace(measured, **fields).document()


def result(a5=0.7) -> dict:
    kept = {"all probabilities": 0.87, "strongest class only": 0.81}
    rates = {
        f"{size} candidates, {warp}": rate
        for size in (3, 10)
        for warp, rate in (("no warp", 1.0), ("secret warp", 0.6))
    }
    by_default = [
        found(support.FINDING, 0.0, {"backgrounds not filled": 21.6}),
        found(
            *(averaging.FINDING, 0.9, {"mean image": 0.35, "one proxy": 0.67}),
            details={"ssim": {"1": 0.67, "16": 0.9}},
            setting="16 fresh proxies, as with --allow-repeat",
            occurs="if asked for",
        ),
        found(
            averaging.FINDING,
            0.0,
            {"fresh proxies": 0.23},
            metric="SSIM gained",
            setting="memoised",
        ),
        found(follow_up.FINDING, 0.76, {"mean image": 0.35}, occurs="never"),
        found(follow_up.FINDING, 0.78, {"mean image": 0.35}, occurs="if asked for"),
        found(shared_reference.FINDING, 0.89, {"mean image": 0.35}, occurs="never"),
        found(shared_reference.FINDING, 0.66, {"mean image": 0.35}),
        found(gallery.FINDING, 0.6, {"chance": 0.1}, details={"hit_rate": rates}),
        found(separation.FINDING, a5, {"mean image": 0.35}),
    ]
    mask = {"population-mean mask": 0.66}
    return {
        "coefficient": 0.5,
        "channels": {
            "image": by_default,
            "mask": [
                found(mask_recovery.FINDING, 0.8, mask, details={"strongest": "both"}),
                found(
                    *(mask_recovery.FINDING, 0.79, mask),
                    details={"dice_of_the_site": kept},
                    setting="answers: strongest class only",
                    occurs="never",
                ),
                found(
                    *(mask_recovery.FINDING, 0.83, mask),
                    setting="4 fresh proxies and their answers",
                    occurs="if asked for",
                ),
            ],
            "identity": [found(reidentification.FINDING, 0.95, {"chance": 0.03})],
            "membership": [],
        },
        "frontier": [
            {"what": "mixture", "coefficient": 0.5, "references": 2, "dice": 0.8, "image": 0.7}
            | {"mask": 0.7, "identity": 0.9, "membership": None}
        ],
    }


@pytest.fixture
def places(tmp_path) -> Places:
    return Places(tmp_path, tmp_path / "data", tmp_path / "work")


def store(places: Places, *jobs: audits.Audit, **fields: float) -> None:
    places.results.mkdir(exist_ok=True)
    for job in jobs:
        (places.results / f"{job.name}.json").write_text(json.dumps(result(**fields)))


@pytest.mark.parametrize(
    "block",
    [
        *(leaks.verdicts, leaks.defences, leaks.masks, leaks.averaging, leaks.frontier_settings),
        leaks.collusion,
    ],
)
def test_what_was_not_audited_is_not_told(places, block):
    assert block(places) == NOT_YET
    assert "not measured yet" in leaks.leaks(places)


def test_table_has_the_strongest_attack_of_what_is_done_by_default(places):
    store(places, audits.MIXUP)
    table = leaks.leaks(places)
    assert "| hippocampus, private | image | A5: supervised separation | SSIM 0.70" in table
    assert "| hippocampus, private | identity | A15" in table
    assert "0.90" not in table  # sixteen fresh proxies, if asked for
    assert "0.89" not in table  # one reference for all, never


def test_defences_are_priced_by_the_attack_they_are_against(places):
    store(places, audits.MIXUP)
    store(places, audits.LABELLED, a5=0.6)
    table = leaks.defences(places)
    assert "| A4, % of voxels that show the patient alone | 0.0 (-0.0 to 0.0) | 21.6 |" in table
    assert (
        "| memoised proxies | A2, SSIM gained over one proxy | 0.00 (-0.01 to 0.01) | 0.23 |"
        in table
    )
    assert "| secret warp, 10 public candidates | A1, hit rate | 0.60 | 1.00 |" in table
    assert "the site's Dice: 0.810 instead of 0.870" in table
    assert "| A5, SSIM | 0.70 (0.69 to 0.71) | 0.60 (0.59 to 0.61) |" in table


def test_attack_that_failed_its_control_is_no_figure(places):
    failed = result()
    failed["channels"]["identity"] = [
        found(reidentification.FINDING, 0.05, {"chance": 0.03}, positive=FAILED)
    ]
    places.results.mkdir()
    file = places.results / f"{audits.MIXUP.name}.json"
    file.write_text(json.dumps(failed))
    assert "| identity | none ran with its controls |" in leaks.leaks(places)
    unmeasured = "Whether the server can tell whose image it is was not measured"
    assert f"- **Identity.** {unmeasured}: no attack ran with its controls." in leaks.verdicts(
        places
    )


def test_details_of_an_attack_that_failed_its_control_are_no_figures(places):
    """A curve of A2, hit rates of A1, the inversion by so many pairs."""
    failed = result()
    for one in failed["channels"]["image"]:
        one["status"] = CONTROL_FAILED
    curve = {"0 pairs": 0.35, "1 pairs": 0.31, "all its images": 0.72}
    pairs = found(
        *(inversion.FINDING, 0.72, {"mean image": 0.35}),
        details={"ssim_by_pairs": curve},
        setting="known pairs: all its images",
    )
    one_pair = {**pairs, "setting": "known pairs: 1 pairs", "status": CONTROL_FAILED}
    places.store(audits.MIXUP.name, failed)
    places.store(audits.ENCODED.name, {"channels": {"image": [one_pair, pairs]}})
    assert "nothing is said" in leaks.averaging(places)
    assert "A1, hit rate" not in leaks.defences(places)
    assert "| without a key | 0.35 | – | 0.72 |" in leaks.inversion(places)
    # Without a pair, an attacker has encoders of its own; what its attack finds counts.
    blind = found(blind_inversion.FINDING, 0.41, {"mean image": 0.35})
    places.store(audits.ENCODED.name, {"channels": {"image": [one_pair, pairs, blind]}})
    assert "| without a key | 0.41 | – | 0.72 |" in leaks.inversion(places)


def test_masks_are_told_for_each_coefficient_and_not_for_coarse_answers(places):
    swept = result()
    mask = swept["channels"]["mask"]
    mask.append({**mask[0], "setting": "a = 0.3", "occurs": "never", "value": 0.9})
    places.results.mkdir()
    (places.results / f"{audits.CURVE.name}.json").write_text(json.dumps(swept))
    assert [line.split(" | ")[0] for line in leaks.masks(places).splitlines()[2:]] == [
        "| 0.5",
        "| 0.3",
    ]


def test_every_channel_has_its_words(places):
    store(places, audits.MIXUP)
    lines = leaks.verdicts(places).splitlines()
    assert [line.partition(".")[0] for line in lines] == [f"- **{c.capitalize()}" for c in CHANNELS]


def test_settings_name_their_references(places):
    store(places, audits.FRONTIER)
    line = leaks.frontier_settings(places).splitlines()[-1]
    assert line == "| a = 0.5, 2 references | 0.800 | 0.70 | 0.70 | 0.90 | – |"


def test_audits_are_of_trained_bundles_and_have_names_of_their_own():
    names = [job.name for job in audits.AUDITS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("audit-") for name in names)


def test_collusion_is_told_of_every_data_set_that_was_attacked(places):
    curve = {"1 pairs": 0.31, "all its images": 0.72, "any number (black box)": 0.78}
    pairs = found(inversion.FINDING, 0.78, {"mean image": 0.35}, details={"ssim_by_pairs": curve})
    errors = {"error_by_images": {"1": 0.2, "20": 0.004}}
    key = found(key_recovery.FINDING, 0.004, {"the key not known": 1.4}, details=errors)
    name, job = next(iter(together.INVERTED.items()))
    places.store(name, {"channels": {"image": [pairs]}})
    told = leaks.collusion(places)
    assert f"| {job.data.title}, all sites | 0.31 | 0.72 | 0.78 |" in told
    assert "A11" not in told
    places.store(name, {"channels": {"image": [pairs, key]}})
    told = leaks.collusion(places)
    assert f"{job.data.title}, all sites: a key hides this share" in told
    assert "known images (A11): 0.200 from 1, 0.004 from 20." in told
