"""docs/tutorial.md as it stands, on phantoms: its commands, its files, the lines it quotes.

A fenced block of the text says by its second word what it is to the test: a ``json`` or ``csv``
block is the content of the file named there, ``text files`` begin with paths that must exist, and
``text prints`` are lines that the ``bash`` block before must print, in this order, where ``…``
stands for anything.
"""

import contextlib
import csv
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import phantoms
import pytest

from veilseg.bundle import open_client_half

# Four trainings, each a process of its own: a minute where nothing else runs.
pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [match.groups() for match in BLOCK.finditer(TEXT)]

# All that the test runs otherwise than it is written. Trained for less, a network is undecided in
# so many voxels that the server's self-test finds it unfit.
SUBSTITUTIONS = {
    "pip install -c constraints.txt '.[train,server]'": "veilseg --version",
    "--minutes 30": "--steps 12",
    "--steps 400": "--steps 12",
    "--port 8000": "--port 0",
}
ADDRESS = "http://127.0.0.1:8000"  # stands for where the server listens

GLAND_SHAPE = (14, 16, 8)
# Images that the text segments, beside those of slides/cases.csv.
UNLABELLED = {"new": ("N1", "N2"), "later": ("N1", "N4")}


def bodies(kind: str, role: str = "") -> list[str]:
    return [body for found, given, body in BLOCKS if (found, given) == (kind, role)]


def as_run(body: str) -> str:
    for written, run in SUBSTITUTIONS.items():
        body = body.replace(written, run)
    return body


def matches(quoted: str, line: str) -> bool:
    return re.fullmatch(re.escape(quoted).replace("…", ".*"), line) is not None


def cases_of(table: Path) -> list[str]:
    with table.open(newline="") as stream:
        return [row["case"] for row in csv.DictReader(stream)]


def write_gland(folder: Path, case: str, number: int) -> np.ndarray:
    """An ellipsoid at nearly the same place in everybody, light in T2 and dark in ADC."""
    shape, rng = GLAND_SHAPE, np.random.default_rng(number)
    centre = np.array(shape) / 2 + rng.uniform(-1, 1, 3)
    place = (np.indices(shape) - centre.reshape(3, 1, 1, 1)) / np.reshape([4, 5, 3], (3, 1, 1, 1))
    inside = np.linalg.norm(place, axis=0) < 1
    for channel, contrast in enumerate((80, -60)):
        image = (120 + contrast * inside + rng.normal(0, 8, shape)).astype(np.float32)
        affine = np.diag([1.0, 1, 3, 1])
        phantoms.write_nifti(folder / f"{case}_{channel:04d}.nii.gz", image, affine)
    return inside.astype(np.uint8)


def write_nucleus(folder: Path, case: str, number: int) -> np.ndarray:
    """A dark disc on a light ground, at another place in each picture."""
    shape, rng = (40, 28), np.random.default_rng(number)
    centre = np.reshape([5 + 6 * (number % 6), 8 + 12 * (number % 2)], (2, 1, 1))
    inside = np.linalg.norm(np.indices(shape) - centre, axis=0) < 4
    image = 190 - 100 * inside + rng.normal(0, 10, (3, *shape))
    phantoms.write_png(folder / f"{case}_0000.png", image.round().astype(np.uint8))
    return inside.astype(np.uint8)


