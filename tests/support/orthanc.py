"""A real PACS: Orthanc with its DICOMweb plug-in, on this machine alone."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
from relays import Relay, pump

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_TIMEOUT_S = 120


def executable() -> str:
    """Where Orthanc is; the test is skipped where there is none."""
    # Debian's lies where only an administrator's shell looks.
    found = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None or not PLUGIN.exists():
        pytest.skip("needs Orthanc with DICOMweb: make orthanc")
    return found


class Orthanc:
    """A running Orthanc, empty at first.

    Parameters
    ----------
    folder : Path
        For everything it writes.
    """

    def __init__(self, folder: Path) -> None:
        self._command = [executable(), str(folder / "orthanc.json")]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.dicomweb = f"{self.url}/dicom-web"
        self.log = folder / "orthanc.log"
        settings = {
            "HttpPort": port,
            # Its DICOM port would listen to other machines.
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.start()

    def start(self) -> None:
        """Start it, again after :meth:`stop`, with what it held."""
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(self._command, stdout=stream, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                httpx.get(f"{self.url}/system").raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"Orthanc did not start: {self.log.read_text()}")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def push(self, folder: Path) -> None:
        """Store the files of a folder."""
        for file in sorted(folder.iterdir()):
            content = file.read_bytes()
            httpx.post(f"{self.url}/instances", content=content).raise_for_status()

    def segmentations(self, study: str) -> list[bytes]:
        """The DICOM segmentations of a study."""
        query = {"StudyInstanceUID": study, "Modality": "SEG"}
        found: list[Any] = httpx.post(
            f"{self.url}/tools/find", json={"Level": "Instance", "Query": query}
        ).json()
        return [httpx.get(f"{self.url}/instances/{one}/file").content for one in found]


class AnswersHeld(Relay):
    """Before a PACS; can keep back what it answers to a POST that went well.

    Attributes
    ----------
    hold : threading.Event
        Keep back.
    held : threading.Event
        An answer was kept back.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        host, _, port = url.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self.hold, self.held = threading.Event(), threading.Event()

    def _taken(self, site: socket.socket) -> None:
        pacs = socket.create_connection(self._target)
        self._sockets += [site, pacs]
        posting = threading.Event()

        def asked(chunk: bytes) -> bool:
            if chunk.startswith(b"POST "):
                posting.set()
            return True

        def answered(chunk: bytes) -> bool:
            if not (posting.is_set() and self.hold.is_set() and b" 200 " in chunk[:20]):
                return True
            self.held.set()
            return False

        self._start(pump, site, pacs, asked)
        self._start(pump, pacs, site, answered)
