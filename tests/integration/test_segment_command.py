"""``veilseg segment`` where everything is as it should be."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from servers import OracleServer, ideal_server

from veilseg.bundle import open_client_half
from veilseg.client import pipeline
from veilseg.imaging.volume import Geometry, LabelMap
from veilseg.schemes.mixup.client import MixupClient
from veilseg.vault.vault import Vault


@pytest.fixture(scope="module")
def server(start_server: Callable, mixup_bundle: Path, plain_bundle: Path):
    """The real server with both bundles, as a process."""
    return start_server(mixup_bundle, plain_bundle)


def make_ideal(
    oracle: OracleServer, bundle: Path, vault: Path, image: Path, labels: np.ndarray
) -> None:
    """Let the oracle know the truth of an image, and of the reference this vault will take."""
    half = open_client_half(bundle)
    with Vault.open(vault, half.manifest.bundle_id) as opened:
        outgoing = pipeline.protect([image], "", half.manifest, MixupClient(half, opened))
    on_grid = LabelMap(labels, Geometry(labels.shape, phantoms.TURNED))
    oracle.behaviour = ideal_server(outgoing, on_grid, half.manifest, 0.5)


def test_plain_on_the_real_server(
    server, plain_bundle: Path, image: Path, labels: np.ndarray, tmp_path: Path
):
    """As a user runs it: a process of its own, to a file."""
    out, document = tmp_path / "out.nii.gz", tmp_path / "out.json"
    command = [sys.executable, "-m", "veilseg.cli.main", "segment", image, "--server", server.url]
    options = ["--bundle", plain_bundle, "-o", out, "--json", document]
    ended = subprocess.run([*command, *options], capture_output=True, text=True)
    lines = [f"segmenting: {done}/2 scan.nii.gz (1 of 1)\n" for done in (1, 2)]
    assert (ended.returncode, ended.stderr) == (0, "".join(lines))
    np.testing.assert_array_equal(phantoms.read_labels(out), labels)
    written = nib.load(out)
    np.testing.assert_array_equal(written.affine, phantoms.TURNED)
    assert written.get_data_dtype() == np.uint8
    shell, core = [(labels == value).sum() / 1000 for value in (1, 2)]
    assert ended.stdout == f"{out}: shell {shell:.2f} ml, core {core:.2f} ml\n"
    fields = json.loads(document.read_text())
    assert fields["bundle"] == "phantom-plain"
    assert fields["bundle_id"] == phantoms.bundle_id(plain_bundle)
    assert fields["scheme"] == "plain"
    (entry,) = fields["images"]
    assert (entry["image"], entry["output"]) == (str(image), str(out))
    assert entry["volumes_ml"] == {"shell": round(shell, 4), "core": round(core, 4)}
    assert set(entry["seconds"]) == {"protect", "process", "recover"}
    assert entry["warnings"] == []
    # Two tiles of FP16, each with some hundred bytes of JSON around it.
    tile = 16**3 * 2
    assert 2 * tile < entry["bytes_sent"] < 2 * (tile + 400)
    assert 2 * 3 * tile < entry["bytes_received"] < 2 * 3 * tile + 4000


def test_mixup_on_the_real_server_equals_mixup_here(
    server, mixup_bundle: Path, vault: Path, image: Path, tmp_path: Path, veilseg: Callable
):
    remote, local = tmp_path / "remote.nii.gz", tmp_path / "local.nii.gz"
    common = [image, "--bundle", mixup_bundle, "--vault", vault]
    assert veilseg("segment", *common, "--server", server.url, "-o", remote).code == 0
    assert veilseg("segment", *common, "--local", "-o", local).code == 0
    one, other = phantoms.read_labels(remote), phantoms.read_labels(local)
    # bfloat16 on the server may tip voxels that lie between two classes.
    assert (one == other).mean() > 0.98
    assert set(np.unique(one)) > {0}


@pytest.mark.parametrize("unmixing", ["learned", "algebraic"])
def test_mixup_with_an_ideal_server_gives_the_truth(
    oracle: OracleServer,
    mixup_bundle: Path,
    vault: Path,
    image: Path,
    labels: np.ndarray,
    tmp_path: Path,
    veilseg: Callable,
    unmixing: str,
):
    make_ideal(oracle, mixup_bundle, vault, image, labels)
    proxy = tmp_path / "proxy.nii.gz"
    options = ["--bundle", mixup_bundle, "--vault", vault, "--unmixing", unmixing]
    options += ["-o", tmp_path / "out.nii.gz", "--save-proxy", proxy, "--server", oracle.url]
    ended = veilseg("segment", image, *options)
    assert (ended.code, ended.errors) == (0, [])
    np.testing.assert_array_equal(phantoms.read_labels(tmp_path / "out.nii.gz"), labels)
    # What was saved is what was sent: both tiles are found in it.
    saved = nib.load(proxy)
    np.testing.assert_array_equal(saved.affine, np.eye(4))
    array = np.asarray(saved.dataobj).astype(np.float16)
    assert array.shape == (20, 16, 16, 1)
    first, second = oracle.tiles
    np.testing.assert_array_equal(first[0], array[:16, ..., 0])
    np.testing.assert_array_equal(second[0], array[4:, ..., 0])


def test_several_images_go_to_a_folder(
    server, plain_bundle: Path, tmp_path: Path, labels: np.ndarray, veilseg: Callable
):
    images = []
    for number, name in enumerate(("a.nii.gz", "b_0000.nii.gz", "c.d.nii")):
        raw = phantoms.raw_image(labels, number)
        images.append(phantoms.write_nifti(tmp_path / name, raw))
    out, document = tmp_path / "made" / "here", tmp_path / "out.json"
    ended = veilseg(
        "segment", *images, "--server", server.url, "--bundle", plain_bundle, "-o", out,
        "--json", document,
    )  # fmt: skip
    assert (ended.code, ended.errors) == (0, [])
    names = ["a.nii.gz", "b.nii.gz", "c.d.nii.gz"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        np.testing.assert_array_equal(phantoms.read_labels(out / name), labels)
    entries = json.loads(document.read_text())["images"]
    assert [entry["output"] for entry in entries] == [str(out / name) for name in names]


@pytest.mark.parametrize("options", [[], ["--unmixing", "algebraic"]])
def test_local_needs_neither_server_nor_vault(
    mixup_bundle: Path, image: Path, tmp_path: Path, veilseg: Callable, options: list[str]
):
    outputs = [tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"]
    for out in outputs:
        ended = veilseg("segment", image, "--local", "--bundle", mixup_bundle, "-o", out, *options)
        assert (ended.code, ended.errors) == (0, [])
    one, two = map(phantoms.read_labels, outputs)
    np.testing.assert_array_equal(one, two)


def test_local_plain_gives_the_truth(
    plain_bundle: Path, image: Path, labels: np.ndarray, tmp_path: Path, veilseg: Callable
):
    options = ["--local", "--bundle", plain_bundle, "--json", tmp_path / "out.json"]
    assert veilseg("segment", image, *options, "-o", tmp_path / "out.nii").code == 0
    np.testing.assert_array_equal(phantoms.read_labels(tmp_path / "out.nii"), labels)
    (entry,) = json.loads((tmp_path / "out.json").read_text())["images"]
    assert (entry["bytes_sent"], entry["bytes_received"]) == (0, 0)


def test_local_does_not_count_as_sent(
    oracle: OracleServer, mixup_bundle: Path, vault: Path, tmp_path: Path, veilseg: Callable
):
    images = []
    for seed in (1, 2):
        raw = phantoms.raw_image(phantoms.truth(), seed)
        images.append(phantoms.write_nifti(tmp_path / f"{seed}.nii", raw))
    common = ["--bundle", mixup_bundle, "--vault", vault, "--subject", "anna"]
    for image in images:
        out = tmp_path / "out.nii.gz"
        assert veilseg("segment", image, *common, "--local", "-o", out).code == 0
    oracle.behaviour = phantoms.nearest_centre
    for image, code in zip(images, (0, 3), strict=True):
        ended = veilseg("segment", image, *common, "--server", oracle.url, "-o", out)
        assert ended.code == code
    assert len(oracle.tiles) == 1


def test_a_second_image_of_a_subject(
    oracle: OracleServer,
    mixup_bundle: Path,
    vault: Path,
    tmp_path: Path,
    veilseg: Callable,
    listing: Callable,
):
    oracle.behaviour = phantoms.nearest_centre
    files = []
    for seed in (1, 2):
        raw = phantoms.raw_image(phantoms.truth(), seed)
        files.append(phantoms.write_nifti(tmp_path / f"scan{seed}.nii.gz", raw))
    common = ["--bundle", mixup_bundle, "--vault", vault, "--server", oracle.url]
    common += ["--subject", "Erika Mustermann"]
    first, second = tmp_path / "first.nii.gz", tmp_path / "second.nii.gz"
    # The same image twice is a retry.
    for _ in range(2):
        ended = veilseg("segment", files[0], *common, "-o", first)
        assert (ended.code, ended.errors) == (0, [])
    before = listing()
    ended = veilseg("segment", files[1], *common, "-o", second)
    (line,) = ended.errors
    assert ended.code == 3
    assert line.startswith(f"veilseg: {files[1]}: a different proxy of this subject was sent")
    assert "--allow-repeat" in line
    assert "Mustermann" not in ended.err
    assert listing() == before
    assert len(oracle.tiles) == 2
    ended = veilseg("segment", files[1], *common, "-o", second, "--allow-repeat")
    assert ended.code == 0
    assert "warning: this server now has 2 different proxies of this subject" in ended.err
    assert second.is_file()
    ended = veilseg("site", "forget", "Erika Mustermann", "--vault", vault)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("2 proxies forgotten")
    assert veilseg("segment", files[1], *common, "-o", second).code == 0


def test_ctrl_c(
    oracle: OracleServer, mixup_bundle: Path, vault: Path, image: Path, listing: Callable
):
    oracle.release.clear()
    before = listing()
    out = image.with_name("out.nii.gz")
    arguments = ["--server", oracle.url, "--bundle", mixup_bundle, "--vault", vault, "-o", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "veilseg.cli.main", "segment", image, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert oracle.holding.wait(60)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=20)
    assert (process.returncode, printed, errors) == (130, "", "veilseg: interrupted\n")
    assert listing() == before


def test_site_init(veilseg: Callable, mixup_bundle: Path, tmp_path: Path):
    folder = tmp_path / "made"
    ended = veilseg("site", "init", folder, "--bundle", mixup_bundle)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{folder}: vault of phantom-mixup with synthetic references")
    key = (folder / "key").read_bytes()
    again = veilseg("site", "init", folder, "--bundle", mixup_bundle)
    assert again.code == 3
    assert again.err.startswith(f"veilseg: {folder}: exists already")
    assert (folder / "key").read_bytes() == key


def test_site_init_with_labelled_references(
    veilseg: Callable, mixup_bundle: Path, tmp_path: Path, image: Path
):
    dataset = phantoms.make_dataset(tmp_path / "data", ("anna", "bert"))
    folder = tmp_path / "made"
    ended = veilseg("site", "init", folder, "--bundle", mixup_bundle, "--references", dataset)
    assert ended.code == 0
    assert "with 2 labelled references" in ended.out
    assert len(list((folder / "references").iterdir())) == 2
    options = ["--bundle", mixup_bundle, "--vault", folder, "--local"]
    out = tmp_path / "out.nii.gz"
    assert veilseg("segment", image, *options, "--subject", "anna", "-o", out).code == 0
    nameless = veilseg("segment", image, *options, "-o", tmp_path / "other.nii.gz")
    assert nameless.code == 2
    assert nameless.err.startswith("veilseg: --subject, --subjects: say who it is")


def test_references_without_foreground_are_left_out(
    veilseg: Callable, mixup_bundle: Path, tmp_path: Path
):
    """Mixed with one, an answer would be the patient's mask alone."""
    dataset = phantoms.make_dataset(tmp_path / "data", ("anna", "bert", "cora"))
    labels = sorted((dataset / "labelsTr").iterdir())
    for number, expected in ((1, 0), (3, 3)):
        for file in labels[:number]:
            phantoms.write_nifti(file, 0 * phantoms.read_labels(file))
        folder = tmp_path / f"made{number}"
        ended = veilseg("site", "init", folder, "--bundle", mixup_bundle, "--references", dataset)
        assert ended.code == expected
        if expected:
            assert "no case has any foreground: mixed with such a reference" in ended.err
            assert not folder.exists()
        else:
            assert "1 of 3 cases have no foreground and are left out" in ended.err
            assert "with 2 labelled references" in ended.out


