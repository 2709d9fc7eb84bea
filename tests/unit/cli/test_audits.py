"""What is told of an audit, and which files are none."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from veilseg.audit.findings import Control, Finding, Threat
from veilseg.cli.audits import disclosures
from veilseg.errors import InvalidInput
from veilseg.evaluation.bootstrap import Interval

BUNDLE = SimpleNamespace(bundle_id="b" * 64, name="tiny")
FOUND = Finding("A5", "Separation by a network", "image", Threat(), "SSIM").measured(
    Interval(0.7, 0.6, 0.8, 9, 10),
    {"mean image": 0.3},
    Control("easy", 1.0, low=0.9),
    Control("nobody", 0.3, 0.2, 0.4),
)
AUDIT = {
    "bundle_id": BUNDLE.bundle_id,
    "dataset": "heads",
    "effort": "quick",
    "references": "synthetic",
    "n_audited": 10,
    "n_patients": 9,
    "channels": {"image": [FOUND.document()], "mask": [], "identity": [], "membership": []},
}


def write(folder: Path, document: object, name: str = "audit.json") -> Path:
    file = folder / name
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def test_its_own_words(tmp_path: Path):
    found = disclosures([write(tmp_path, AUDIT)], [BUNDLE])[BUNDLE.bundle_id]
    assert (found.dataset, found.effort, found.images, found.patients) == ("heads", "quick", 10, 9)
    assert [name for name, _ in found.channels] == ["image", "mask", "identity", "membership"]
    image, mask, *_ = (sentence for _, sentence in found.channels)
    assert image.startswith("The server can see what the patient looks like: ")
    assert "SSIM 0.70 (0.60 to 0.80)" in image
    # What was not attacked is not safe.
    assert mask == (
        "Whether the server can draw the segmentation was not measured: no attack on it was asked "
        "for."
    )
    assert disclosures([], [BUNDLE]) == {}


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ("{", "is no audit: veilseg audit --json writes them"),
        ([], "is no audit"),
        ({"bundle_id": BUNDLE.bundle_id}, "is no audit"),
        ({**AUDIT, "channels": {"image": []}}, "is no audit"),
        ({**AUDIT, "bundle_id": "c" * 64}, "is of bundle cccccccccccc, which is not offered here"),
    ],
)
def test_what_is_no_audit_of_a_bundle_here(tmp_path: Path, document, line):
    with pytest.raises(InvalidInput, match=line):
        disclosures([write(tmp_path, document)], [BUNDLE])


def test_one_for_each_bundle(tmp_path: Path):
    files = [write(tmp_path, AUDIT), write(tmp_path, AUDIT, "again.json")]
    with pytest.raises(InvalidInput, match="another audit of tiny was given already"):
        disclosures(files, [BUNDLE])
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        disclosures([tmp_path / "none.json"], [BUNDLE])
