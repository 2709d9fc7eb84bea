"""The audit's page: what is said of attacks that ran, did not run, and do not apply."""

import pytest

from veilseg.audit.attacks.layout import CORRELATION, EXPLAINED
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat
from veilseg.audit.report import page
from veilseg.evaluation.bootstrap import Interval

FOUND = Interval(0.8, 0.7, 0.9, 5, 10)
PASSED, NULL = Control("easy", 1.0, low=0.9), Control("nobody", 0.3, 0.2, 0.4)
SEPARATION = Finding("A5", "Separation", "image", Threat(), "SSIM")


@pytest.fixture
def shown():
    """The page of some findings on the image."""

    def build(*findings, scheme="mixup", references="synthetic"):
        document = {
            "bundle": "tiny <b>",
            "scheme": scheme,
            "references": references,
            "coefficient": 0.5,
            "effort": "quick",
            "n_audited": 10,
            "n_patients": 5,
            "channels": {
                "image": [one.document() for one in findings],
                **{channel: [] for channel in ("mask", "identity", "membership")},
            },
        }
        return page(document, "", None, 180)

    return build


def test_attackers_of_what_a_scheme_does_not_do_are_named_in_no_table(shown):
    ran = SEPARATION.measured(FOUND, {"mean image": 0.3}, PASSED, NULL)
    failed = Finding("A6", "Prior", "image", Threat(), "SSIM").not_run("too few patients")
    inversion = Finding("A10", "Inversion", "image", Threat(known_pairs=1), "SSIM")
    found = shown(ran, failed, inversion.not_run("nothing is encoded", DoesNotApply.status))
    assert "tiny &lt;b&gt;" in found
    rows = [row for row in found.split("<tr>") if row.startswith("<td>A")]
    assert [row[4:6] for row in rows] == ["A5", "A6", "A5", "A6"]
    assert "Do not apply to this scheme: A10 Inversion: nothing is encoded." in found


def test_how_plainly_encodings_show_the_image_is_said_where_it_was_measured(shown):
    of_layout = {CORRELATION: 0.72, EXPLAINED: 0.414}
    ran = SEPARATION.measured(FOUND, {"mean image": 0.3}, PASSED, NULL, of_layout)
    found = shown(ran)
    assert "by up to 0.72, and a linear probe of the tokens explains 41% of its variance" in found
    assert "linear probe" not in shown(SEPARATION.measured(FOUND, {}, PASSED, NULL))


def test_what_is_mixed_and_what_is_encoded_have_words_of_their_own(shown):
    ran = SEPARATION.measured(FOUND, {"mean image": 0.3}, PASSED, NULL)
    of_mixtures = "references average away", "Keep the vault private", "the mixing coefficient"
    of_encodings = "Whoever has a site's half", "gives the key away"
    for scheme, references, told, other in (
        ("mixup", "synthetic", of_mixtures, of_encodings),
        ("encoding", "none", of_encodings, of_mixtures),
    ):
        found = shown(ran, scheme=scheme, references=references)
        assert all(words in found for words in told)
        assert not any(words in found for words in other)
    assert "that is mixed in" not in found
    assert "noise averages away" in shown(ran, scheme="noise", references="none")
