"""What an operator chooses, and what bounds the gateway."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Limits of the gateway. Times are in seconds, sizes in bytes.

    Attributes
    ----------
    data : Path, optional
        Folder of images that are at the site already; named by their names or series UIDs.
    work : Path, optional
        Where uploads lie for a while; by default the system's folder for temporary files.
    origins : tuple of str
        Pages elsewhere that may ask, such as ``http://viewer.hospital.example``.
    workers
        Images that are segmented at a time; what waits is on disk.
    places
        Requests that are segmented or wait for it; more meet 429.
    deadline_s
        Within which an image has to be segmented; later ones meet 504.
    session_s
        For so long an upload is kept after its last use.
    upload_bytes, stored_bytes
        The largest upload, and all uploads together.
    upload_files
        Files in one upload: slices of a series.
    body_timeout_s, head_timeout_s
        Within which an upload or a request's head has to arrive.
    head_bytes
        Request line and headers.
    connections
        Open at a time.
    drain_s
        How long running requests may take after SIGTERM.
    """

    data: Path | None = None
    work: Path | None = None
    origins: tuple[str, ...] = ()
    workers: int = 2
    places: int = 32
    deadline_s: float = 1800.0
    session_s: float = 3600.0
    upload_bytes: int = 2 * 1024**3
    stored_bytes: int = 20 * 1024**3
    upload_files: int = 5000
    body_timeout_s: float = 600.0
    head_timeout_s: float = 20.0
    head_bytes: int = 16384
    connections: int = 200
    drain_s: float = 60.0
