"""``veilseg audit`` as a user runs it: files, exit codes, lines of errors, going on."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import phantoms
import pytest

from veilseg.audit.attacks import averaging
from veilseg.bundle import open_client_half, open_server_half, seal
from veilseg.datasets.layout import read_dataset

ROOT = Path(__file__).resolve().parents[2]
# Of twenty people the last four are audited.
PEOPLE = tuple(f"person{number:02d}" for number in range(20))
UNTRAINED = "A4,A2,A2b,A3"


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return phantoms.make_dataset(tmp_path_factory.mktemp("audit") / "phantoms", PEOPLE)


@pytest.fixture
def audited(veilseg, tmp_path):
    """Run an audit that has to succeed; gives the JSON file's content."""

    def run(*arguments, attacks=UNTRAINED):
        files = ["--json", tmp_path / "audit.json", "--html", tmp_path / "audit.html"]
        ended = veilseg("audit", *arguments, *files, "--quick", "--attacks", attacks)
        assert ended.code == 0, ended.err
        return json.loads((tmp_path / "audit.json").read_text())

    return run


@pytest.fixture
def refused(veilseg, tmp_path):
    """Run an audit that has to fail; gives its one line."""

    def run(code, *arguments):
        files = ["--json", tmp_path / "audit.json", "--html", tmp_path / "audit.html"]
        ended = veilseg("audit", *arguments, *files, "--quick")
        (line,) = [line for line in ended.err.splitlines() if line.startswith("veilseg:")]
        assert (ended.code, ended.out) == (code, "")
        assert not list(tmp_path.glob("audit.*"))
        return line.removeprefix("veilseg: ")

    return run


def test_json_has_what_scripts_read(audited, mixup_bundle, people):
    found = audited(mixup_bundle, people)
    assert list(found["channels"]) == ["image", "mask", "identity", "membership"]
    assert (found["scheme"], found["coefficient"], found["effort"]) == ("mixup", 0.5, "quick")
    assert found["bundle_id"] == phantoms.bundle_id(mixup_bundle)
    assert (found["n_audited"], found["n_patients"]) == (4, 4)
    image = found["channels"]["image"]
    assert [one["attack"] for one in image] == ["A4", "A2", "A2", "A2b", "A2b", "A3", "A3"]
    wanted = {
        *("attack", "status", "metric", "direction", "value", "interval", "baseline"),
        *("positive_control", "null_control", "controls_passed", "threat", "occurs"),
    }
    assert all(wanted <= set(one) for one in image)
    memoised = image[2]
    assert (memoised["setting"], memoised["value"]) == ("memoised", 0)
    assert memoised["interval"] == [0, 0]


def test_page_is_one_file_for_people(audited, mixup_bundle, people, tmp_path):
    audited(mixup_bundle, people)
    page = (tmp_path / "audit.html").read_text()
    assert page.startswith("<!doctype html>")
    assert f"What a server learns from {open_client_half(mixup_bundle).manifest.name}" in page
    for heading in ("Image:", "Mask:", "Identity:", "Membership:", "Who attacks"):
        assert heading in page
    assert "It is not encryption and makes nobody anonymous" in page
    assert "images of real patients" in page
    # Nothing is fetched from anywhere.
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []


def test_audit_goes_on_where_it_was(monkeypatch, audited, mixup_bundle, people):
    first = audited(mixup_bundle, people)

    def twice(*_):
        raise AssertionError("attacked again")

    monkeypatch.setattr(averaging, "means", twice)
    assert audited(mixup_bundle, people) == first


def test_plain_has_no_attack_on_mixtures_and_says_so(audited, plain_bundle, people):
    found = audited(plain_bundle, people)["channels"]["image"]
    assert [one["status"][:8] for one in found] == ["not run:"] * 4
    assert "the image" in found[0]["status"]


def test_membership_is_unknown_on_other_data(audited, mixup_bundle, people):
    (one,) = audited(mixup_bundle, people, attacks="A14")["channels"]["membership"]
    assert one["status"] == (
        "not run: not the data the bundle was trained on: who was in is unknown"
    )
    assert one["value"] is None


def test_too_few_patients_leave_what_can_be_run(audited, mixup_bundle, tmp_path):
    few = phantoms.make_dataset(tmp_path / "few", PEOPLE[:12])
    found = audited(mixup_bundle, few)["channels"]["image"]
    status = {one["attack"]: one["status"] for one in found}
    assert status["A4"] == "run"
    assert status["A2"] == "not run: 3 patients to audit: 4 are needed"


def test_references_of_the_same_data_are_other_people(audited, mixup_bundle, people):
    found = audited(mixup_bundle, people, "--references", people)
    assert found["references"] == "labelled"
    assert found["channels"]["image"][0]["status"] == "run"