def write_data(folder: Path) -> None:
    """The files whose content the text gives, and images and labels for every case it names."""
    for kind, name, body in BLOCKS:
        if kind in ("json", "csv"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(body, encoding="utf-8")
    for name, write in (("prostate", write_gland), ("nuclei", write_nucleus)):
        data = folder / name
        ending = json.loads((data / "dataset.json").read_text())["file_ending"]
        for part in ("imagesTr", "labelsTr"):
            (data / part).mkdir()
        for number, case in enumerate(cases_of(data / "cases.csv")):
            labels = write(data / "imagesTr", case, number)
            write_labels(data / "labelsTr" / f"{case}{ending}", labels)
    for name, cases in UNLABELLED.items():
        (folder / name).mkdir()
        for number, case in enumerate(cases):
            write_gland(folder / name, case, len(name) * 10 + number)
    for number, case in enumerate(cases_of(folder / "slides" / "cases.csv")):
        write_nucleus(folder / "slides", case, 20 + number)


def write_labels(path: Path, labels: np.ndarray) -> None:
    if path.suffix == ".png":
        phantoms.write_png(path, labels)
    else:
        phantoms.write_nifti(path, labels, np.diag([1.0, 1, 3, 1]))


@dataclass(frozen=True)
class Tutorial:
    """The folder in which the text was run, the server it started, what each block printed."""

    folder: Path
    address: str
    printed: list[str]


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    """Run every block in order; the server goes on until the module's tests end."""
    folder = tmp_path_factory.mktemp("tutorial")
    write_data(folder)
    commands = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    address, printed = ADDRESS, []
    with contextlib.ExitStack() as running:
        for body in bodies("bash"):
            command = as_run(body).replace(ADDRESS, address)
            assert "--minutes" not in command, f"would train for minutes: {command}"
            if command.startswith("veilseg serve"):
                server = running.enter_context(
                    subprocess.Popen(
                        ["bash", "-c", f"exec {command}"],
                        cwd=folder,
                        env=environment,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
                running.callback(server.terminate)
                address, output = until_listening(server)
            else:
                ended = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", command],
                    cwd=folder,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                output = ended.stdout
                assert ended.returncode == 0, f"{command}{output}"
            printed.append(output.replace(address, ADDRESS))
        yield Tutorial(folder, address, printed)


def until_listening(server: "subprocess.Popen[str]") -> tuple[str, str]:
    """Where a server listens, and what it printed until then."""
    assert server.stdout is not None
    lines = []
    for line in server.stdout:
        lines.append(line)
        if line.startswith("listening on "):
            return line.removeprefix("listening on ").strip(), "".join(lines)
    raise AssertionError(f"the server did not start: {lines}")


def test_every_substitution_still_matches():
    written = "".join(bodies("bash"))
    for part in (*SUBSTITUTIONS, ADDRESS):
        assert part in written


def test_commands_print_what_is_quoted(tutorial: Tutorial):
    count = -1
    quoted = 0
    for kind, role, body in BLOCKS:
        count += kind == "bash"
        if (kind, role) == ("text", "prints"):
            printed = iter(tutorial.printed[count].splitlines())
            for line in body.splitlines():
                assert any(matches(line, found) for found in printed), (
                    f"{line}\nis not, or not in this place, in\n{tutorial.printed[count]}"
                )
            quoted += 1
    # Only installing and copying go without a word on what one sees.
    assert quoted == len(bodies("bash")) - 2


def test_files_lie_where_the_text_says(tutorial: Tutorial):
    named = [line.split()[0] for body in bodies("text", "files") for line in body.splitlines()]
    made = [
        "mixup.json",
        "fold-1/mixup.json",
        "N1.nii.gz",
        "N1-uncertainty.nii.gz",
        "results/N1.nii.gz",
        "results/N2.nii.gz",
        "results.json",
        "N4.nii.gz",
        "masks/SLIDE_1.png",
        "masks/SLIDE_2.png",
    ]
    assert all(name in TEXT for name in made)
    assert [name for name in named + made if not (tutorial.folder / name).is_file()] == []
    assert not (tutorial.folder / "later.nii.gz").exists()
    for role, place in (("server", "provider"), ("client", "site")):
        (half,) = (tutorial.folder / place / "prostate-mixup").iterdir()
        assert half.name == role
    result = phantoms.read_labels(tutorial.folder / "N1.nii.gz")
    assert result.shape == GLAND_SHAPE


def test_splits_keep_people_apart(tutorial: Tutorial):
    found = json.loads((tutorial.folder / "mixup.json").read_text())
    assert {case["patient"] for case in found["cases"]} == {"p05", "p06"}
    fold = json.loads((tutorial.folder / "fold-1" / "mixup.json").read_text())
    assert fold["fold"] == "1/5"
    assert {case["patient"] for case in fold["cases"]} == {"p01", "p06"}
    manifests = [
        open_client_half(tutorial.folder / f"prostate-{scheme}").manifest
        for scheme in ("mixup", "plain")
    ]
    assert len({manifest.provenance["steps"] for manifest in manifests}) == 1


def commands(text: str) -> set[str]:
    """Commands of the bash blocks of a text, each on one line and without comments."""
    found = "".join(body for kind, _, body in BLOCK.findall(text) if kind == "bash")
    joined = re.sub(r"\\\n\s*", "", found)
    return {re.sub(r"\s+#.*", "", line) for line in joined.splitlines()}


def test_readme_shows_commands_of_the_tutorial():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition("\n## Your own data set\n")
    section, _, _ = rest.partition("\n## ")
    assert "](docs/tutorial.md)" in section
    shown = commands(section)
    assert len(shown) >= 3
    assert shown <= commands(TEXT)


ROW = re.compile(r"^\| ([A-Z][^|]*) \| `([^|]*)` \| (\d) \|$", re.MULTILINE)
MISTAKES = {happened: (line, int(code)) for happened, line, code in ROW.findall(TEXT)}


def rename_images() -> None:
    for path in Path("prostate/imagesTr").glob("*_0000.nii.gz"):
        path.rename(path.with_name(path.name.replace("_0000", "")))


def cut_labels() -> None:
    write_labels(Path("prostate/labelsTr/PRO_001.nii.gz"), np.ones((*GLAND_SHAPE[1:], 9), np.uint8))


def whiten_mask() -> None:
    path = Path("nuclei/labelsTr/NUC_01.png")
    phantoms.write_png(path, 255 * phantoms.read_labels(path))


def forget_case() -> None:
    path = Path("prostate/cases.csv")
    path.write_text(path.read_text().replace("PRO_008,p06\n", ""))


def change_image() -> None:
    write_gland(Path("prostate/imagesTr"), "PRO_002", 99)


def write_grey() -> None:
    phantoms.write_png(Path("slides/GREY.png"), np.arange(40 * 28, dtype=np.uint16).reshape(40, 28))


def train_anew() -> None:
    shutil.rmtree("site/prostate-mixup/client")
    shutil.copytree("fold-1/prostate-mixup/client", "site/prostate-mixup/client")


def nothing() -> None:
    pass


TRAIN_PROSTATE, TRAIN_NUCLEI = (
    "train prostate --out out --steps 1",
    "train nuclei --out out --steps 1",
)
SEGMENT = f"segment new/N1_0000.nii.gz -o out.nii.gz --server {ADDRESS} --bundle"
SEGMENT_NUCLEI = (
    f"--server {ADDRESS} --bundle site/nuclei-mixup --vault site/nuclei-vault -o out.png"
)
# By the table's first column: what is spoilt, and the commands, of which the last must fail.
SPOILT: dict[str, tuple[Callable[[], object], list[str]]] = {
    "Image names lack the number of the channel": (rename_images, [TRAIN_PROSTATE]),
    "A channel is missing": (
        lambda: Path("prostate/imagesTr/PRO_003_0001.nii.gz").unlink(),
        [TRAIN_PROSTATE],
    ),
    "Labels are not on the image's grid": (cut_labels, [TRAIN_PROSTATE]),
    "A mask was saved as 0 and 255": (whiten_mask, [TRAIN_NUCLEI]),
    "A JPEG was renamed to PNG": (
        lambda: Path("nuclei/imagesTr/NUC_01_0000.png").write_bytes(b"\xff\xd8\xff\xe0" * 20),
        [TRAIN_NUCLEI],
    ),
    "A new case is not in the list": (forget_case, [TRAIN_PROSTATE]),
    "Training into a finished bundle": (nothing, ["train prostate --out prostate-mixup --steps 1"]),
    "The data were changed after training": (
        change_image,
        ["evaluate prostate-mixup prostate --split test"],
    ),
    "Labels lie anywhere and there are no references": (
        nothing,
        ["site init site/other --bundle site/nuclei-mixup"],
    ),
    "Nobody said whose picture it is": (
        nothing,
        [f"segment slides/SLIDE_1_0000.png {SEGMENT_NUCLEI}"],
    ),
    "A grey picture for a colour bundle": (
        write_grey,
        [f"segment slides/GREY.png --subject s09 {SEGMENT_NUCLEI}"],
    ),
    "The bundle was trained anew, the vault is of the old one": (
        train_anew,
        [f"{SEGMENT} site/prostate-mixup --vault site/vault"],
    ),
    "The server still has the old bundle": (
        train_anew,
        [
            "site init site/anew --bundle site/prostate-mixup",
            f"{SEGMENT} site/prostate-mixup --vault site/anew",
        ],
    ),
    "No server is running there": (nothing, [f"{SEGMENT} site/prostate-mixup --vault site/vault"]),
}


def test_every_mistake_in_the_table_is_made():
    assert SPOILT.keys() == MISTAKES.keys()
    assert TEXT.count("\n| ") == len(MISTAKES) + 2


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address at which nothing listens, nor can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("happened", SPOILT)
def test_mistakes(
    tutorial: Tutorial,
    veilseg: Callable,
    no_pauses: list[float],
    deaf: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    happened: str,
):
    place = tmp_path / "copy"
    shutil.copytree(tutorial.folder, place, ignore=shutil.ignore_patterns("weights"))
    monkeypatch.chdir(place)
    spoil, asked = SPOILT[happened]
    spoil()
    address = deaf if happened == "No server is running there" else tutorial.address
    *before, last = [shlex.split(one.replace(ADDRESS, address)) for one in asked]
    for arguments in before:
        assert veilseg(*arguments).code == 0
    ended = veilseg(*last)
    quoted, code = MISTAKES[happened]
    (line,) = (line for line in ended.err.splitlines() if line.startswith("veilseg: "))
    assert matches(f"veilseg: {quoted}", line.replace(address, ADDRESS)), line
    assert (ended.code, ended.out) == (code, "")
    assert not any(Path(name).exists() for name in ("out", "out.png", "out.nii.gz", "site/other"))
