"""The command line as a user runs it, with its traces looked for afterwards."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
from servers import OracleServer, RecordingRelay
from watchers import Watcher

from veilseg.bundle import open_client_half
from veilseg.cli.main import main
from veilseg.client import transfer
from veilseg.vault.vault import Vault


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines of standard error that are no progress."""
        return [line for line in self.err.splitlines() if not line.startswith("segmenting: ")]


@pytest.fixture
def veilseg(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run the command in this process, through the entry point of the installed script."""

    def run(*arguments: Any) -> Ended:
        monkeypatch.setattr(sys, "argv", ["veilseg", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def mixup_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantoms.make_bundle(tmp_path_factory.mktemp("bundles") / "mixup", "mixup")


@pytest.fixture(scope="session")
def plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantoms.make_bundle(tmp_path_factory.mktemp("bundles") / "plain", "plain")


@pytest.fixture
def vault(tmp_path: Path, mixup_bundle: Path) -> Path:
    """A fresh vault of the mixup bundle."""
    folder = tmp_path / "vault"
    Vault.create(folder, phantoms.bundle_id(mixup_bundle))
    return folder


@pytest.fixture
def labels() -> np.ndarray:
    """The truth of ``image``; two tiles long."""
    return np.pad(phantoms.truth((14, 20, 13)), ((1, 0), (2, 3), (0, 1)))


@pytest.fixture
def image(tmp_path: Path, labels: np.ndarray) -> Path:
    """A phantom on disk, in axes of its own."""
    return phantoms.write_nifti(tmp_path / "scan.nii.gz", phantoms.raw_image(labels))


@pytest.fixture
def oracle(mixup_bundle: Path) -> Iterator[OracleServer]:
    """A server of the mixup bundle in this process, by default one that hangs up."""
    with OracleServer(open_client_half(mixup_bundle).manifest) as server:
        yield server


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries without waiting; gives the pauses there would have been."""
    pauses: list[float] = []
    monkeypatch.setattr(transfer, "sleep", pauses.append)
    return pauses


@pytest.fixture
def listing(tmp_path: Path) -> Callable[[], set[str]]:
    """What lies in the test's folder, temporary files included, vaults not."""
    return lambda: {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.parent.name not in ("vault", "references")
    }


@pytest.fixture
def expect(veilseg: Callable, listing: Callable, tmp_path: Path) -> Callable[..., str]:
    """Run a segmentation that has to fail; gives its one line."""

    def run(code: int, *arguments: object, out: Path | None = None) -> str:
        before = listing()
        ended = veilseg("segment", *arguments, "-o", out or tmp_path / "out.nii.gz")
        assert ended.out == ""
        (line,) = ended.errors
        assert line.startswith("veilseg: ")
        assert (ended.code, listing()) == (code, before), line
        return line.removeprefix("veilseg: ")

    return run


@pytest.fixture
def local(mixup_bundle: Path) -> list[object]:
    return ["--bundle", mixup_bundle, "--local"]


@pytest.fixture
def remote(oracle: OracleServer, mixup_bundle: Path, vault: Path) -> list[object]:
    return ["--bundle", mixup_bundle, "--vault", vault, "--server", oracle.url]


@pytest.fixture
def started() -> Iterator[Callable[..., Watcher]]:
    processes: list[Watcher] = []

    def start(*arguments: object) -> Watcher:
        process = Watcher(*arguments)
        processes.append(process)
        process.start()
        return process

    yield start
    for one in processes:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture
def private_server(mixup_bundle: Path) -> Iterator[tuple[OracleServer, RecordingRelay]]:
    """A server that can be held while it answers, and what a site sends it."""
    with OracleServer(open_client_half(mixup_bundle).manifest) as oracle:
        oracle.behaviour = phantoms.nearest_centre
        with RecordingRelay(oracle.url.removeprefix("http://")) as relay:
            yield oracle, relay
