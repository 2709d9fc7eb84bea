"""What the ledger lets pass, and what can be read from the vault's files."""

import base64
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from veilseg.errors import InvalidVault, RepeatRefused, VeilsegError
from veilseg.vault import ledger
from veilseg.vault.vault import LabelledReference, Vault

BUNDLE = "b" * 64
SUBJECT = "Mustermann^Erika 1964-08-12"


def test_a_retry_is_allowed_and_another_proxy_is_not(folder: Path):
    with Vault.open(folder, BUNDLE) as vault:
        assert vault.record(SUBJECT, "one", allow_repeat=False) == 1
        assert vault.record(SUBJECT, "one", allow_repeat=False) == 1
        with pytest.raises(RepeatRefused, match="a different proxy of this subject was sent"):
            vault.record(SUBJECT, "two", allow_repeat=False)
        # What was refused is not in it, and others are not touched by it.
        assert vault.record(SUBJECT, "one", allow_repeat=False) == 1
        assert vault.record("somebody else", "two", allow_repeat=False) == 1


def test_a_repeat_can_be_allowed_and_is_counted(folder: Path):
    with Vault.open(folder, BUNDLE) as vault:
        for count, digest in enumerate(("one", "two", "three"), start=1):
            assert vault.record(SUBJECT, digest, allow_repeat=True) == count
        assert vault.record(SUBJECT, "two", allow_repeat=True) == 3
        # A second time is no licence for a third.
        with pytest.raises(RepeatRefused):
            vault.record(SUBJECT, "four", allow_repeat=False)


def test_what_was_sent_how_often_and_when(folder: Path, monkeypatch: pytest.MonkeyPatch):
    now = iter((100.9, 200.0, 300.0, 400.0))
    monkeypatch.setattr(ledger.time, "time", lambda: next(now))
    with Vault.open(folder, BUNDLE) as vault:
        for digest in ("one", "two", "one"):
            vault.record(SUBJECT, digest, allow_repeat=True)
        vault.record("somebody else", "three", allow_repeat=False)
        assert vault.sent(SUBJECT) == [
            ledger.Sent("one", 2, (100, 300)),
            ledger.Sent("two", 1, (200,)),
        ]
        assert vault.forget(SUBJECT) == 2
        assert vault.sent(SUBJECT) == []
        assert [one.digest for one in vault.sent("somebody else")] == ["three"]
    # Nothing is left of when, either.
    with sqlite3.connect(folder / "vault.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM sendings").fetchone() == (1,)
    connection.close()


def test_a_vault_of_before_tells_how_often_but_not_when(folder: Path):
    with Vault.open(folder, BUNDLE) as vault:
        vault.record(SUBJECT, "one", allow_repeat=False)
    with sqlite3.connect(folder / "vault.sqlite") as connection:
        connection.execute("DROP TABLE sendings")
    connection.close()
    with Vault.open(folder, BUNDLE) as vault:
        assert vault.sent(SUBJECT) == [ledger.Sent("one", 1, ())]
        vault.record(SUBJECT, "one", allow_repeat=False)
        (sent,) = vault.sent(SUBJECT)
        assert (sent.times, len(sent.at)) == (2, 1)


def test_the_proxies_of_one_call_are_one_choice(folder: Path):
    with Vault.open(folder, BUNDLE) as vault:
        assert vault.record(SUBJECT, "one", "two", "three", allow_repeat=False) == 3
        # A retry, whole or in part, is none of the following.
        assert vault.record(SUBJECT, "three", "one", "two", allow_repeat=False) == 3
        assert vault.record(SUBJECT, "one", allow_repeat=False) == 3
        with pytest.raises(RepeatRefused):
            vault.record(SUBJECT, "one", "two", "three", "four", allow_repeat=False)
        with pytest.raises(RepeatRefused):
            vault.record(SUBJECT, "four", allow_repeat=False)
        # What was refused was refused as a whole.
        assert vault.forget(SUBJECT) == 3


def test_more_mixtures_than_before_are_a_repeat(folder: Path):
    with Vault.open(folder, BUNDLE) as vault:
        assert vault.record(SUBJECT, "one", allow_repeat=False) == 1
        with pytest.raises(RepeatRefused):
            vault.record(SUBJECT, "one", "two", allow_repeat=False)
        assert vault.record(SUBJECT, "one", "two", allow_repeat=True) == 2