def test_half_of_a_bundle(refused, mixup_bundle, people, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(mixup_bundle, half)
    shutil.rmtree(half / "server")
    assert refused(3, half, people) == f"{half}: no server half: server/manifest.json is missing"


@pytest.mark.parametrize(("patients", "code"), [(PEOPLE[:1], 3), (PEOPLE[:2], 3)])
def test_fewer_than_three_patients(refused, mixup_bundle, tmp_path, patients, code):
    few = phantoms.make_dataset(tmp_path / "few", patients)
    assert f"{len(patients)} patients: training" in refused(code, mixup_bundle, few)


def test_data_of_another_kind(refused, mixup_bundle, people, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(people, other)
    described = json.loads((other / "dataset.json").read_text())
    described["labels"] = {"background": 0, "spleen": 1, "liver": 2}
    (other / "dataset.json").write_text(json.dumps(described))
    assert refused(3, mixup_bundle, other).startswith(f"{other}: dataset.json: labels are not")


def test_bundle_that_has_seen_everybody(refused, tmp_path, people):
    folder = phantoms.make_bundle(tmp_path / "tuned", "mixup")
    data = read_dataset(people).content_hash()
    start = {"data_sha256": data, "fold": "1/4", "init": None}
    stated = {"data_sha256": data, "init": {"bundle_id": "a", "provenance": start}, "fold": None}
    client, server = open_client_half(folder).manifest, open_server_half(folder).manifest
    seal(folder, replace(client, provenance=stated), server)
    assert "no patient is left that it has not seen" in refused(3, folder, people)


def test_unknown_attack(refused, mixup_bundle, people):
    line = refused(2, mixup_bundle, people, "--attacks", "A4,A99")
    assert line == (
        "--attacks A99: there are A4, A2, A2b, A3, A8, A1, A5, A5r, A6, A10, A10b, A11, A12p, "
        "A16, A16r, A16e, A12, A9, A15e, A15, A15r, A14, A14e"
    )


def test_results_have_somewhere_to_go(veilseg, mixup_bundle, people, tmp_path):
    same = tmp_path / "one"
    ended = veilseg("audit", mixup_bundle, people, "--json", same, "--html", same)
    assert (ended.code, ended.out) == (2, "")
    assert "would overwrite each other" in ended.err
    nowhere = tmp_path / "no" / "audit.json"
    ended = veilseg("audit", mixup_bundle, people, "--json", nowhere, "--html", same)
    assert ended.code == 3
    assert "does not exist" in ended.err


@pytest.mark.timeout(1800)
def test_quick_audit_of_a_shipped_bundle_passes_its_controls(veilseg, shared_data, tmp_path):
    """What is shipped, on real images: every control, and what is known to leak."""
    files = ["--json", tmp_path / "audit.json", "--html", tmp_path / "audit.html"]
    bundle, dataset = ROOT / "models" / "hippocampus-mixup", shared_data / "hippocampus"
    ended = veilseg("audit", bundle, dataset, "--quick", *files)
    assert ended.code == 0, ended.err
    channels = json.loads((tmp_path / "audit.json").read_text())["channels"]
    everything = [one for channel in channels.values() for one in channel]
    found = {(one["attack"], one["setting"]): one for one in everything}
    left_out = {one["attack"] for one in everything if one["status"] != "run"}
    # It takes minutes for each image; a network of its own; synthetic references show nobody;
    # nothing is encoded.
    of_encodings = {"A9", "A10", "A10b", "A11", "A12", "A12p", "A14e", "A15e", "A16e"}
    assert left_out == {"A6", "A8", "A5r", "A16r", "A15r"} | of_encodings
    unapplied = {one["attack"] for one in everything if "does not apply" in one["status"]}
    assert unapplied == left_out - {"A6", "A8"}
    assert all(one["controls_passed"] for one in found.values() if one["status"] == "run")
    by_attack = {one["attack"]: one for one in reversed(everything)}
    assert by_attack["A5"]["positive_control"]["value"] >= 0.95
    assert by_attack["A1"]["metric"] == "hit rate"
    assert by_attack["A1"]["positive_control"]["value"] >= 0.9
    assert found["A1", "the site gives its reference away"]["value"] < 1e-3
    assert found["A2", "memoised"]["value"] == 0
    # An attack that is weaker than looking at the mixture would prove nothing.
    by_attacker = by_attack["A5"]["details"]["ssim"]
    assert by_attacker["trained network"] > by_attacker["the proxy itself"]
    assert by_attacker["trained network"] > by_attacker["linear attacker"]
    assert by_attack["A16"]["value"] > by_attack["A16"]["baseline"]["population-mean mask"]
    (averaged,) = (one for one in channels["mask"] if one["occurs"] == "if asked for")
    assert averaged["value"] > by_attack["A16"]["baseline"]["population-mean mask"]
    assert by_attack["A15"]["value"] >= 0.8


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_frames_of_a_heart_are_known_to_be_of_one_person(veilseg, shared_data, tmp_path):
    """Real second images of the same people: raw against raw must succeed, or nothing is said."""
    data, bundle = shared_data / "cardiac_acdc_2d", tmp_path / "heart"
    options = ["--scheme", "mixup", "--fold", "1/5", "--steps", 60]
    ended = veilseg("train", data, "--out", bundle, *options)
    assert ended.code == 0, ended.err
    files = ["--json", tmp_path / "audit.json", "--html", tmp_path / "audit.html"]
    attack = ["--attacks", "A15", "--quick", "--references", data]
    ended = veilseg("audit", bundle, data, *attack, *files)
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "audit.json").read_text())["channels"]["identity"][0]
    assert found["setting"] == "gallery: their other scans"
    assert found["positive_control"]["value"] >= 0.8
    assert found["controls_passed"]
    assert found["n_patients"] >= 15
