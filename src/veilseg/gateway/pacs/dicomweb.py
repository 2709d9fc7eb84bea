"""A PACS over DICOMweb: found by QIDO-RS, fetched by WADO-RS, stored by STOW-RS."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient

from veilseg.client.addresses import is_safe_for_tokens, usable
from veilseg.errors import (
    InvalidAnswer,
    InvalidImage,
    InvalidInput,
    ServerRefused,
    ServerUnreachable,
)
from veilseg.gateway.pacs.errors import DUPLICATE, Rejected
from veilseg.gateway.pacs.rules import ATTRIBUTES
from veilseg.gateway.pacs.series import FoundSeries
from veilseg.gateway.pacs.state import Row
from veilseg.imaging.dicom_files import LIBRARY_ERRORS, quiet

logger = logging.getLogger(__name__)

STORED: Final = "ReferencedSOPSequence"
# What both tell a log holds UIDs.
LOGGERS: Final = ("dicomweb_client", "urllib3")
PAGE: Final = 200
# In whatever way it is stored: transcoding is the reader's, as with files.
ANY_SYNTAX: Final = (("application/dicom", "*"),)
LARGEST_SERIES_BYTES: Final = 4 * 1024**3
# Reasons A7xx of DICOM: it may have room later.
OUT_OF_RESOURCES: Final = 0xA700
OUT_OF_RESOURCES_MASK: Final = 0xFF00
UID: Final = re.compile(r"[0-9.]{1,64}")
JSON: Final = "application/dicom+json"
# The PACS understood, and does not want this object, or has it no more.
REJECTIONS: Final = frozenset({400, 404, 409, 410, 413, 415, 422})
IMAGES: Final = {
    "study": "NumberOfStudyRelatedInstances",
    "series": "NumberOfSeriesRelatedInstances",
}


class DicomWeb:
    """A PACS at an address.

    Parameters
    ----------
    url : str
        Of its DICOMweb service, such as ``https://pacs.hospital.example/dicom-web``.
    authorization : str
        Value of the header of that name; empty for none.
    ca : Path, optional
        Who vouches for the PACS (PEM).
    timeout_s : float
        For connecting and for each silence.

    Raises
    ------
    InvalidInput
        If the address can be none.
    """

    def __init__(
        self, url: str, authorization: str = "", ca: Path | None = None, timeout_s: float = 60.0
    ) -> None:
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            usable(url)
        except InvalidInput as error:
            # Not with the address: a password may be in it.
            raise InvalidInput(f"--dicomweb: {error}") from error
        session = requests.Session()
        # Unprotected images are for the PACS, not for a proxy of the environment, and who vouches
        # for it is said here.
        session.trust_env = False
        session.hooks["response"].append(self._looked_at)
        if ca is not None:
            session.verify = str(ca)
        headers = {"Authorization": authorization} if authorization else None
        self._client = DICOMwebClient(url, session, headers=headers, timeout=timeout_s)
        if authorization and not is_safe_for_tokens(url):
            raise InvalidInput(f"--dicomweb {url}: --pacs-auth goes over https:// only")
        # Who waits how long is decided in one place, and not here.
        self._client.set_http_retry_params(retry=False)
        self._url = url
        self._counts: dict[str, int] = {}
        self._kind = ""  # of the last answer

    def changed_series(self, days: int) -> Iterator[FoundSeries]:
        """The series of studies that were not seen as they are now.

        Parameters
        ----------
        days : int
            How old a study may be; 0 for any age.

        Raises
        ------
        ServerUnreachable, ServerRefused
        """
        filters = {}
        if days:
            since = date.today() - timedelta(days)
            filters["StudyDate"] = f"{since:%Y%m%d}-"
        passed_over = 0
        for study in self._pages(fields=[IMAGES["study"]], search_filters=filters):
            uid, images = _text(study, "StudyInstanceUID"), _number(study, IMAGES["study"])
            if self._counts.get(uid) == images and images:
                continue
            if not UID.fullmatch(uid):
                passed_over += 1
                continue
            try:
                with self._asking():
                    fields = [*ATTRIBUTES, IMAGES["series"]]
                    found = _documents(self._client.search_for_series(uid, fields=fields))
            except ServerRefused:
                # It may have been deleted since, or be broken: no reason to see no other.
                passed_over += 1
                continue
            for series in found:
                attributes = {
                    name: _text(series, name) or _text(study, name) for name in ATTRIBUTES
                }
                known = _text(series, "SeriesInstanceUID")
                if not UID.fullmatch(known):
                    passed_over += 1
                    continue
                yield FoundSeries(uid, known, _number(series, IMAGES["series"]), attributes)
            self._counts[uid] = images
        if passed_over:
            logger.warning("%s: %d studies or series cannot be listed", self._url, passed_over)

    def fetch(self, row: Row, folder: Path) -> Path:
        """Retrieve a series, as :class:`~veilseg.gateway.pacs.worker.Archive`."""
        target, taken, number = folder / "images", 0, -1
        target.mkdir()
        with self._asking(rejects=True), quiet():
            try:
                found = self._client.iter_series(row.study, row.series, media_types=ANY_SYNTAX)
                for number, dataset in enumerate(found):
                    file = target / f"{number:06d}.dcm"
                    dataset.save_as(file, enforce_file_format=True)
                    taken += file.stat().st_size
                    if taken > LARGEST_SERIES_BYTES:
                        raise InvalidImage(f"more than {LARGEST_SERIES_BYTES:,} bytes")
            except requests.RequestException:
                raise
            except OSError as error:
                # A full disk: no fault of the series.
                raise ServerRefused(f"this machine: no series kept: {error.strerror}") from error
            except LIBRARY_ERRORS as error:
                if not self._kind.startswith(("multipart/related", "application/dicom")):
                    raise InvalidAnswer(f"{self._url}: answers with no images") from error
                raise InvalidImage(
                    f"the series: damaged or truncated ({type(error).__name__})"
                ) from error
        if number + 1 < row.images:
            raise InvalidAnswer(f"{self._url}: gives {number + 1} of {row.images} images")
        return target

    def store(self, segmentation: Path) -> None:
        """Store an object, as :class:`~veilseg.gateway.pacs.worker.Archive`."""
        with quiet():
            dataset = pydicom.dcmread(segmentation)
        with self._asking(rejects=True), quiet():
            try:
                answer = self._client.store_instances([dataset])
            except requests.HTTPError as error:
                if _reason_in(error.response) == DUPLICATE:
                    return
                raise
        if answer.get("FailedSOPSequence"):
            reason = int(answer.FailedSOPSequence[0].get("FailureReason", 0))
            if reason == DUPLICATE:
                return
            told = f"does not take the segmentation (reason {reason:04X})"
            if reason & OUT_OF_RESOURCES_MASK == OUT_OF_RESOURCES:
                raise ServerRefused(f"{self._url}: {told}")
            raise Rejected(f"the PACS {told}")
        stored = [one.get("ReferencedSOPInstanceUID") for one in answer.get(STORED, [])]
        if dataset.SOPInstanceUID not in stored:
            # A page to log in at has a status of success as well.
            raise ServerRefused(f"{self._url}: does not say that the segmentation is stored")

    def _looked_at(self, answer: requests.Response, **_: Any) -> None:
        """What kind an answer is of; its charset, without which it would not be read."""
        kind = answer.headers.get("Content-Type", "")
        if kind.startswith(JSON):
            kind = answer.headers["Content-Type"] = JSON
        self._kind = kind

    def _pages(self, **asked: Any) -> Iterator[Mapping[str, Any]]:
        """Until nothing new comes: a page may be shorter than was asked for."""
        offset, known = 0, set[str]()
        while True:
            with self._asking():
                found = _documents(
                    self._client.search_for_studies(limit=PAGE, offset=offset, **asked)
                )
            uids = {_text(study, "StudyInstanceUID") for study in found}
            if not uids - known:
                return
            yield from found
            known |= uids
            offset += len(found)

    @contextmanager
    def _asking(self, *, rejects: bool = False) -> Iterator[None]:
        """Turn what goes wrong on the way into errors of this package, without quoting a UID.

        With ``rejects``, some answers are about one series, and asking again would not help.
        """
        try:
            yield
        except requests.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
            if rejects and status in REJECTIONS:
                raise Rejected(f"the PACS answers {status}") from error
            if rejects and status == requests.codes.internal_server_error:
                # Not as of a PACS that is away: many fail so over one damaged object.
                raise InvalidAnswer(f"{self._url}: answers {status}") from error
            raise ServerRefused(f"{self._url}: answers {status}") from error
        except requests.RequestException as error:
            raise ServerUnreachable(f"{self._url}: {type(error).__name__}") from error
        except OSError:
            raise
        except LIBRARY_ERRORS as error:
            # What it says may quote a UID.
            told = f"{self._url}: answers with nonsense ({type(error).__name__})"
            raise ServerRefused(told) from None


def _documents(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("no list of documents")
    return found


def _reason_in(answer: requests.Response | None) -> int | None:
    """Why an object was not stored, of an answer that says no."""
    try:
        document = {} if answer is None else answer.json()
        failed = document[DICOMwebClient.lookup_tag("FailedSOPSequence")]["Value"][0]
        return int(_text(failed, "FailureReason"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _text(found: Mapping[str, Any], name: str) -> str:
    """The first value of an attribute in DICOM JSON; empty if it is missing."""
    values = found.get(DICOMwebClient.lookup_tag(name), {}).get("Value") or [""]
    return str(values[0])


def _number(found: Mapping[str, Any], name: str) -> int:
    text = _text(found, name)
    return int(text) if text.isdecimal() else 0