def test_table_says_who_each_image_is_of(
    veilseg: Callable, mixup_bundle: Path, tmp_path: Path, image: Path
):
    dataset = phantoms.make_dataset(tmp_path / "data", ("anna", "bert"))
    vault, table = tmp_path / "vault", tmp_path / "who.csv"
    veilseg("site", "init", vault, "--bundle", mixup_bundle, "--references", dataset)
    options = ["--bundle", mixup_bundle, "--vault", vault, "--local"]
    images = [tmp_path / f"{name}_0000.nii.gz" for name in ("scan1", "scan2")]
    for copy in images:
        shutil.copyfile(image, copy)
    table.write_text("case,patient\nscan2,bert\nscan1,anna\n")
    found = veilseg("segment", *images, *options, "--subjects", table, "-o", tmp_path / "both")
    assert found.code == 0, found.err
    labels = []
    for copy, patient in zip(images, ("anna", "bert"), strict=True):
        out = tmp_path / f"{patient}.nii.gz"
        assert veilseg("segment", copy, *options, "--subject", patient, "-o", out).code == 0
        labels.append(np.asanyarray(nib.load(out).dataobj))
        together = tmp_path / "both" / f"{copy.name.removesuffix('_0000.nii.gz')}.nii.gz"
        np.testing.assert_array_equal(np.asanyarray(nib.load(together).dataobj), labels[-1])
    # The same image, but nobody is mixed with their own reference: each has the other's.
    assert (labels[0] != labels[1]).any()


@pytest.mark.parametrize(
    ("text", "more", "code", "reason"),
    [
        ("case,patient\nother,anna\n", [], 3, "who.csv: no patient for case scan"),
        ("name\nscan\n", [], 3, "who.csv: needs the columns case and patient"),
        (None, [], 3, "who.csv: cannot be read: No such file"),
        ("case,patient\nscan,a\n", ["--subject", "a"], 2, "--subject and --subjects: give one"),
    ],
)
def test_table_that_does_not_say_it(
    veilseg: Callable, mixup_bundle: Path, tmp_path: Path, image: Path, text, more, code, reason
):
    table = tmp_path / "who.csv"
    if text is not None:
        table.write_text(text)
    options = ["--bundle", mixup_bundle, "--local", "--subjects", table, *more]
    ended = veilseg("segment", image, *options, "-o", tmp_path / "out.nii.gz")
    assert (ended.code, ended.out) == (code, "")
    assert reason in ended.err
    assert not (tmp_path / "out.nii.gz").exists()
