"""``veilseg pacs``: what the PACS holds or sends is segmented by itself."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veilseg.cli.extras import needing
from veilseg.cli.halves import Route, segmenters
from veilseg.errors import InvalidInput, WrongUsage
from veilseg.files import mode_open_to_others

if TYPE_CHECKING:
    from veilseg.gateway.pacs.rules import Rule
    from veilseg.gateway.pacs.series import FoundSeries
    from veilseg.gateway.pacs.state import State
    from veilseg.gateway.pacs.worker import Archive
    from veilseg.gateway.segmenting import Segmenter


@dataclass(frozen=True)
class Task:
    """What is segmented, how, and where that is written down."""

    route: Route
    rules: list[str]
    state: Path
    allow_repeat: bool
    every_s: float
    settle_s: float
    once: bool
    log_format: str


@dataclass(frozen=True)
class Ear:
    """Where series are received, and from whom."""

    title: str
    host: str
    port: int
    callers: tuple[str, ...]
    tls_cert: Path | None
    tls_key: Path | None
    client_ca: Path | None
    insecure: bool


@dataclass(frozen=True)
class _Ready:
    """A task whose options were found sound."""

    task: Task
    state: "State"
    segmenters: "dict[str, Segmenter]"
    rules: "list[Rule]"

    def note(self, found: "FoundSeries", forgotten: bool = False) -> None:
        """Write down a series for each model that is to segment it."""
        from veilseg.gateway.pacs.rules import models_for

        for model in models_for(self.rules, found.attributes):
            about = found.study, found.series, model, found.images
            if told := self.state.saw(*about, forgotten):
                print(told, flush=True)


def watch(
    task: Task, dicomweb: str, days: int, authorization: Path | None, ca: Path | None
) -> None:
    """Look, segment and store until told to end; with ``once``, until nothing is left to do.

    Raises
    ------
    MissingDependency
        If the ``[gateway]`` extra is not installed.
    WrongUsage, InvalidInput, IntegrityError
        If options, rules, bundles, vaults or the state cannot be used.
    ServerError
        With ``once``, if PACS or server are away.
    """
    with _ready(task) as ready:
        from veilseg.gateway.pacs.dicomweb import DicomWeb

        archive = DicomWeb(dicomweb, _authorization(authorization), ca)

        def look() -> None:
            for found in archive.changed_series(days):
                ready.note(found)

        print(f"watching {dicomweb}", flush=True)
        _run(ready, archive, look)


def listen(task: Task, ear: Ear, store: str) -> None:
    """Receive, segment and send until told to end. Raises as :func:`watch`."""
    with _ready(task) as ready:
        from veilseg.gateway.pacs.dimse import Exchange, Peer, Receiver
        from veilseg.gateway.pacs.inbox import Inbox
        from veilseg.gateway.pacs.rules import models_for
        from veilseg.serving.sockets import bind, require_guarded
        from veilseg.serving.tls import ServerTls

        if (ear.tls_cert is None) != (ear.tls_key is None):
            raise WrongUsage("--tls-cert, --tls-key: give both")
        with bind(ear.host, ear.port) as tried:
            # DIMSE has no tokens: who may send is known by certificates, or not at all.
            guards = {"--tls-cert": ear.tls_cert, "--client-ca": ear.client_ca}
            require_guarded(tried, ear.host, guards, ear.insecure)
        tls = None
        if ear.tls_cert is not None and ear.tls_key is not None:
            tls = ServerTls(ear.tls_cert, ear.tls_key, ear.client_ca)
        inbox = Inbox(ready.state.inbox)
        exchange = Exchange(ear.title, inbox, Peer.of(store))

        def look() -> None:
            for found in inbox.found():
                ready.note(found, forgotten=True)
                if ready.state.is_finished(found.series):
                    inbox.forget(found.series)

        receiver = Receiver(
            *(ear.title, (ear.host, ear.port), inbox),
            lambda attributes: bool(models_for(ready.rules, attributes)),
            ear.callers,
            tls=tls,
        )
        with receiver:
            host, port = receiver.address
            print(f"listening on {ear.title}@{host}:{port}", flush=True)
            _run(ready, exchange, look)


def show(folder: Path) -> None:
    """Print a line for each series."""
    _require_extra()
    from veilseg.gateway.pacs.state import State

    if not folder.is_dir():
        raise InvalidInput(f"{folder}: no such folder")
    with State(folder) as state:
        for row in state.rows():
            reason = f": {row.reason}" if row.reason else ""
            print(f"{row.number} {row.model} {row.state} {row.series}{reason}")


@contextmanager
def _ready(task: Task) -> Iterator[_Ready]:
    _require_extra()
    from veilseg.gateway.pacs.rules import Rule
    from veilseg.gateway.pacs.state import State, locked
    from veilseg.serving import logs

    if task.log_format not in ("text", "json"):
        raise WrongUsage(f"--log-format {task.log_format}: choose text or json")
    logs.configure("json" if task.log_format == "json" else "text", "info")
    with segmenters(task.route) as found:
        by_name = {one.manifest.name: one for one in found}
        rules = [Rule.of(text, list(by_name)) for text in task.rules]
        with State(task.state) as state, locked(state):
            yield _Ready(task, state, by_name, rules)


def _run(ready: _Ready, archive: "Archive", look: Callable[[], None]) -> None:
    from veilseg.gateway.pacs.watching import Pace, watch
    from veilseg.gateway.pacs.worker import Worker
    from veilseg.gateway.work import work_folder

    def tell(line: str) -> None:
        print(line, flush=True)

    # As Ctrl-C: what is begun is left as it should be.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    task = ready.task
    with work_folder(None) as work:
        worker = Worker(ready.state, archive, ready.segmenters, work, task.allow_repeat, tell)
        watch(look, worker, Pace(task.every_s, task.settle_s), once=task.once)


def _authorization(file: Path | None) -> str:
    """What the PACS is shown: the only line of a private file."""
    if file is None:
        return ""
    try:
        mode, text = mode_open_to_others(file), file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: cannot be read") from error
    if mode is not None:
        raise InvalidInput(f"{file}: open to others (mode {mode:o}): chmod 600 it")
    if not text or not text.isprintable():
        raise InvalidInput(f"{file}: holds no line such as: Basic …, Bearer …")
    return text


def _require_extra() -> None:
    with needing("gateway", "veilseg pacs needs"):
        import dicomweb_client  # noqa: F401
        import fastapi  # noqa: F401
        import pynetdicom  # noqa: F401
