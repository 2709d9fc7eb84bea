"""Without passed controls a finding is no finding, and no verdict is better than the strongest."""

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

from veilseg.audit import attacks
from veilseg.audit.chance import hit_interval, label_interval, permutation_interval, rate
from veilseg.audit.findings import CONTROL_FAILED, Control, DoesNotApply, Finding, Threat
from veilseg.audit.report import shown
from veilseg.audit.verdict import MEASURES, nothing_known, sentence, share_learned, strongest
from veilseg.evaluation.bootstrap import Interval

FOUND = Interval(0.8, 0.7, 0.9, 5, 10)
PASSED = Control("easy", 1.0, low=0.9)
FAILED = Control("easy", 0.5, low=0.9)
NULL = Control("nobody", 0.3, 0.2, 0.4)
FINDING = Finding("A5", "Separation", "image", Threat(), "SSIM")


def document(value: float, baseline: float, **asked: str) -> dict:
    overall = Interval(value, value, value, 5, 10)
    found = FINDING.measured(overall, {"mean image": baseline}, PASSED, NULL, **asked)
    return found.document()


def test_finding_with_both_controls_counts():
    found = FINDING.measured(FOUND, {"mean image": 0.3}, PASSED, NULL)
    assert (found.status, found.value, found.n, found.n_patients) == ("run", 0.8, 10, 5)
    assert found.controls_passed


@pytest.mark.parametrize(
    ("positive", "null"),
    [
        (FAILED, NULL),
        (PASSED, Control("nobody", 0.5, 0.2, 0.4)),
        (PASSED, Control("nobody", float("nan"), 0.2, 0.4)),
    ],
)
def test_failed_control_is_never_safety(positive, null):
    found = FINDING.measured(Interval(0.01, 0, 0.1, 5, 10), {"mean image": 0.3}, positive, null)
    assert found.status == CONTROL_FAILED
    assert not found.document()["controls_passed"]
    text = sentence("image", [found.document()])
    assert text.startswith(
        "Whether the server can see what the patient looks like was not measured: no attack ran "
        "with its controls."
    )
    assert "hardly" not in text


def test_verdict_is_that_of_the_strongest_attack():
    weak, strong = document(0.35, 0.3), document(0.9, 0.3)
    assert strongest([weak, strong]) is strong
    assert "The server can see what the patient looks like:" in sentence("image", [weak, strong])
    assert "partly" in sentence("image", [document(0.5, 0.3)])
    assert "the server can hardly see" in sentence("image", [weak])


def test_little_that_weak_attacks_found_is_no_safety():
    """The mean image reaches 0.3: A3 found nothing, and A5 did not run with its controls."""
    weak = document(0.36, 0.33) | {"attack": "A3", "title": "Shared parts"}
    failed = FINDING.measured(FOUND, {"mean image": 0.3}, FAILED, NULL).document()
    for findings in ([weak], [weak, failed]):
        text = sentence("image", findings)
        assert text.startswith("Whether the server can see what the patient looks like was not")
        assert "(A5 or A10) ran with its controls. Of the others, the strongest: shared" in text
        assert "hardly" not in text
    # What a weak attack surely finds is found.
    strong = document(0.9, 0.3) | {"attack": "A3"}
    assert sentence("image", [strong]).startswith("The server can see")


def test_null_control_that_cannot_fail_is_none():
    """Of three people chance allows any rank-1."""
    everything = Control("nobody", 0.5, *hit_interval(3, 1 / 3))
    found = FINDING.measured(FOUND, {"chance": 1 / 3}, PASSED, everything)
    assert found.value is None
    assert found.status == "not run: of 5 patients chance allows any value: its control cannot fail"


def test_what_does_not_apply_hides_no_failure():
    missing = FINDING.not_run("nothing is encoded", DoesNotApply.status).document()
    assert missing["status"] == "not run: does not apply: nothing is encoded"
    findings = [document(0.9, 0.3), missing | {"attack": "A10"}]
    assert "did not run" not in sentence("image", findings)


