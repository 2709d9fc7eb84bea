"""Commands of ``veilseg`` as processes of their own, which end with whoever runs them."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from veilseg.child_processes import END_WITH_PARENT, stop
from veilseg.errors import IntegrityError, InvalidInput, ServerError, VeilsegError

Note = Callable[[str], None]

# Progress as cli.progress writes it where there is no terminal.
PROGRESS: Final = re.compile(r"\S.*: (\d+/\d+)(?: (.*))?$")
ERROR: Final = "veilseg: "
# A child's exit code says which branch of the tree its error was of.
ERRORS: Final[dict[int, type[VeilsegError]]] = {
    2: InvalidInput,
    3: InvalidInput,
    4: ServerError,
    5: IntegrityError,
}


def veilseg(*arguments: str | Path, note: Note) -> None:
    """Run a command of ours; ``note`` is told how far it is.

    Apart, since a training forks and an audit takes memory that is to be given back.

    Raises
    ------
    VeilsegError
        If it fails: of the branch that its exit code names, with its line.
    """
    command = [sys.executable, "-m", "veilseg.cli.main", *map(str, arguments)]
    told = ""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=END_WITH_PARENT,
    ) as child:
        assert child.stderr is not None
        try:
            for line in map(str.rstrip, child.stderr):
                if line.startswith(ERROR):
                    told = line.removeprefix(ERROR)
                elif step := PROGRESS.match(line):
                    note(f"{step[1]} {step[2] or ''}".rstrip())
                elif line:
                    told = line
        except BaseException:
            stop(child)
            raise
    if child.returncode < 0:
        raise VeilsegError(f"{arguments[0]}: ended by signal {-child.returncode}")
    if child.returncode:
        raise ERRORS.get(child.returncode, VeilsegError)(f"{arguments[0]}: {told}")


def written(file: Path, bundle_id: str, *command: str | Path, note: Note) -> dict[str, Any]:
    """What a command writes about a bundle; read where it was written before."""
    if file.is_file():
        old: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        timed = old.get("bundles", {}).values()
        if bundle_id in (old.get("bundle_id"), *(one["bundle_id"] for one in timed)):
            return old
    note("begins")
    veilseg(*command, "--json", file, note=note)
    made: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return made


def prefixed(what: str, note: Note) -> Note:
    """Of one part of a work: told with the part's name."""
    return lambda told: note(f"{what} {told}")
