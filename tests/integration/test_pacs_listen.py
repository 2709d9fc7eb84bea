"""The listener as a process, before real DIMSE."""

import signal
import socket
from pathlib import Path

import numpy as np
import pydicom
from canary import is_copied_turned, require_none_of
from pynetdicom import AE, evt
from pynetdicom.sop_class import SegmentationStorage, Verification
from watchers import SHAPE, marked, secrets_of, study


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_series_that_are_sent_are_sent_back_segmented(
    tmp_path: Path, started, private_server, mixup_bundle: Path, vault: Path
):
    """C-ECHO and C-STORE; killed after it confirmed what it received."""
    oracle, relay = private_server
    headers = [study(tmp_path / str(n), n) for n in range(2)]
    received: list[pydicom.Dataset] = []

    def keep(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0x0000

    peer = AE("PACS")
    peer.add_supported_context(SegmentationStorage)
    listening = peer.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    port = free_port()
    options = ["listen", "--port", port, "--title", "VEILSEG", "--from", "SCANNER"]
    options += ["--store", f"PACS@127.0.0.1:{listening.server_address[1]}", "--server", relay.url]
    options += ["--bundle", mixup_bundle, "--vault", vault, "--state", tmp_path / "state"]
    options += ["--rule", "SeriesDescription=*head*", "--settle-s", "0.5"]
    oracle.release.clear()
    receiver = started(tmp_path / "log", *options)
    receiver.until(lambda: f"listening on VEILSEG@127.0.0.1:{port}" in receiver.text)
    try:
        assert send(port, "STRANGER", tmp_path / "0") is None
        assert send(port, "SCANNER", tmp_path / "0") == [0] * SHAPE[2]
        receiver.until(oracle.holding.is_set)
        assert send(port, "SCANNER", tmp_path / "1") == [0] * SHAPE[2]
        receiver.end(signal.SIGKILL)
        oracle.release.set()
        receiver.start()
        receiver.until(lambda: receiver.text.count("segmented and stored") == 2)
        inbox = tmp_path / "state" / "inbox"
        receiver.until(lambda: not list(inbox.iterdir()))
        assert receiver.end(signal.SIGTERM) == 0
    finally:
        listening.shutdown()
    found = {one.StudyInstanceUID for one in received}
    assert found == {one.StudyInstanceUID for one in headers}
    assert len(received) == 2
    assert all(one.SOPClassUID == SegmentationStorage for one in received)
    secrets = secrets_of(*headers)
    require_none_of(secrets, b"".join(relay.connections))
    require_none_of(secrets, receiver.log.read_bytes())
    mark = marked(np.zeros(SHAPE))
    tiles = [tile[0].astype(np.float64) for tile in oracle.tiles]
    assert len(tiles) > 1
    assert not is_copied_turned(tiles, mark)


def send(port: int, title: str, folder: Path) -> list[int] | None:
    """Statuses of C-STORE after a C-ECHO; None if the association is rejected."""
    scanner = AE(title)
    scanner.add_requested_context(Verification)
    datasets = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    scanner.add_requested_context(datasets[0].SOPClassUID, pydicom.uid.ExplicitVRLittleEndian)
    line = scanner.associate("127.0.0.1", port, ae_title="VEILSEG")
    if not line.is_established:
        return None
    assert line.send_c_echo().Status == 0
    statuses = [int(line.send_c_store(one).Status) for one in datasets]
    line.release()
    return statuses
