"""Log lines: one each, with the request they are of, and no word of an exception's message."""

import json
import logging
import sys

import pytest

from veilseg.serving.logs import FIELDS, JsonLines, TextLines, request_id


@pytest.fixture
def record() -> logging.LogRecord:
    try:
        raise ValueError("pixels [0.5 0.25]")
    except ValueError:
        found = logging.LogRecord(
            "veilseg.x", logging.ERROR, "file", 1, "it\nfailed %d", (7,), sys.exc_info()
        )
    setattr(found, FIELDS, {"status": 500, "site": "uni"})
    return found


@pytest.fixture(autouse=True)
def asked():
    token = request_id.set("case-7")
    yield
    request_id.reset(token)


def test_json(record: logging.LogRecord):
    line = JsonLines().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert found["time"].endswith("+00:00")
    del found["time"]
    assert found == {
        "level": "error",
        "logger": "veilseg.x",
        "message": "it\nfailed 7",
        "status": 500,
        "site": "uni",
        "request_id": "case-7",
        "error": "ValueError",
        "where": found["where"],
    }
    assert found["where"].startswith("record:")
    assert "pixels" not in line


def test_text(record: logging.LogRecord):
    line = TextLines().format(record)
    assert "\n" not in line
    _, said = line.split(" ", 1)
    assert said.startswith("ERROR it | failed 7 status=500 site=uni request_id=case-7 error=Value")
    assert "pixels" not in line
