"""One series at a time: fetched, segmented, stored, and each step written down."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from veilseg.errors import (
    IntegrityError,
    InvalidInput,
    InvalidVault,
    OutputNotWritable,
    ServerError,
    ServerRefused,
)
from veilseg.gateway.pacs.state import MOST_ATTEMPTS, Row, State, synced
from veilseg.gateway.segmenting import Segmenter, Subject
from veilseg.serving.http_errors import log_failure

logger = logging.getLogger(__name__)


class Archive(Protocol):
    """Where series come from and segmentations go."""

    def fetch(self, row: Row, folder: Path) -> Path:
        """The folder with a series' files.

        Parameters
        ----------
        row : Row
        folder : Path
            Empty; may be written to.

        Raises
        ------
        ServerError
            If it is away: to be tried again.
        InvalidInput
            If there is no such series, or none that can be read.
        """
        ...

    def store(self, segmentation: Path) -> None:
        """Store a file; the same again changes nothing. Raises as :meth:`fetch`."""
        ...


@dataclass(frozen=True)
class Worker:
    """What is done with a series that is due.

    Attributes
    ----------
    state : State
    archive : Archive
    segmenters : mapping of name to Segmenter
    work : Path
        Private folder for what lies on disk meanwhile.
    allow_repeat : bool
        Send proxies of follow-up studies.
    tell : callable
        Is given a line for people, without names and UIDs.
    """

    state: State
    archive: Archive
    segmenters: Mapping[str, Segmenter]
    work: Path
    allow_repeat: bool
    tell: Callable[[str], None]

    def work_on(self, row: Row) -> None:
        """Bring a series to its end, or a step further.

        Raises
        ------
        ServerError
            If somebody is away, or :class:`Unforeseen`; it stays due.
        IntegrityError, InvalidVault
            If bundle or vault cannot be used: for no series, until somebody looks after it.
        """
        try:
            if row.attempts >= MOST_ATTEMPTS:
                raise InvalidInput(f"begun {row.attempts} times and never brought to an end")
            self.state.begin(row)
            if row.state == "waiting":
                self._segment(row)
            self._store(row)
        except (IntegrityError, InvalidVault):
            # Of this site's set-up, which is in no series.
            self.state.postponed(row)
            raise
        except InvalidInput as error:
            if _of_the_disk(error):
                # No fault of the series: it is there when there is room again.
                raise ServerRefused(f"series {row.number}: {error}") from error
            self._fail(row, str(error))
        except Exception as error:
            if not isinstance(error, ServerError):
                # Where it happened is for the log; what it says may quote a header.
                log_failure(error)
                raise Unforeseen(f"series {row.number}: {type(error).__name__}") from error
            raise
        except BaseException:
            # Told to end: no fault of the series.
            self.state.postponed(row)
            raise

    def _segment(self, row: Row) -> None:
        if row.model not in self.segmenters:
            raise InvalidInput(f"model {row.model} is not here any more")
        folder = self.work / f"series-{row.number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            with _named(folder, "the series"):
                series = self.archive.fetch(row, folder)
            written = folder / "segmentation.dcm"
            with _named(folder, "the series"), _named(series, "the series"):
                # Without an id in the header, a series is a person of its own.
                subject = Subject.of(series, "", f"series {row.series}")
                found = self.segmenters[row.model].run(
                    series, subject, written, allow_repeat=self.allow_repeat
                )
            for warning in found.warnings:
                self.tell(f"series {row.number}: warning: {warning}")
            target = self.outbox(row)
            shutil.move(written, target)
            synced(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.state.segmented(row)

    def _store(self, row: Row) -> None:
        # The same object however often it is stored: its UIDs are in the file.
        self.archive.store(self.outbox(row))
        self.state.done(row)
        self.outbox(row).unlink(missing_ok=True)
        self.tell(f"series {row.number}: segmented and stored")

    def _fail(self, row: Row, reason: str) -> None:
        self.state.failed(row, reason)
        self.outbox(row).unlink(missing_ok=True)
        self.tell(f"series {row.number}: not segmented: {reason}")

    def outbox(self, row: Row) -> Path:
        """Where a segmentation waits to be stored."""
        return self.state.outbox / f"{row.number}.dcm"


class Unforeseen(ServerError):
    """A failure that nobody foresaw, to be tried again some times."""


def _of_the_disk(error: BaseException | None) -> bool:
    """Whether something could not be written because the system said so."""
    found = False
    while error is not None:
        found = found or isinstance(error, OutputNotWritable)
        if found and isinstance(error, OSError):
            return True
        error = error.__cause__
    return False


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Have errors say what a path is to people, who know nothing of this folder."""
    try:
        yield
    except InvalidInput as error:
        raise type(error)(str(error).replace(str(path), name)) from error
