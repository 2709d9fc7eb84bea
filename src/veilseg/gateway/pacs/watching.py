"""The loop: look, wait until series are complete, work, and wait longer where somebody is away."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from veilseg.errors import InvalidAnswer, ModelFailed, ServerError
from veilseg.gateway.pacs.backoff import Backoff
from veilseg.gateway.pacs.worker import Unforeseen, Worker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often things are done, in seconds.

    Attributes
    ----------
    every_s : float
        Between two looks at the PACS.
    settle_s : float
        Without a further image, a series is complete.
    """

    every_s: float = 30.0
    settle_s: float = 60.0


def watch(
    look: Callable[[], None],
    worker: Worker,
    pace: Pace,
    *,
    once: bool = False,
    ended: threading.Event | None = None,
) -> None:
    """Work until told to end.

    Parameters
    ----------
    look : callable
        Notes in the worker's state what is there now.
    worker : Worker
    pace : Pace
    once : bool
        End when nothing is left to do.
    ended : Event, optional
        To end by, between two series.

    Raises
    ------
    ServerError
        With ``once``, if somebody is away.
    IntegrityError, InvalidVault
        As :meth:`Worker.work_on`.
    """
    ended = threading.Event() if ended is None else ended
    backoff = Backoff()
    while not ended.is_set():
        try:
            look()
            worker.state.settle(pace.settle_s)
            while not ended.is_set() and (row := worker.state.due()):
                try:
                    worker.work_on(row)
                except ServerError as error:
                    # Of these, somebody may be the cause whose series comes again and again.
                    counted = isinstance(error, Unforeseen | InvalidAnswer | ModelFailed)
                    worker.state.postponed(row, counted=counted)
                    raise
                backoff.reset()
        except ServerError as error:
            if once:
                raise
            pause_s = backoff.pause_s()
            logger.warning("%s: again in %.0f s", error, pause_s)
            ended.wait(pause_s)
            continue
        backoff.reset()
        if once and not worker.state.unfinished():
            return
        ended.wait(pace.every_s)
