"""Progress: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SECONDS_BETWEEN_LINES = 10.0


class Report(Protocol):
    """Called with what is done, the total, and a short note."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Show the progress of one piece of work on standard error."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=None)

            def draw(done: int, total: int, note: str = "") -> None:
                bar.update(task, completed=done, total=total, description=f"{what} {note}".strip())

            yield draw
    else:
        last = -SECONDS_BETWEEN_LINES

        def write(done: int, total: int, note: str = "") -> None:
            nonlocal last
            now = time.monotonic()
            if done == total or now - last >= SECONDS_BETWEEN_LINES:
                last = now
                print(f"{what}: {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)

        yield write