def test_it_lasts_and_can_be_forgotten(folder: Path):
    with Vault.open(folder, BUNDLE) as vault:
        vault.record(SUBJECT, "one", allow_repeat=True)
        vault.record(SUBJECT, "two", allow_repeat=True)
        vault.record("somebody else", "one", allow_repeat=False)
    with Vault.open(folder, BUNDLE) as vault:
        with pytest.raises(RepeatRefused):
            vault.record(SUBJECT, "three", allow_repeat=False)
        assert vault.forget(SUBJECT) == 2
        assert vault.forget(SUBJECT) == 0
        assert vault.record(SUBJECT, "three", allow_repeat=False) == 1
        assert vault.forget("somebody else") == 1


def test_no_name_and_no_pixels_in_any_byte(tmp_path: Path):
    rng = np.random.default_rng(11)
    pixels = rng.random((1, 8, 8, 8), dtype=np.float32)
    reference = LabelledReference("Reference^Person", pixels, np.zeros((8, 8, 8), dtype=np.uint8))
    folder = tmp_path / "vault"
    Vault.create(folder, BUNDLE, [reference])
    with Vault.open(folder, BUNDLE) as vault:
        vault.record(SUBJECT, "one", allow_repeat=False)
        with pytest.raises(RepeatRefused):
            vault.record(SUBJECT, "two", allow_repeat=False)
        vault.draw_reference(vault.generator("x"), SUBJECT)
        # While open too: journals would lie beside the database.
        content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    content += b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for name in (SUBJECT, "Mustermann", "Erika", "1964", "Reference^Person"):
        for form in (name.encode(), name.encode("utf-16-le"), base64.b64encode(name.encode())):
            assert form not in content
    # The ledger holds no pixels; a reference is an image and lies in its own, compressed file.
    database = (folder / "vault.sqlite").read_bytes()
    assert pixels.tobytes()[:64] not in content
    assert pixels.astype(np.float16).tobytes()[:32] not in database
    # The positive control: a digest that was recorded is found by the same search.
    assert b"one" in database


RACE = """
import sys, time
from pathlib import Path
from veilseg.errors import RepeatRefused
from veilseg.vault.vault import Vault
folder, digest, go = sys.argv[1:]
with Vault.open(Path(folder), None) as vault:
    print("ready", flush=True)
    sys.stdin.read()
    try:
        vault.record("anna", digest, allow_repeat=False)
    except RepeatRefused:
        print("refused")
    else:
        print("sent")
"""


def test_of_two_processes_exactly_one_wins(folder: Path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(folder), digest, "go"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for digest in ("one", "two", "three")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        # The end of its input starts a racer; they start together.
        assert racer.stdin is not None
        racer.stdin.close()
    ends = []
    for racer in racers:
        assert racer.stdout is not None
        ends.append(racer.stdout.read().strip())
        racer.stdout.close()
        assert racer.wait(30) == 0
    assert sorted(ends) == ["refused", "refused", "sent"]
    with Vault.open(folder, BUNDLE) as vault:
        assert vault.forget("anna") == 1


def test_who_comes_second_waits_and_then_sees_the_first(folder: Path):
    """The race above with its interleaving fixed: look and enter are one step."""
    with Vault.open(folder, BUNDLE) as vault:
        vault.record("anna", "one", allow_repeat=False)
    first = sqlite3.connect(folder / "vault.sqlite", isolation_level=None)
    outcomes: list[object] = []

    def second() -> None:
        with Vault.open(folder, BUNDLE) as vault:
            try:
                outcomes.append(vault.record("anna", "two", allow_repeat=False))
            except VeilsegError as error:
                outcomes.append(type(error))

    try:
        # The first process is about to enter its proxy: as far as committed, nobody has one.
        (entry,) = first.execute("SELECT * FROM proxies").fetchall()
        first.execute("DELETE FROM proxies")
        first.execute("BEGIN IMMEDIATE")
        first.execute("INSERT INTO proxies VALUES (?, ?, ?)", entry)
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        assert outcomes == []
        first.execute("COMMIT")
        thread.join(20)
    finally:
        first.close()
    assert outcomes == [RepeatRefused]


def test_a_ledger_in_use_is_not_called_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledger, "BUSY_TIMEOUT_S", 0.05)
    holder = sqlite3.connect(folder / "vault.sqlite", isolation_level=None)
    try:
        with Vault.open(folder, BUNDLE) as vault:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(InvalidVault, match="cannot be used: database is locked"):
                vault.record("anna", "one", allow_repeat=False)
            holder.execute("ROLLBACK")
            assert vault.record("anna", "one", allow_repeat=False) == 1
    finally:
        holder.close()


def test_memory_keeps_the_same_rules(make_references: Callable[..., list[LabelledReference]]):
    with Vault.in_memory(bytes(32), make_references("anna")) as vault:
        vault.record("bert", "one", allow_repeat=False)
        with pytest.raises(RepeatRefused):
            vault.record("bert", "two", allow_repeat=False)
