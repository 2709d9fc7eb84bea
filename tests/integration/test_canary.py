"""Canary (threats.md): a marked patient goes through the real command to the real server.

All bytes that leave are recorded by a relay in between. No name may be among them, and no
window of a tile may be an affine copy of the marked voxels. ``plain`` has to trip that alarm.
"""

import base64
import gzip
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from canary import is_copied, require_none_of, tiles_in
from servers import RecordingRelay

from veilseg.vault.vault import Vault

NAME = "CANARY^ERIKA^MUSTERMANN"
SUBJECT = "subject-canary-19640812"
FILE = "kanarienvogel-mrn-4711"
UID = "1.2.826.0.1.3680043.8.498.4711471147114711"
AUX = "canary-aux-file"
INTENT = "canary-intent"
SECRETS = (NAME, "MUSTERMANN", SUBJECT, FILE, UID, AUX, INTENT)
# Where the marked voxels lie in the raw image; bright noise, unlike anything in a reference.
BLOCK = (slice(6, 11), slice(5, 10), slice(6, 11))


@pytest.fixture(scope="module")
def marked() -> np.ndarray:
    """A phantom with noise in a block of its core, shape (18, 16, 20), int16."""
    raw = phantoms.raw_image(phantoms.truth((18, 16, 20)))
    rng = np.random.default_rng(4711)
    raw[BLOCK] = rng.integers(200, 1000, raw[BLOCK].shape)
    return raw


@pytest.fixture
def scan(tmp_path: Path, marked: np.ndarray) -> Path:
    """The marked phantom in a file that names its patient wherever NIfTI lets it."""
    image = nib.Nifti1Image(marked, np.eye(4))
    image.header["descrip"] = NAME
    image.header["intent_name"] = INTENT
    image.header["aux_file"] = AUX
    comment = f"{NAME} {UID}".encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", comment))
    path = tmp_path / f"{FILE}.nii.gz"
    nib.save(image, path)
    # Positive control of the strings: they are in the file, if one looks into it.
    content = gzip.decompress(path.read_bytes()) + path.name.encode() + SUBJECT.encode()
    assert all(secret.encode() in content for secret in SECRETS)
    return path


@dataclass(frozen=True)
class Server:
    """The real command as a process, with everything it logs in a file."""

    address: str
    log: Path


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, mixup_bundle: Path, plain_bundle: Path
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    # Every logger at its most talkative, whatever an operator may have set.
    code = (
        "import logging, veilseg.serving.logs as logs, veilseg.cli.main as m;"
        "logs.configure('json', 'notset'); m.main()"
    )
    command = [sys.executable, "-c", code, "serve", mixup_bundle, plain_bundle, "--port", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        yield Server(_address(process, log), log)
    finally:
        process.terminate()
        process.wait(20)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"listening on http://(\S+)\n", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@pytest.fixture
def relay(server: Server) -> Iterator[RecordingRelay]:
    with RecordingRelay(server.address) as relay:
        yield relay


def segmented(url: str, scan: Path, bundle: Path, *options: object) -> str:
    """Run the real command; gives what it printed."""
    command = [sys.executable, "-m", "veilseg.cli.main", "segment", scan, "--server", url]
    command += ["--bundle", bundle, "--subject", SUBJECT, *options]
    command += ["-o", scan.with_name("out.nii.gz")]
    ended = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def test_mixup_lets_nothing_out(
    relay: RecordingRelay,
    server: Server,
    mixup_bundle: Path,
    scan: Path,
    marked: np.ndarray,
    tmp_path: Path,
):
    vault = tmp_path / "vault"
    Vault.create(vault, phantoms.bundle_id(mixup_bundle))
    segmented(relay.url, scan, mixup_bundle, "--vault", vault)
    relay.wait_until_idle()
    sent = b"".join(relay.connections)
    require_none_of(SECRETS, sent)
    require_none_of(SECRETS, server.log.read_bytes())
    tiles = [tile for connection in relay.connections for tile in tiles_in(connection)]
    # (18, 16, 20) in tiles of 16³.
    assert len(tiles) == 4
    assert len(sent) > 4 * 16**3 * 2
    assert not is_copied(tiles, marked[BLOCK])
    # Nor does the vault know who it was or what was seen.
    content = b"".join(path.read_bytes() for path in vault.rglob("*") if path.is_file())
    require_none_of(SECRETS, content)
    assert marked[BLOCK].tobytes() not in content
    assert (marked[BLOCK] / 1000).astype(np.float16).tobytes() not in content


def test_plain_trips_the_alarm(
    relay: RecordingRelay, plain_bundle: Path, scan: Path, marked: np.ndarray
):
    segmented(relay.url, scan, plain_bundle)
    relay.wait_until_idle()
    # Even plain sends no header; but the patient's voxels are there to be seen.
    require_none_of(SECRETS, b"".join(relay.connections))
    tiles = [tile for connection in relay.connections for tile in tiles_in(connection)]
    assert is_copied(tiles, marked[BLOCK])
    # And nothing else is taken for them: the same noise, one voxel along.
    assert not is_copied(tiles, np.roll(marked[BLOCK], 1, axis=0))


def test_the_server_logs_neither_names_nor_voxels(
    relay: RecordingRelay, server: Server, plain_bundle: Path, scan: Path, marked: np.ndarray
):
    before = server.log.stat().st_size
    segmented(relay.url, scan, plain_bundle)
    log = server.log.read_bytes()
    # It does log: what it answered, and how long that took.
    assert b'"model": "phantom-plain"' in log[before:]
    require_none_of(SECRETS, log)
    wire = (marked[BLOCK] / 1000).astype(np.float16)
    assert wire.tobytes() not in log
    # Nor as text, in whatever way an array library would quote a row of it.
    digits = [f"{value:.3g}".encode() for value in wire[0, 0, :3]]
    assert not re.search(rb"[\s,\[]+".join(digits), log)


def test_the_alarm_for_names_can_ring():
    for content in (
        NAME.encode(),
        base64.b64encode(b"x" + UID.encode() + b"yz"),
        gzip.compress(b"so " + SUBJECT.encode()),
        b"..." + zlib.compress(FILE.encode()),
        SUBJECT.encode("utf-16-le"),
    ):
        with pytest.raises(AssertionError):
            require_none_of(SECRETS, b"header " + content + b" trailer")
