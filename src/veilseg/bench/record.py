"""What a measurement is of: commit, machine, threads; and the file that it goes to."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from veilseg.errors import OutputNotWritable
from veilseg.files import write_text_whole
from veilseg.machine import processor, usable_cores

PROJECT: Final = Path(__file__).resolve().parents[3]
# What decides a figure; results and documents are changed by measuring itself.
CODE: Final = ("src", "scripts", "pyproject.toml", "constraints.txt")
LIBRARIES: Final = ("numpy", "onnxruntime", "openvino", "torch", "uvicorn")


def source_state() -> str:
    """The commit of the code, followed by ``(modified)`` where the code is not as committed.

    ``unknown`` where it was installed without its repository.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit} (modified)" if _git("status", "--porcelain", "--", *CODE) else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, Any]:
    """Processor, cores, memory and libraries; and how busy it is already."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def record(kind: str, threads: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON-ready document of one measurement; call it before measuring, for the load."""
    head = {"bench": kind, "commit": source_state(), "machine": machine(), "threads": threads}
    return {**head, **fields}


def require_writable(file: Path) -> None:
    """Refuse before minutes of measuring. Raises :class:`OutputNotWritable`."""
    if not file.parent.is_dir():
        raise OutputNotWritable(f"{file}: folder {file.parent} does not exist")
    if file.is_dir():
        raise OutputNotWritable(f"{file}: is a folder")


def write(file: Path, fields: Mapping[str, Any]) -> None:
    """Write the document, whole or not at all; NaN is refused, since JSON has none."""
    write_text_whole(file, json.dumps(fields, indent=2, allow_nan=False) + "\n")


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
