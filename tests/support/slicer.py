"""MONAI Label's client as 3D Slicer has it, in an environment and a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import GatewayProcess

CALLS = Path(__file__).with_name("slicer_calls.py")


class Refused(Exception):
    """The client raised; the message is what it shows."""


def client_python() -> Path:
    """What runs the client; the test is skipped where ``make setup`` did not install it."""
    python = Path(sys.prefix) / "slicer-client" / "bin" / "python"
    if not python.exists():
        pytest.skip("needs Slicer's client: make setup")
    return python


def ask(url: str, folder: Path, *calls: list[Any], token: dict[str, str] | None = None) -> Any:
    """Make calls one after the other; gives what each gave, or a :class:`Refused`.

    Parameters
    ----------
    url : str
    folder : Path
        Where the client saves results.
    calls : list
        Name of a method of ``MONAILabelClient``, then its arguments.
    token : dict, optional
        As ``auth_token`` gave it.
    """
    wanted = {"url": url, "folder": str(folder), "calls": calls, "token": token}
    ended = subprocess.run(
        [str(client_python()), "-W", "ignore", str(CALLS)],
        input=json.dumps(wanted, default=str),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [
        one["found"] if "found" in one else Refused(one["refused"])
        for one in json.loads(ended.stdout)
    ]


def post(
    gateway: GatewayProcess, model: str, params: dict[str, Any] | None = None, **more: Any
) -> httpx.Response:
    """One request for a segmentation, as other clients make it."""
    headers, files = more.pop("headers", {}), more.pop("files", None)
    return httpx.post(
        f"{gateway.url}/infer/{model}",
        params=more,
        data={"params": json.dumps(params or {})},
        files=files,
        headers=headers,
        timeout=60,
    )
