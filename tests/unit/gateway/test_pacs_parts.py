"""Rules, state, back-off and what is done with one series, without a PACS."""

import threading
from pathlib import Path

import pytest

from veilseg.client.pipeline import Segmented
from veilseg.errors import (
    InvalidAnswer,
    InvalidImage,
    InvalidVault,
    ModelFailed,
    ServerUnreachable,
    VaultIntegrity,
    WrongUsage,
)
from veilseg.gateway.pacs.backoff import FIRST_S, LONGEST_S, Backoff
from veilseg.gateway.pacs.dimse import Peer
from veilseg.gateway.pacs.inbox import Inbox
from veilseg.gateway.pacs.rules import Rule, models_for
from veilseg.gateway.pacs.series import FoundSeries
from veilseg.gateway.pacs.state import MOST_ATTEMPTS, State
from veilseg.gateway.pacs.watching import Pace, watch
from veilseg.gateway.pacs.worker import Unforeseen, Worker


@pytest.mark.parametrize(
    ("text", "attributes", "matches"),
    [
        ("Modality=MR", {"Modality": "MR"}, True),
        ("Modality=mr", {"Modality": "MR"}, True),
        ("Modality=MR", {"Modality": "CT"}, False),
        ("Modality=MR", {}, False),
        ("m:Modality=MR, SeriesDescription=*t1*", {"Modality": "MR"}, False),
        (
            "m:Modality=MR, SeriesDescription=*t1*",
            {"Modality": "MR", "SeriesDescription": "Sag T1 FFE"},
            True,
        ),
        ("SeriesDescription=a: b", {"SeriesDescription": "A: B"}, True),
        ("Modality=*", {"Modality": "SEG"}, False),
        ("Modality=[", {"Modality": "["}, True),
    ],
)
def test_rules(text, attributes, matches):
    rule = Rule.of(text, ["m"])
    assert rule.model == "m"
    assert rule.matches(attributes) is matches
    assert models_for([rule, rule], attributes) == (["m"] if matches else [])


@pytest.mark.parametrize("text", ["", "Modality", "Modality=", "n:Modality=MR", "PatientID=1", ","])
def test_rules_that_are_none(text):
    with pytest.raises(WrongUsage, match=r"^--rule "):
        Rule.of(text, ["m"])
    with pytest.raises(WrongUsage, match="begin with a model: a, b"):
        Rule.of("Modality=MR", ["a", "b"])


def test_pauses_grow_to_a_limit():
    backoff = Backoff()
    pauses = [backoff.pause_s() for _ in range(2000)]
    assert FIRST_S / 2 <= pauses[0] <= FIRST_S
    assert all(2**n / 2 <= pauses[n] <= 2**n for n in range(8))
    assert all(LONGEST_S / 2 <= pause <= LONGEST_S for pause in pauses[10:])
    backoff.reset()
    assert backoff.pause_s() <= FIRST_S


def test_a_state_is_private_and_remembers(tmp_path: Path):
    with State(tmp_path / "state") as state:
        state.saw("1", "1.1", "m", 3)
        assert state.settle(60) == 0
        state.saw("1", "1.1", "m", 4)
        state.saw("1", "1.1", "n", 4)
        assert state.settle(0) == 2
        assert not state.is_finished("1.1")
        state.saw("1", "1.1", "m", 5)  # too late: it was taken for complete
        row = state.due()
        assert (row.model, row.images) == ("m", 4)
        state.failed(row, "bad")
    with State(tmp_path / "state") as state:
        assert [(one.state, one.reason) for one in state.rows()] == [
            ("failed", "bad"),
            ("waiting", ""),
        ]
        state.done(state.due())
        assert state.is_finished("1.1")
        assert state.due() is None
        assert state.unfinished() == 0
        files = [state.folder, state.inbox, state.outbox, state.folder / "pacs.sqlite"]
        assert [one.stat().st_mode & 0o077 for one in files] == [0] * 4
    (tmp_path / "state").chmod(0o750)
    with pytest.raises(InvalidVault, match="open to others"):
        State(tmp_path / "state")


class Segments:
    """Stands for a segmenter; ``error`` is raised instead, while there is one."""

    error: Exception | None = None

    def run(self, image, subject, output, *, allow_repeat):
        if self.error is not None:
            raise self.error
        output.write_bytes(b"segmentation")
        return Segmented(None, {}, ["strange"])  # type: ignore[arg-type]