def test_what_no_site_does_by_default_decides_nothing():
    usual, other = document(0.4, 0.3), document(0.99, 0.3, setting="one for all", occurs="never")
    assert strongest([usual, other]) is usual


def test_patient_and_reference_are_two_people():
    patient, reference = document(0.6, 0.3), document(0.95, 0.3) | {"person": "reference"}
    assert strongest([patient, reference]) is patient
    told = sentence("image", [patient, reference])
    assert "reaches SSIM 0.60" in told.partition("Of the person whose case is the reference")[0]
    assert told.endswith(
        "separation (A5) reaches SSIM 0.95 (0.95 to 0.95); knowing nothing gives 0.30."
    )


def test_attack_that_did_not_run_is_named_in_the_sentence():
    missing = FINDING.not_run("too few patients").document()
    assert missing["status"] == "not run: too few patients"
    assert missing["value"] is None
    assert "1 of 1 attacks did not run" in sentence("image", [document(0.9, 0.3), missing])


def test_share_counts_from_knowing_nothing_to_the_raw_image():
    assert share_learned(document(0.3, 0.3)) == pytest.approx(0)
    assert share_learned(document(0.65, 0.3)) == pytest.approx(0.5)
    assert share_learned(document(0.1, 0.3)) == 0
    assert nothing_known(document(0.5, 0.25)) == pytest.approx(0.25)


@pytest.mark.parametrize(("value", "passed"), [(0.2, True), (0.4, True), (0.41, False)])
def test_control_holds_both_ends(value, passed):
    assert Control("nobody", value, 0.2, 0.4).passed is passed


def test_open_ends_are_null_in_json():
    assert PASSED.document() == {
        "what": "easy",
        "value": 1.0,
        "low": 0.9,
        "high": None,
        "passed": True,
    }


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        (Threat(gallery=3), "3 candidates"),
        (Threat(known_pairs=5), "5 images with their proxies"),
        (Threat(known_pairs=1), "1 image with its proxy"),
        (Threat(proxies_per_subject=2), "2 proxies of one person"),
        (Threat(colluding_site=True), "what one site keeps"),
        (Threat(False, False, False, False), "nothing else"),
    ],
)
def test_threat_in_words(threat, words):
    assert words in threat.in_words()


def test_permutation_interval_holds_chance_and_excludes_an_alignment():
    rng = np.random.default_rng(0)
    scores = rng.normal(0.5, 0.1, (12, 12))
    low, high = permutation_interval(scores)
    assert low < scores.mean() < high
    aligned = scores + 0.3 * np.eye(12)
    assert np.diag(aligned).mean() > permutation_interval(aligned)[1]


def test_permutation_interval_is_rarely_left_by_chance():
    """At 99.9 % one in a thousand; of 100 none but with probability 0.1, fixed seeds."""
    left = 0
    for seed in range(100):
        scores = np.random.default_rng([1, seed]).normal(size=(8, 8))
        low, high = permutation_interval(scores, seed)
        left += not low <= np.diag(scores).mean() <= high
    assert left <= 1


def test_hit_interval_is_binomial():
    assert hit_interval(10, 0.1) == (0.0, 0.5)
    low, high = hit_interval(100, 0.5)
    assert low == pytest.approx(0.34, abs=0.01)
    assert high == pytest.approx(0.66, abs=0.01)


def test_label_interval_draws_whole_patients():
    values = np.random.default_rng(0).normal(size=40)
    member = np.arange(40) < 20
    patients = [f"p{number // 2}" for number in range(40)]

    def gap(scores, member):
        return float(scores[member].mean() - scores[~member].mean())

    low, high = label_interval(values, member, patients, gap)
    assert low < 0 < high < 2
    # A patient's two values go together: twins widen what chance can do.
    twins = np.repeat(np.random.default_rng(1).normal(size=20), 2)
    alone = label_interval(twins, member, [str(n) for n in range(40)], gap)
    together = label_interval(twins, member, patients, gap)
    assert together[1] - together[0] > 1.2 * (alone[1] - alone[0])


