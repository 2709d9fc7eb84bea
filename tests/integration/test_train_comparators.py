"""The comparators as users run them: train, serve, segment, evaluate and audit, in 2D and 3D."""

import json
from dataclasses import replace

import phantoms
import pytest
from typer.testing import CliRunner

from veilseg.audit import workshop
from veilseg.bench.evidence.cells import Run
from veilseg.bench.evidence.data import HIPPOCAMPUS
from veilseg.bundle import open_client_half
from veilseg.cli.main import app
from veilseg.schemes.deformation.client import GENERATOR_FILE
from veilseg.schemes.privacy_net.client import ENCODER_FILE
from veilseg.schemes.registry import NEEDS_VAULT

pytestmark = pytest.mark.usefixtures("remembered_exports")

# Of twenty people the last four are audited.
PEOPLE = tuple(f"person{number:02d}" for number in range(20))
# After few, classes are nearly tied and no self-test can tell which should win.
STEPS = 40
FILES = {"noise": set(), "deformation": {GENERATOR_FILE}, "privacy_net": {ENCODER_FILE}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data sets by their dimensions."""
    folder = tmp_path_factory.mktemp("comparators")
    return {dims: phantoms.make_dataset(folder / f"{dims}d", PEOPLE, dims) for dims in (2, 3)}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A bundle by scheme and dimensions, trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("bundles")

    def build(scheme, dims):
        out = folder / f"{scheme}-{dims}d"
        if not out.exists():
            options = ["--scheme", scheme, "--steps", STEPS, "--out", out]
            done = CliRunner().invoke(app, list(map(str, ["train", data[dims], *options])))
            assert done.exit_code == 0, done.output
        return out

    return build


@pytest.fixture
def image(data):
    return lambda dims: min((data[dims] / "imagesTr").iterdir())


@pytest.mark.parametrize(
    "scheme", ["noise", "privacy_net", pytest.param("deformation", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.long)])
def test_every_command(veilseg, start_server, trained, data, image, tmp_path, scheme, dims):
    bundle = trained(scheme, dims)
    manifest = open_client_half(bundle).manifest
    assert (manifest.scheme, manifest.spatial_dims) == (scheme, dims)
    assert set(manifest.files) == FILES[scheme]
    assert manifest.settings["strength"] > 0
    # As `veilseg bench evidence` looks for it.
    wanted = Run(HIPPOCAMPUS, scheme, STEPS, 0).defined("", "")["variant"]
    assert manifest.provenance["variant"] == wanted
    card = " ".join((bundle / "README.md").read_text().split())
    assert f"{manifest.settings['strength']:g}" in card
    assert "comparator" in card
    site = ["--bundle", bundle]
    if scheme in NEEDS_VAULT:
        made = veilseg("site", "init", tmp_path / "vault", *site)
        assert (made.code, "with a key;" in made.out) == (0, True), made.err
        site += ["--vault", tmp_path / "vault", "--subject", "somebody"]
    server = start_server(bundle)
    near, far, told = (tmp_path / name for name in ("near.nii.gz", "far.nii.gz", "told.json"))
    where = ["--server", f"http://{server.address}", "--json", told]
    for out, options in ((near, ["--local"]), (far, where), (far, where)):
        ended = veilseg("segment", image(dims), *site, *options, "-o", out)
        assert ended.code == 0, ended.err
    # The vault is the same, so both times the same proxy was sent, or the ledger would object.
    same = phantoms.read_labels(near) == phantoms.read_labels(far)
    assert same.mean() > 0.98
    result = tmp_path / "result.json"
    ended = veilseg("evaluate", bundle, data[dims], "--split", "test", "--json", result)
    assert ended.code == 0, ended.err
    found = json.loads(result.read_text())
    assert found["scheme"] == scheme
    assert found["strength"] == manifest.settings["strength"]
    assert len(found["cases"]) == 4


ATTACKS = "A1,A2,A5,A10,A14,A15,A16"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "scheme",
    [
        "privacy_net",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("noise", "deformation")),
    ],
)
def test_audit(veilseg, trained, data, tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(workshop, "QUICK", replace(workshop.QUICK, steps=20, proxies=4))
    files = ["--json", tmp_path / "audit.json", "--html", tmp_path / "audit.html"]
    bundle = trained(scheme, 2)
    ended = veilseg("audit", bundle, data[2], "--quick", *files, "--attacks", ATTACKS)
    assert ended.code == 0, ended.err
    document = json.loads((tmp_path / "audit.json").read_text())
    assert document["strength"] > 0
    found = {one["attack"]: one for channel in document["channels"].values() for one in channel}
    tried = {name for name, one in found.items() if one["positive_control"] is not None}
    assert tried == {"A5", "A14", "A15", "A16"} | ({"A2"} if scheme == "noise" else set())
    for name in set(found) - tried:
        assert found[name]["status"].startswith("not run: ")
        assert "is the image" not in found[name]["status"]
    # What makes proxies of its own has a site's encoder.
    assert found["A5"]["threat"]["colluding_site"] == (scheme == "privacy_net")


def refused(veilseg, *arguments):
    ended = veilseg(*arguments)
    (line,) = [line for line in ended.err.splitlines() if line.startswith("veilseg: ")]
    return ended.code, line.removeprefix("veilseg: ")


def test_vaults_and_references_that_do_not_fit(veilseg, trained, data, image, tmp_path):
    noise, out = trained("noise", 2), tmp_path / "out.nii.gz"
    code, line = refused(
        *(veilseg, "segment", image(2), "--bundle", noise, "-o", out),
        *("--server", "http://127.0.0.1:9"),
    )
    assert (code, line.startswith("--vault: noise-2d needs one")) == (2, True)
    vault = tmp_path / "vault"
    code, line = refused(veilseg, "site", "init", vault, "--bundle", noise, "--references", data[2])
    assert (code, line) == (2, "--references: noise mixes nothing: it takes none")
    assert not vault.exists()


def test_what_a_scheme_has_not(veilseg, trained, data, image, tmp_path):
    out = tmp_path / "out.nii.gz"
    code, line = refused(
        *(veilseg, "segment", image(2), "--bundle", trained("privacy_net", 2), "-o", out),
        *("--local", "--mixtures", 2),
    )
    assert (code, "privacy_net mixes nothing" in line) == (2, True)
    assert not out.exists()
    files = ["--json", tmp_path / "a.json", "--html", tmp_path / "a.html"]
    code, line = refused(veilseg, "audit", trained("noise", 2), data[2], "--frontier", *files)
    assert (code, line) == (2, "--frontier: noise-2d mixes nothing: nothing is swept")


@pytest.mark.parametrize(
    ("scheme", "strength", "reason"),
    [
        ("plain", "0.1", "--strength: plain has none"),
        ("noise", "0", "--strength 0: needs a number above 0"),
        ("noise", "inf", "--strength inf: needs a number above 0"),
    ],
)
def test_strengths_that_are_none(veilseg, data, tmp_path, scheme, strength, reason):
    options = ["--scheme", scheme, "--strength", strength, "--out", tmp_path / "bundle"]
    assert refused(veilseg, "train", data[2], *options) == (2, reason)
    assert not (tmp_path / "bundle").exists()


def test_discriminator_begins_anew_where_a_bundle_is_gone_on_from(veilseg, trained, data, tmp_path):
    start, out = trained("privacy_net", 2), tmp_path / "longer"
    options = ["--scheme", "privacy_net", "--strength", "0.5", "--init", start, "--steps", 2]
    done = veilseg("train", data[2], *options, "--out", out)
    assert done.code == 0, done.err
    assert json.loads((out / "weights" / "run.json").read_text())["variant"] == "strength 0.5"
    assert open_client_half(out).manifest.settings["strength"] == 0.5
