"""Images on their way, each watched by the page of the user who brought it."""

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from veilseg.client.pipeline import Progress
from veilseg.client.watching import Stage
from veilseg.errors import VeilsegError
from veilseg.gateway.errors import Cancelled, UnknownObject
from veilseg.gateway.jobs import Job, Jobs
from veilseg.gateway.sessions import Sessions
from veilseg.serving.errors import DeadlinePassed

Document = dict[str, Any]
Work = Callable[["Task", Progress], Document]

# A page that was closed is not computed for; one that lost its line comes back before.
ABANDONED_S: Final = 30.0
# How often a line on which nothing happens is written to.
KEEP_ALIVE_S: Final = 15.0


@dataclass
class State:
    """How far an image is: ``queued``, a stage of the path, ``done``, ``failed``, ``cancelled``."""

    stage: str = "queued"
    done: int = 0
    total: int = 0

    @property
    def ended(self) -> bool:
        return self.stage in ("done", "failed", "cancelled")


@dataclass
class Task:
    """One image on its way.

    Attributes
    ----------
    id : str
        Random; names the folder beside the upload in which its pictures lie.
    owner, session_id, model : str
    state : State
    result : dict or None
        What is told of it in the end.
    error : Exception or None
        Why it failed.
    """

    owner: str
    session_id: str
    model: str
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    state: State = field(default_factory=State)
    result: Document | None = None
    error: BaseException | None = None
    job: Job[Document] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._changes: set[asyncio.Event] = set()
        self._unwatched: asyncio.TimerHandle | None = None

    def began(self, stage: Stage) -> None:
        """Note a stage; called where the work is done."""
        self._set(State(stage, self.state.done, self.state.total))

    def sent(self, done: int, total: int) -> None:
        """Note tiles that were answered."""
        self._set(State("sending", done, total))

    def end(self, why: Exception) -> None:
        """Stop it, if it has not ended."""
        if not self.state.ended:
            self.error = why
            self.job.cancel()

    def settled(self, job: Job[Document]) -> None:
        """Note how it ended."""
        ended = job.result.cancelled()
        failed = Cancelled("cancelled") if ended else job.result.exception()
        if failed is None:
            self.result, self.error = job.result.result(), None
            self._set(State("done", self.state.done, self.state.total))
            return
        if not (isinstance(failed, Cancelled) and self.error is not None):
            self.error = failed
        stage = "cancelled" if isinstance(self.error, Cancelled) else "failed"
        self._set(State(stage, self.state.done, self.state.total))

    async def states(self) -> AsyncGenerator[State | None, None]:
        """What it is at now, then every change to its end; None where nothing changed for long."""
        changed = asyncio.Event()
        with self._lock:
            self._changes.add(changed)
        if self._unwatched is not None:
            self._unwatched.cancel()
        try:
            while True:
                changed.clear()
                state = self.state
                yield state
                if state.ended:
                    return
                while not changed.is_set():
                    try:
                        await asyncio.wait_for(changed.wait(), KEEP_ALIVE_S)
                    except TimeoutError:
                        yield None
        finally:
            with self._lock:
                self._changes.discard(changed)
            self.leave_alone()

    def leave_alone(self) -> None:
        """Nobody watches now: end it, if nobody comes back."""
        if not self._changes and not self.state.ended:
            self._unwatched = self._loop.call_later(
                ABANDONED_S, self.end, Cancelled("nobody waits for it any more")
            )

    def expires(self, after_s: float) -> None:
        """End it if it takes longer."""
        late = DeadlinePassed("the image was not segmented in time")
        self._loop.call_later(after_s, self.end, late)

    def _set(self, state: State) -> None:
        with self._lock:
            self.state = state
            changes = tuple(self._changes)
        for change in changes:
            self._loop.call_soon_threadsafe(change.set)


class Tasks:
    """All of them; each as long as the upload that it is of.

    Parameters
    ----------
    jobs : Jobs
    sessions : Sessions
    deadline_s : float
        For one image, the time it waits included.
    """

    def __init__(self, jobs: Jobs, sessions: Sessions, deadline_s: float) -> None:
        self._jobs = jobs
        self._sessions = sessions
        self._deadline_s = deadline_s
        self._tasks: dict[str, Task] = {}

    def begin(self, owner: str, session_id: str, model: str, work: Work) -> Task:
        """Have an image segmented as soon as there is room for it.

        Raises
        ------
        UnknownObject
            If the user has no such upload.
        Busy, Draining
            As :meth:`Jobs.begin`.
        """
        self._sessions.find(owner, session_id)
        self._drop_old()
        task = Task(owner, session_id, model)
        task.job = self._jobs.begin(lambda progress: work(task, progress))
        task.job.result.add_done_callback(lambda _: task.settled(task.job))
        task.expires(self._deadline_s)
        task.leave_alone()
        self._tasks[task.id] = task
        return task

    def find(self, owner: str, name: str) -> Task:
        """A task of a user. Raises UnknownObject if it is not theirs, or its upload is gone."""
        task = self._tasks.get(name)
        if task is None or task.owner != owner:
            raise UnknownObject("task: no such task, or it was deleted")
        self._sessions.find(owner, task.session_id)
        return task

    def _drop_old(self) -> None:
        for name, task in list(self._tasks.items()):
            try:
                self._sessions.find(task.owner, task.session_id)
            except VeilsegError:
                del self._tasks[name]