def test_what_a_site_can_be_told_to_do_is_said_beside():
    usual = document(0.5, 0.3)
    told = document(0.9, 0.3, setting="16 fresh proxies", occurs="if asked for")
    text = sentence("image", [usual, told])
    assert "looks like: separation (A5) reaches SSIM 0.50" in text
    assert "With 16 fresh proxies, separation (A5) reaches SSIM 0.90" in text
    assert "With" not in sentence("image", [told | {"occurs": "by default"}, usual])


def test_interval_that_holds_chance_is_no_finding():
    wide = FINDING.measured(Interval(0.64, 0.41, 0.83, 5, 10), {"chance": 0.5}, PASSED, NULL)
    assert "cannot be told from 5 people" in sentence("image", [wide.document()])


def test_help_of_a_colluding_site_is_said_and_what_there_is_without_it():
    alone = document(0.5, 0.3)
    helped = FINDING.measured(FOUND, {"mean image": 0.3}, PASSED, NULL)
    helped = replace(helped, threat=Threat(colluding_site=True)).document()
    text = sentence("image", [alone, helped])
    assert "(A5, with a colluding site) reaches SSIM 0.80" in text
    assert "Without a colluding site, separation (A5) reaches SSIM 0.50" in text
    assert "Without" not in sentence("image", [alone])


# Of these, 1 is not everything: a reference named right, gains, shares of voxels, errors.
ON_SCALES_OF_THEIR_OWN = {"hit rate", "% of voxels"}


def test_every_attack_counts_for_the_verdict_or_has_a_reason_not_to():
    """Errors, of which less leaks more, never do."""
    names = [f"{attacks.__name__}.{one.name}" for one in iter_modules(attacks.__path__)]
    of_attacks = [vars(import_module(name)).values() for name in names]
    metrics = {
        one.metric.partition(",")[0]
        for some in of_attacks
        for one in some
        if isinstance(one, Finding) and one.direction == "higher leaks more"
    }
    assert metrics - ON_SCALES_OF_THEIR_OWN == set(MEASURES)


def test_gain_of_one_attack_over_another_is_no_measure_of_all():
    assert share_learned(document(0.9, 0.1) | {"metric": "SSIM gained over one proxy"}) is None


def test_weak_attack_that_found_something_has_found_it():
    """A failed positive control forbids to call anything safe, not to call it leaking."""
    failed = FINDING.measured(FOUND, {"mean image": 0.3}, FAILED, NULL).document()
    text = sentence("image", [failed])
    assert "was not measured" in text
    assert "Though its control failed, separation (A5) reaches SSIM 0.80" in text
    blind = FINDING.measured(FOUND, {"mean image": 0.3}, FAILED, Control("nobody", 0.9, 0.2, 0.4))
    assert "Though" not in sentence("image", [blind.document()])


def test_surely_learned_beats_a_higher_value_that_may_be_chance():
    wide = FINDING.measured(Interval(0.9, 0.2, 1.0, 5, 10), {"chance": 0.3}, PASSED, NULL)
    sure = document(0.6, 0.3)
    assert strongest([wide.document(), sure]) is sure


def test_nothing_is_said_of_others_from_three_people():
    few = FINDING.measured(Interval(0.9, 0.8, 1.0, 3, 3), {"chance": 0.3}, PASSED, NULL)
    assert strongest([few.document()]) is None


@pytest.mark.parametrize(("hits", "low", "high"), [([1] * 12, 0.735, 1), ([0] * 12, 0, 0.265)])
def test_all_or_none_is_not_certain(hits, low, high):
    found = rate(hits, [f"p{number}" for number in range(12)])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-3)


def test_small_figures_are_not_rounded_to_nothing():
    assert [shown(value) for value in (0.0, 0.00049, 0.0049, 0.005, 0.756, -0.0001)] == [
        *("0.00", "0.0005", "0.005", "0.01", "0.76", "-0.0001")
    ]
