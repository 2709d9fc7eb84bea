"""Canary (threats.md): a marked patient goes through the real command to the real server.

All bytes that leave are recorded by a relay in between. No name may be among them, and no
window of a tile may be an affine copy of the marked voxels. ``plain`` has to trip that alarm.
"""

import base64
import gzip
import json
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
from servers import RecordingRelay

from veilseg.vault.vault import Vault
from veilseg.wire import decode_request

NAME = "CANARY^ERIKA^MUSTERMANN"
SUBJECT = "subject-canary-19640812"
FILE = "kanarienvogel-mrn-4711"
UID = "1.2.826.0.1.3680043.8.498.4711471147114711"
AUX = "canary-aux-file"
INTENT = "canary-intent"
SECRETS = (NAME, "MUSTERMANN", SUBJECT, FILE, UID, AUX, INTENT)
# Where the marked voxels lie in the raw image; bright noise, unlike anything in a reference.
BLOCK = (slice(6, 11), slice(5, 10), slice(6, 11))
# Of an affine copy, rounding to FP16 leaves all but 1e-6 of the correlation. At this one, least
# squares leave √(1/0.999² − 1) = 4.5 % of the block's contrast unexplained.
CORRELATION = 0.999
FLAT = 1e-3


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


def forms(secret: str) -> list[bytes]:
    """A string as it is, in other encodings, and packed."""
    plain = secret.encode()
    found = [plain, plain.lower(), plain.upper(), plain.hex().encode(), plain[::-1]]
    found += [secret.encode("utf-16-le"), secret.encode("utf-16-be")]
    # Base64 of a text that begins one, two or three bytes into a group of three.
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + plain)
        found.append(coded[4 * (shift > 0) : -4])
    found += [json.dumps(secret).strip('"').encode(), secret.replace("^", "%5E").encode()]
    return found


def require_no_secret(content: bytes) -> None:
    unpacked = [content]
    for start in range(len(content) - 2):
        # Whatever was compressed begins with one of these.
        if (
            content[start : start + 3] == b"\x1f\x8b\x08"
            or content[start : start + 2] == b"\x78\x9c"
        ):
            try:
                unpacked.append(zlib.decompressobj(47).decompress(content[start:]))
            except zlib.error:
                continue
    for secret in SECRETS:
        for form in forms(secret):
            assert not any(form in part for part in unpacked), (secret, form)


def tiles_in(sent: bytes) -> list[np.ndarray]:
    """Proxy tiles of the requests of one connection, taken from the bytes alone."""
    tiles = []
    while sent:
        head, _, rest = sent.partition(b"\r\n\r\n")
        lines = head.decode("ascii").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:])
        length = int(fields.get("content-length", "0"))
        if lines[0].startswith("post "):
            request = decode_request(rest[:length], fields["inference-header-content-length"])
            tiles.append(request.inputs[0].array[0, 0].astype(np.float64))
        sent = rest[length:]
    return tiles


def is_copied(tiles: list[np.ndarray], block: np.ndarray) -> bool:
    """Whether any window of any tile is an affine copy of the block."""
    mark = block.astype(np.float64).ravel()
    mark = (mark - mark.mean()) / mark.std()
    for tile in tiles:
        windows = np.lib.stride_tricks.sliding_window_view(tile, block.shape)
        flat = windows.reshape(-1, mark.size)
        centred = flat - flat.mean(axis=1, keepdims=True)
        spread = centred.std(axis=1)
        covariance = np.abs(centred @ mark / mark.size)
        # A flat window correlates with nothing.
        if (covariance > CORRELATION * np.maximum(spread, FLAT)).any():
            return True
    return False


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
    require_no_secret(sent)
    require_no_secret(server.log.read_bytes())
    tiles = [tile for connection in relay.connections for tile in tiles_in(connection)]
    # (18, 16, 20) in tiles of 16³.
    assert len(tiles) == 4
    assert len(sent) > 4 * 16**3 * 2
    assert not is_copied(tiles, marked[BLOCK])
    # Nor does the vault know who it was or what was seen.
    content = b"".join(path.read_bytes() for path in vault.rglob("*") if path.is_file())
    require_no_secret(content)
    assert marked[BLOCK].tobytes() not in content
    assert (marked[BLOCK] / 1000).astype(np.float16).tobytes() not in content


def test_plain_trips_the_alarm(
    relay: RecordingRelay, plain_bundle: Path, scan: Path, marked: np.ndarray
):
    segmented(relay.url, scan, plain_bundle)
    relay.wait_until_idle()
    # Even plain sends no header; but the patient's voxels are there to be seen.
    require_no_secret(b"".join(relay.connections))
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
    require_no_secret(log)
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
            require_no_secret(b"header " + content + b" trailer")
