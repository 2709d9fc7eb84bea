"""What a fit does where its site, its shards, its database or another fit is in the way."""

from types import SimpleNamespace

import pytest
from collaborating import KEY
from filelock import FileLock

from veilseg.collaboration import fits, fitting, projects
from veilseg.collaboration.errors import Conflict, DatabaseAway
from veilseg.errors import IntegrityError


@pytest.fixture
def provider(place, tmp_path) -> SimpleNamespace:
    place.a.whole()
    place.b.whole()
    return SimpleNamespace(database=place.database, blobs=place.blobs, work=tmp_path / "fits")


@pytest.fixture
def fit(provider, monkeypatch):
    """Fit without a network: what happens meanwhile is called in its place."""

    def run(meanwhile, resume=False):
        def stage(_stage, _seed, _run, checkpoint, _resume, told, _fabric):
            checkpoint.write_bytes(b"of what was contributed")
            meanwhile(told)

        monkeypatch.setattr(fitting, "_stage", lambda *_: (None, None))
        monkeypatch.setattr(fitting, "run_stage", stage)
        return fitting.fit(provider, "brains", 5, 0, resume, lambda *_: None)

    return run


def lost(*_):
    raise FileNotFoundError("a shard")


def test_a_site_that_withdraws_is_named_and_nothing_of_it_is_kept(place, provider, fit):
    def withdraws(_):
        place.b.ask("DELETE", f"/contributions/{KEY}")
        lost()

    with pytest.raises(Conflict, match="b withdrew meanwhile"):
        fit(withdraws)
    assert not list(provider.work.rglob("checkpoint*"))


def test_a_shard_that_is_gone_without_a_reason_is_damage(provider, fit):
    with pytest.raises(IntegrityError, match="fit 1: a shard is gone or damaged"):
        fit(lost)


def test_what_a_killed_fit_left_of_a_withdrawn_site_is_deleted_by_the_next(place, provider, fit):
    with pytest.raises(IntegrityError):
        fit(lost)
    left = provider.work / "fit-1" / "checkpoint.safetensors"
    assert left.is_file()
    place.b.ask("DELETE", f"/contributions/{KEY}")
    with pytest.raises(IntegrityError, match="fit 2"):
        fit(lost)
    assert not left.exists()


def test_two_do_not_go_on_with_one_fit(provider, fit):
    with pytest.raises(IntegrityError):
        fit(lost)
    with (
        FileLock(provider.work / "fit-1.lock"),
        pytest.raises(Conflict, match="fit 1: is still running"),
    ):
        fit(lost, resume=True)


def test_a_database_that_is_away_for_a_while_ends_no_fit(provider, fit, monkeypatch, caplog):
    """Its progress is told at the next record."""
    record, away = fits.record, [True]

    def once(*given):
        if away:
            away.pop()
            raise DatabaseAway("the database is away")
        record(*given)

    monkeypatch.setattr(fits, "record", once)
    monkeypatch.setattr(fits, "SECONDS_BETWEEN_RECORDS", 0)

    def steps(told):
        told(1, 0.5)
        told(2, 0.25)
        lost()

    with pytest.raises(IntegrityError):
        fit(steps)
    assert "progress not recorded" in caplog.text
    with provider.database.session() as session:
        told = fits.latest(session, projects.find(session, "brains"))
    assert (told["step"], told["loss"]) == (2, 0.25)