class Archive:
    """Stands for a PACS."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.error: Exception | None = None

    def fetch(self, row, folder):
        (folder / "scan.nii.gz").write_bytes(b"x")
        return folder / "scan.nii.gz"

    def store(self, segmentation):
        if self.error is not None:
            raise self.error
        self.stored.append(segmentation.read_bytes())


@pytest.fixture
def worker(tmp_path: Path):
    (tmp_path / "work").mkdir()
    with State(tmp_path / "state") as state:
        state.saw("1", "1.1", "m", 3)
        state.settle(0)
        lines: list[str] = []
        made = Worker(state, Archive(), {"m": Segments()}, tmp_path / "work", False, lines.append)
        yield made, lines
        assert list((tmp_path / "work").iterdir()) == []


def test_a_series_is_stored_once_it_is_segmented(worker):
    made, lines = worker
    made.archive.error = ServerUnreachable("PACS: away")
    with pytest.raises(ServerUnreachable):
        made.work_on(made.state.due())
    row = made.state.due()
    assert (row.state, row.attempts) == ("storing", 1)
    made.state.postponed(row)
    made.segmenters["m"].error = AssertionError("it is not segmented again")
    made.archive.error = None
    made.work_on(made.state.due())
    assert made.archive.stored == [b"segmentation"]
    assert made.state.rows()[0].state == "done"
    assert list(made.state.outbox.iterdir()) == []
    assert lines == ["series 1: warning: strange", "series 1: segmented and stored"]


def test_a_bad_series_is_told_of_once_without_its_place(worker):
    made, lines = worker
    made.segmenters["m"].error = InvalidImage(f"{made.work}/series-1/scan.nii.gz: damaged")
    watch(lambda: None, made, Pace(0, 0), once=True)
    watch(lambda: None, made, Pace(0, 0), once=True)
    assert lines == ["series 1: not segmented: the series: damaged"]
    assert made.state.rows()[0].reason == "the series: damaged"


def test_what_nobody_foresaw_is_tried_some_times(worker, caplog):
    made, lines = worker
    made.segmenters["m"].error = KeyError("Mustermann")
    for _ in range(MOST_ATTEMPTS):
        row = made.state.due()
        with pytest.raises(Unforeseen, match=r"^series 1: KeyError$"):
            made.work_on(row)
        made.state.postponed(row, counted=True)
    made.work_on(made.state.due())
    assert lines == ["series 1: not segmented: begun 5 times and never brought to an end"]
    assert "Mustermann" not in caplog.text
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("error", [ModelFailed("server: 500"), InvalidAnswer("server: NaN")])
def test_what_the_server_cannot_do_with_one_series_does_not_go_on_for_ever(worker, error):
    made, lines = worker
    made.segmenters["m"].error = error
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(type(error)):
            watch(lambda: None, made, Pace(0, 0), once=True)
    watch(lambda: None, made, Pace(0, 0), once=True)
    assert lines == ["series 1: not segmented: begun 5 times and never brought to an end"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), VaultIntegrity("vault: damaged")])
def test_what_is_no_fault_of_a_series_does_not_count(worker, error):
    made, lines = worker
    made.segmenters["m"].error = error
    with pytest.raises(type(error)):
        made.work_on(made.state.due())
    assert (made.state.due().state, made.state.due().attempts) == ("waiting", 0)
    assert lines == []


def test_it_waits_while_somebody_is_away_and_ends_when_told(worker, monkeypatch):
    made, _ = worker
    made.archive.error = ServerUnreachable("PACS: away")
    ended, waits = threading.Event(), []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            made.archive.error = None
        if made.archive.stored:
            ended.set()

    monkeypatch.setattr(ended, "wait", wait)
    watch(lambda: None, made, Pace(7, 0), ended=ended)
    assert waits[:3] == sorted(waits[:3])
    assert waits[3] == 7
    assert made.archive.stored == [b"segmentation"]


@pytest.mark.parametrize(
    ("forgotten", "images", "more"), [(False, 5, 2), (False, 2, 0), (True, 5, 2), (True, 2, 2)]
)
def test_images_that_come_too_late_are_told_of_once(tmp_path, forgotten, images, more):
    """Its segmentation is of a part then; a listener has deleted what it was made of."""
    with State(tmp_path / "state") as state:
        for count in (1, 3):
            assert state.saw("1", "1.1", "m", count, forgotten) is None
        state.settle(0)
        row = state.due()
        assert state.saw("1", "1.1", "m", 3, forgotten) is None
        state.begin(row)
        state.done(row)
        assert state.saw("1", "1.1", "m", 3, forgotten) is None
        told = state.saw("1", "1.1", "m", images, forgotten)
        if not more:
            assert told is None
            return
        reason = f"{more} images came after it was taken for complete with 3"
        assert told == f"series 1: {reason}: its segmentation is not of them"
        assert state.saw("1", "1.1", "m", images, forgotten) is None
        assert state.rows()[0].reason == reason


def test_what_is_received_is_kept_under_names_that_say_nothing(tmp_path: Path):
    inbox = Inbox(tmp_path)
    for content in (b"first", b"again"):
        inbox.keep("1", "1.1", "1.1.1", {"Modality": "MR"}, content)
    inbox.keep("1", "1.1", "1.1.2", {}, b"second")
    assert list(inbox.found()) == [FoundSeries("1", "1.1", 2, {"Modality": "MR"})]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("1.1" in path.name for path in (*files, *tmp_path.iterdir()))
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    assert inbox.size() == len(b"again" + b"second")
    # As it is counted anew, but for what is only being written.
    (inbox.of("1.1") / ".veilseg-part.dcm").write_bytes(b"half")
    assert Inbox(tmp_path).size() == inbox.size()
    assert [one.images for one in inbox.found()] == [2]
    inbox.forget("1.1")
    assert inbox.size() == 0
    assert list(tmp_path.iterdir()) == []


def test_peers():
    assert Peer.of("PACS@host:104") == Peer("PACS", "host", 104)
    for text in ("PACS", "PACS@host", "@host:1", "PACS@:1", "x" * 17 + "@host:1", "PACS@host:x"):
        with pytest.raises(Exception, match="give TITLE@HOST:PORT"):
            Peer.of(text)
