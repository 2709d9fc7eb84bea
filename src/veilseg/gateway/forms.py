"""What users upload: forms within limits, and files under names that say nothing."""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from starlette.requests import Request

from veilseg.gateway.errors import InvalidRequest, StorageFull
from veilseg.gateway.multipart import FIELD_BYTES, Form, MultipartForm, Upload
from veilseg.gateway.settings import Settings
from veilseg.imaging.dicom_marks import ENDING as DICOM_ENDING
from veilseg.imaging.formats import ending_of
from veilseg.serving.errors import BodyTooLarge

CHUNK_BYTES: Final = 1 << 20
# nnU-Net's way of naming the channels of an image.
CHANNEL: Final = re.compile(r"_(\d{4})(?=\.)")


@dataclass(frozen=True)
class Room:
    """Where what arrives lies, and who counts it.

    Attributes
    ----------
    folder : Path
        For this form alone.
    more : callable
        Is told of so many bytes before they are kept.
    """

    folder: Path
    more: Callable[[int], None]


Arriving = Callable[[], AbstractContextManager[Room]]


@asynccontextmanager
async def form_of(
    request: Request,
    settings: Settings,
    arriving: Arriving,
    most_bytes: int | None = None,
    most_files: int | None = None,
) -> AsyncIterator[Form]:
    """The form of a request; its files lie on disk until the end of the block, or where they were
    moved to.

    Parameters
    ----------
    request : Request
    settings : Settings
    arriving : callable
        As :meth:`Sessions.arriving`: what comes is counted before it is kept.
    most_bytes, most_files : int or None
        None: those of an upload.

    Raises
    ------
    BodyTooLarge
        If more is announced, or arrives, than an upload may have.
    StorageFull
        If there is no room for it beside other uploads.
    InvalidRequest
        If it is no form, or has more files and fields than forms here have.
    TimeoutError
        If it does not arrive in time.
    """
    limit = settings.upload_bytes if most_bytes is None else most_bytes
    files = settings.upload_files if most_files is None else most_files
    too_large = BodyTooLarge(f"body: more than the {limit} bytes of an upload")
    declared, received = request.headers.get("content-length", ""), 0
    if declared.isdecimal() and int(declared) > limit:
        raise too_large

    async def counted(room: Room) -> AsyncIterator[bytes]:
        nonlocal received
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise too_large
            room.more(len(chunk))
            yield chunk

    with arriving() as room:
        try:
            with anyio.fail_after(settings.body_timeout_s):
                form = await _received(request, counted(room), room.folder, files)
        except TimeoutError:  # an OSError to Python; the disk has no part in it
            raise
        except OSError as error:
            raise StorageFull("the upload cannot be stored here") from error
        yield form


async def _received(
    request: Request, stream: AsyncIterator[bytes], folder: Path, most_files: int
) -> Form:
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("application/x-www-form-urlencoded"):
        body = b""
        async for chunk in stream:
            body += chunk
            if len(body) > FIELD_BYTES:
                raise BodyTooLarge(f"body: more than the {FIELD_BYTES} bytes of a field")
        return Form(dict(parse_qsl(body.decode("utf-8", "replace"))))
    if not content_type.startswith("multipart/form-data"):
        return Form()
    with MultipartForm(content_type, folder, most_files) as form:
        async for chunk in stream:
            await anyio.to_thread.run_sync(form.write, chunk)
        return form.finish()


async def fields_of(request: Request, settings: Settings) -> dict[str, Any]:
    """The JSON object in a request, which is small.

    Raises
    ------
    BodyTooLarge
        If it is not.
    InvalidRequest
        If it is no JSON object.
    TimeoutError
        If it does not arrive in time.
    """
    body = b""
    with anyio.fail_after(settings.body_timeout_s):
        async for chunk in request.stream():
            body += chunk
            if len(body) > FIELD_BYTES:
                raise BodyTooLarge(f"body: more than the {FIELD_BYTES} bytes of a question")
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("body: no JSON") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("body: no JSON object")
    return fields


def kept(uploads: Sequence[Upload], folder: Path) -> tuple[Path, str]:
    """Move the files of one image into a folder, under names that say nothing.

    Parameters
    ----------
    uploads : sequence of Upload
        One file, the channels of an image as ``CASE_0000.nii.gz``, …, or the slices of a series.

    Returns
    -------
    (Path, str)
        The image, and the SHA-256 of all that it is of.

    Raises
    ------
    InvalidRequest
        If there is no file.
    """
    if not uploads:
        raise InvalidRequest("files: there is none")
    # Slicer's client sends the whole path, Windows' too.
    names = [re.split(r"[/\\]", upload.name)[-1] for upload in uploads]
    endings = [ending_of(Path(name)).lower() for name in names]
    channels = [found[1] for name in names if (found := CHANNEL.search(name))]
    image = folder / f"image{endings[0]}"
    targets = [image]
    # Slices are numbered as channels are.
    several = len(uploads) > 1 and DICOM_ENDING not in endings
    if several and len(set(channels)) == len(uploads) and "0000" in channels:
        targets = [
            folder / f"image_{channel}{ending}"
            for channel, ending in zip(channels, endings, strict=True)
        ]
        image = targets[channels.index("0000")]
    elif len(uploads) > 1:
        image = folder / "series"
        image.mkdir()
        promised = (DICOM_ENDING if ending == DICOM_ENDING else "" for ending in endings)
        targets = [image / f"{number:06d}{ending}" for number, ending in enumerate(promised)]
    digest = hashlib.sha256()
    for upload, target in zip(uploads, targets, strict=True):
        upload.path.replace(target)
        with target.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    return image, digest.hexdigest()
