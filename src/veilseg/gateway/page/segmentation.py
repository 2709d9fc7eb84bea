"""What is done with an image for the page, and what can be taken home of it."""

import secrets
import shutil
from pathlib import Path
from typing import Any, Final

from veilseg.bundle import ClientManifest
from veilseg.client.pipeline import Progress, channel_files
from veilseg.client.watching import Stage
from veilseg.gateway.page import documents
from veilseg.gateway.page.looking import Looking
from veilseg.gateway.page.tasks import Document, Task
from veilseg.gateway.segmenting import Segmenter, Subject
from veilseg.gateway.sessions import Session
from veilseg.gateway.site import Site
from veilseg.imaging.dicom_marks import Kind
from veilseg.imaging.formats import (
    is_dicom,
    read_label_map,
    result_endings,
    write_label_map,
    write_segmentation,
)

RESULT: Final = "segmentation.nii.gz"
DICOM_KINDS: Final[dict[str, Kind]] = {"dicom-seg": "binary", "dicom-labelmap": "labelmap"}
DOWNLOADS: Final = ("nifti", "png", *DICOM_KINDS)


def segmented(
    site: Site,
    segmenter: Segmenter,
    task: Task,
    told: str,
    allow_repeat: bool,
    progress: Progress,
) -> Document:
    """Segment an upload and keep what there is to see; what is told of it.

    Parameters
    ----------
    told : str
        Who it is, as the page's user said; empty if they did not.
    progress : callable
        Raises when the image has to end.

    Raises
    ------
    InvalidInput, ServerError, IntegrityError
        As :meth:`Segmenter.run`; StorageFull if there is no room for the pictures.
    """

    def began(stage: Stage) -> None:
        progress(task.state.done, task.state.total)
        task.began(stage)

    def sent(done: int, total: int) -> None:
        progress(done, total)
        task.sent(done, total)

    with site.sessions.used(task.owner, task.session_id) as session:
        folder = session.folder / task.id
        folder.mkdir(mode=0o700)
        try:
            subject = Subject.of(session.image, told, f"upload {session.digest}")
            looking = Looking(folder, segmenter.manifest, began)
            options: dict[str, Any] = {"allow_repeat": allow_repeat, "watcher": looking}
            found = segmenter.run(session.image, subject, folder / RESULT, progress=sent, **options)
            looking.found(found.labels)
            site.sessions.grow(session, sum(one.stat().st_size for one in folder.iterdir()))
        except BaseException:
            # Pictures that nobody will ask for, and that no limit counts.
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return {
        **documents.told(found, segmenter.manifest),
        "linked": looking.linked,
        "unit": found.labels.geometry.unit,
        "tiles": task.state.total,
        "downloads": [kind for kind in DOWNLOADS if _offered(kind, session.image)],
        "known_by": "you" if told else "header" if subject.told else "content",
        "ledger": documents.ledger(segmenter.sent(subject.name)),
    }


def _offered(kind: str, image: Path) -> bool:
    if kind in DICOM_KINDS:
        return is_dicom(image)
    return kind == "nifti" or f".{kind}" in result_endings(image)


def download(session: Session, task: str, kind: str, manifest: ClientManifest) -> bytes:
    """A segmentation as a file.

    Parameters
    ----------
    session : Session
        The upload that it is of.
    task : str
        Which of its segmentations.
    kind : str
        One of :data:`DOWNLOADS`.

    Raises
    ------
    OutputNotWritable, InvalidImage
        If the image cannot have one of that kind.
    """
    stored = session.folder / task / RESULT
    if kind == "nifti":
        return stored.read_bytes()
    labels = read_label_map(stored)
    # Random, and left out of messages as all such names are.
    place = session.folder / secrets.token_hex(16)
    place.mkdir(mode=0o700)
    try:
        if kind == "png":
            file = place / "segmentation.png"
            write_label_map(file, labels)
        else:
            file = place / "segmentation.dcm"
            files = channel_files(session.image, manifest)
            write_segmentation(file, labels, files, manifest, DICOM_KINDS[kind])
        return file.read_bytes()
    finally:
        shutil.rmtree(place, ignore_errors=True)
