"""Refusals of the gateway, and whether its document names their statuses."""

import re
from pathlib import Path

import httpx

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"


def refused(answer: httpx.Response, status: int) -> str:
    """The one line of a refusal, whose status is documented."""
    assert answer.status_code == status, answer.text
    documented = {int(found) for found in re.findall(r"\b([45]\d\d)\b", PAGE.read_text())}
    assert status in documented
    line = answer.json()["detail"]
    assert "\n" not in line
    return line
