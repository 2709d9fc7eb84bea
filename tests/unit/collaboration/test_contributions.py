"""What sites may do: the same on both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from collaborating import FORMAT, KEY, asked, reason, shard_of
from safetensors.numpy import save
from sqlalchemy import select, update

from veilseg.collaboration import fits, projects, withdrawals
from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.database import Database
from veilseg.collaboration.errors import Conflict
from veilseg.collaboration.provider import Provider
from veilseg.collaboration.tables import Contribution, Token
from veilseg.errors import InvalidInput

OTHER = "f" * 32


def manifest(place, project="brains"):
    """What a fit would use now."""
    with place.database.session() as session:
        return fits.whole_contributions(session, projects.find(session, project))


def test_whole_contribution_is_listed_and_fitted_to(place, files):
    place.a.whole()
    (own,) = place.a.ask("GET", "/contributions").json()["contributions"]
    assert (own["key"], own["state"], own["pairs"]) == (KEY, "complete", 2)
    assert own["bytes"] == len(shard_of())
    assert files() == [shard_of()]
    (used,) = manifest(place)
    assert (used["site"], used["pairs"]) == ("a", 2)
    found = place.b.ask("GET").json()
    assert (found["project"], found["pairs"], found["fit"]) == ("brains", 2, None)
    assert found["format"]["client_digest"] == FORMAT.client_digest


def test_repeated_requests_change_nothing(place, files):
    for _ in range(2):
        place.a.whole()
    assert len(files()) == 1
    assert len(manifest(place)) == 1


def test_half_a_contribution_is_not_fitted_to(place):
    place.a.begin(shards=2, pairs=4)
    assert place.a.put(0, shard_of()).status_code == 200
    assert manifest(place) == []
    line = reason(place.a.complete(), 409)
    assert line == "contribution: 1 shards of 2 pairs are here, 2 of 4 were announced"
    known = place.a.ask("GET", f"/contributions/{KEY}").json()
    assert set(known["shards"]) == {"0"}


def test_counts_that_differ(place):
    place.a.begin(shards=1, pairs=3)
    place.a.put(0, shard_of(2))
    assert "2 pairs are here" in reason(place.a.complete(), 409)
    assert manifest(place) == []
    line = reason(place.a.begin(shards=2, pairs=3), 409)
    assert line == "contribution: announced as 1 shards of 3 pairs, now 2 of 3"


def test_another_content_under_one_number(place, files):
    place.a.begin(shards=2, pairs=4)
    place.a.put(0, shard_of())
    assert reason(place.a.put(0, shard_of(value=2.0)), 409) == (
        "shard 0: is there with another content"
    )
    assert files() == [shard_of()]
    assert "2 were announced" in reason(place.a.put(2, shard_of()), 409)


def test_nothing_is_added_to_a_complete_contribution(place):
    place.a.whole()
    assert place.a.put(0, shard_of()).status_code == 200  # the same again
    assert "no more shards" in reason(place.a.put(1, shard_of()), 409)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "not a whole safetensors document"),
        (shard_of()[:-5], "not a whole safetensors document"),
        (b"\x80\x04pickle", "not a whole safetensors document"),
        (shard_of(value=np.nan), "proxy: holds NaN or infinity"),
        (save({"proxy": np.zeros((2, 6), np.float16)}), "needs the tensors proxy and answer"),
        (
            save({"proxy": np.zeros((2, 5), np.float16), "answer": np.zeros((2, 4), np.float16)}),
            "is not float16 [pairs, 6]",
        ),
        (
            save({"proxy": np.zeros((2, 6), np.float32), "answer": np.zeros((2, 4), np.float16)}),
            "is not float16 [pairs, 6]",
        ),
        (
            save({"proxy": np.zeros((2, 6), np.float16), "answer": np.zeros((1, 4), np.float16)}),
            "2 proxies and 1 answers",
        ),
        (
            save({"proxy": np.zeros((0, 6), np.float16), "answer": np.zeros((0, 4), np.float16)}),
            "0 proxies and 0 answers",
        ),
    ],
)
def test_unusable_shards_are_refused_with_the_reason(place, files, content, line):
    place.a.begin()
    assert line in reason(place.a.put(0, content), 400)
    assert files() == []
    assert place.a.ask("GET", f"/contributions/{KEY}").json()["shards"] == {}


def test_shard_altered_on_its_way(place, files):
    place.a.begin()
    line = reason(place.a.put(0, shard_of(), of=shard_of(3)), 400)
    assert line == "shard: cut short or altered on its way: its SHA-256 is another"
    assert "Content-Digest" in reason(
        place.a.ask("PUT", f"/contributions/{KEY}/shards/0", content=shard_of()), 400
    )
    assert files() == []


def test_shard_beyond_the_limit(place, files):
    place.a.begin(pairs=5000)
    assert place.a.put(0, shard_of(5000)).status_code == 413
    assert files() == []


def test_other_client_half(place):
    line = reason(place.a.begin(digest="d" * 64), 409)
    assert line.startswith("client half: another one than the project's")
    assert place.a.ask("GET", "/contributions").json() == {"contributions": []}


def test_closed_project(place):
    place.a.begin(shards=2, pairs=4)
    with place.database.session() as session:
        projects.close(session, "brains")
    for answer in (place.a.put(0, shard_of()), place.b.begin()):
        assert reason(answer, 409) == "project brains: is closed; nothing can be contributed"
    assert place.a.ask("DELETE", f"/contributions/{KEY}").status_code == 200
    with place.database.session() as session:
        projects.close(session, "brains", reopen=True)
    assert place.b.begin().status_code == 200


def test_withdrawn_shards_are_gone(place, files):
    place.a.whole()
    place.b.whole(value=2.0)
    answer = place.a.ask("DELETE", f"/contributions/{KEY}")
    assert answer.json() == {"withdrawn_shards": 1, "deleted_shards": 1}
    assert files() == [shard_of(value=2.0)]
    assert [one["site"] for one in manifest(place)] == ["b"]
    (own,) = place.a.ask("GET", "/contributions").json()["contributions"]
    assert (own["state"], own["pairs"], own["shards"]) == ("withdrawn", 0, {})
    assert reason(place.a.complete(), 409) == "contribution: is withdrawn"
    assert "is withdrawn" in reason(place.a.put(0, shard_of()), 409)
    place.a.whole()  # they may think better of it
    assert len(manifest(place)) == 2


def test_what_a_crash_left_is_swept(place, files, monkeypatch):
    place.a.whole()
    path = place.folder / "shards" / "1" / "1" / "9"
    path.mkdir(parents=True)
    (path / "000000-orphan").write_bytes(b"of no shard")
    # It may just be on its way to be registered.
    assert withdrawals.sweep(place.database, place.blobs) == 0
    monkeypatch.setattr("veilseg.collaboration.blobs.ON_ITS_WAY_S", -60)
    assert withdrawals.sweep(place.database, place.blobs) == 1
    assert files() == [shard_of()]


def test_withdrawn_shard_that_cannot_be_deleted_now(place, files, monkeypatch, caplog):
    place.a.whole()

    def locked(*_):
        raise OSError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Blobs, "_at", locked)
        answer = place.a.ask("DELETE", f"/contributions/{KEY}")
    # It is withdrawn, and nobody says that it is deleted.
    assert answer.json() == {"withdrawn_shards": 1, "deleted_shards": 0}
    assert "still there" in caplog.text
    assert manifest(place) == []
    line = reason(place.a.begin(), 409)
    assert "1 of its shards could not be deleted yet: withdraw it once more" in line
    # Nor is it forgotten: whoever asks once more gets it deleted.
    answer = place.a.ask("DELETE", f"/contributions/{KEY}")
    assert answer.json() == {"withdrawn_shards": 1, "deleted_shards": 1}
    assert files() == []
    assert place.a.begin().status_code == 200


def test_shard_that_was_being_withdrawn_when_the_service_was_killed(place, files, monkeypatch):
    """A service that starts again deletes it, however new it is."""
    place.a.whole()

    def killed(*_):
        raise RuntimeError("as good as killed")

    with monkeypatch.context() as patched:
        patched.setattr(withdrawals, "delete_shards", killed)
        assert place.a.ask("DELETE", f"/contributions/{KEY}").status_code == 500
    assert files() == [shard_of()]
    assert withdrawals.sweep(place.database, place.blobs) == 1
    assert files() == []


def test_others_objects_are_no_different_from_none(place):
    """Site b of the same project and site c of another: neither lists, reads nor changes."""
    place.a.whole()
    for stranger in (place.b, place.c):
        assert stranger.ask("GET", "/contributions").json() == {"contributions": []}
        for key in (KEY, OTHER):
            path = f"/contributions/{key}"
            answers = [
                stranger.ask("GET", path),
                stranger.ask("DELETE", path),
                stranger.complete(key),
                stranger.put(0, shard_of(value=3.0), key),
            ]
            lines = {reason(answer, 404) for answer in answers}
            assert lines == {"contribution: there is none of that key"}
    # The same key is another object of another site.
    place.b.whole(value=2.0)
    assert len(manifest(place)) == 2
    place.b.ask("DELETE", f"/contributions/{KEY}")
    assert [one["site"] for one in manifest(place)] == ["a"]


def test_other_projects_are_no_different_from_none(place):
    found = {}
    for project in ("hearts", "livers"):
        answer = asked(
            place.app,
            "GET",
            f"/v1/projects/{project}",
            headers={"Authorization": f"Bearer {place.a.token}"},
        )
        found[project] = reason(answer, 404).replace(project, "…")
    assert found["hearts"] == found["livers"]


@pytest.mark.parametrize("key", ["x", "0" * 31, "G" * 32, "..%2f..%2fetc", "0" * 33])
def test_keys_that_are_none(place, key):
    assert reason(place.a.begin(key), 404) in ("there is no such object", "Not Found")


@pytest.mark.parametrize("number", [-1, 2**31, 10**30, "x"])
def test_numbers_that_are_none(place, number):
    place.a.begin()
    for answer in (
        place.a.put(number, shard_of()),
        place.a.ask("GET", f"/versions/{number}/manifest"),
    ):
        assert reason(answer, 404) == "there is no such object"
    assert "has none" in reason(place.a.ask("GET", "/versions/7/manifest"), 404)


@pytest.mark.parametrize(
    "plan", [{}, {"client_digest": "c" * 64, "shards": "many", "pairs": 1}, [], None]
)
def test_malformed_announcements(place, plan):
    reason(place.a.ask("PUT", f"/contributions/{KEY}", json=plan), 400)


@pytest.mark.parametrize(
    ("shards", "pairs"), [(0, 0), (-1, 5), (3, 2), (10**7, 10**8), (1, 10**12), (1, 10**30)]
)
def test_counts_that_are_none(place, shards, pairs):
    assert "are none" in reason(place.a.begin(shards=shards, pairs=pairs), 400)


def test_tokens_missing_unknown_expired_and_revoked(place):
    path = place.a.path
    assert reason(asked(place.app, "GET", path), 401) == "a token is needed"
    for scheme in ("Bearer nonsense", "Basic abc", "Bearer"):
        answer = asked(place.app, "GET", path, headers={"Authorization": scheme})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    with place.database.session() as session:
        session.execute(update(Token).values(expires=projects.now()))
    assert "has expired" in reason(place.a.ask("GET"), 401)
    with place.database.session() as session:
        place.a.token = projects.invite(session, "brains", "a", days=1)
    assert place.a.ask("GET").status_code == 200
    with place.database.session() as session:
        assert projects.revoke(session, "brains", "a") == 2
    assert "not known" in reason(place.a.ask("GET"), 401)


def test_token_rotates(place):
    place.a.whole()
    old = place.a.token
    place.a.token = place.a.ask("POST", "/token").json()["token"]
    assert len(place.a.ask("GET", "/contributions").json()["contributions"]) == 1
    # Were the answer lost on its way, the site would still have the old one.
    place.a.token = old
    assert place.a.ask("GET").status_code == 200
    with place.database.session() as session:
        ends = session.scalars(select(Token.expires).order_by(Token.expires)).first()
    assert ends <= projects.now() + projects.GRACE_S


def test_token_that_was_replaced_and_left_is_no_key_to_the_project(place):
    """Who has stolen the old one may not cut off the site that changed over."""
    stolen = place.a.token
    lost = place.a.ask("POST", "/token").json()["token"]
    # The answer was lost: the site asks once more.
    place.a.token = place.a.ask("POST", "/token").json()["token"]
    assert place.a.ask("GET").status_code == 200
    for old in (stolen, lost):
        place.a.token, fresh = old, place.a.token
        assert "the new one is in use" in reason(place.a.ask("POST", "/token"), 409)
        place.a.token = fresh
    assert place.a.ask("POST", "/token").status_code == 200


def test_site_is_removed_with_all_that_it_gave(place, files):
    place.a.whole()
    place.b.whole(value=2.0)
    with place.database.session() as session:
        projects.revoke(session, "brains", "a")
        shards = withdrawals.withdraw_all(session, projects.find_site(session, "brains", "a"))
    assert withdrawals.delete_shards(place.database, place.blobs, shards) == 1
    assert files() == [shard_of(value=2.0)]
    assert [one["site"] for one in manifest(place)] == ["b"]
    assert place.a.ask("GET").status_code == 401


def test_database_and_blobs_belong_together(place, tmp_path):
    """What a database does not know is deleted: a forgotten --database must not do that."""
    own = Provider(place.database, place.blobs, place.versions, tmp_path / "fits")
    own.require_own_blobs()
    own.require_own_blobs()
    other = Database(f"sqlite:///{tmp_path / 'forgotten.sqlite'}")
    with pytest.raises(InvalidInput, match="they do not belong together"):
        replace(own, database=other).require_own_blobs()
    with pytest.raises(InvalidInput, match="they do not belong together"):
        replace(own, blobs=Blobs(str(tmp_path / "elsewhere"))).require_own_blobs()
    other.close()


def test_rotating_makes_no_token_last_longer(place):
    """How long a site takes part is the provider's to say."""
    with place.database.session() as session:
        end = projects.now() + 86_400
        session.execute(update(Token).values(expires=end))
    for _ in range(3):
        place.a.token = place.a.ask("POST", "/token").json()["token"]
    with place.database.session() as session:
        assert max(session.scalars(select(Token.expires))) == end


def test_what_announces_a_contribution_is_small_and_by_a_member(place):
    """Of strangers nothing is read; of members no more than such a document can have."""
    large = {"client_digest": "c" * 100_000, "shards": 1, "pairs": 2}
    assert reason(place.a.ask("PUT", f"/contributions/{KEY}", json=large), 413)
    line = reason(place.a.ask("PUT", f"/contributions/{KEY}", json={"shards": "x"}), 400)
    assert line == "client_digest, shards, pairs: missing or malformed"
    assert reason(place.a.ask("PUT", f"/contributions/{KEY}", content=b"{"), 400)
    place.a.token = "nobody"
    assert reason(place.a.ask("PUT", f"/contributions/{KEY}", content=b"x" * 10**6), 401)


@pytest.mark.parametrize("content", [None, b"cut short"])
def test_a_shard_that_was_lost_is_brought_back_by_its_site(place, files, content):
    place.a.whole()
    ((used,),) = [one["shards"] for one in manifest(place)]
    if content is None:
        place.blobs.delete(used["path"])
    else:
        place.blobs.write(used["path"], content)
    # A site sends what is not listed.
    assert place.a.begin().json()["shards"] == {}
    assert place.a.put(0, shard_of()).status_code == 200
    assert place.a.begin().json()["shards"].keys() == {"0"}
    assert files() == [shard_of()]


def test_no_token_is_kept(place, url):
    with place.database.session() as session:
        kept = session.scalars(select(Token.digest)).all()
    tokens = [place.a.token, place.b.token, place.c.token]
    assert not set(tokens) & set(kept)
    if url.startswith("sqlite"):
        everything = b"".join(
            path.read_bytes() for path in place.folder.parent.glob("collaboration.sqlite*")
        )
        assert not any(token.encode() in everything for token in tokens)


def test_withdrawal_during_a_fit_is_noticed(place):
    place.a.whole()
    place.b.whole()
    with place.database.session() as session:
        fit = fits.begin(session, projects.find(session, "brains"), steps=1, seed=0)
        fit_id = fit.id
    place.b.ask("DELETE", f"/contributions/{KEY}")
    with place.database.session() as session, pytest.raises(Conflict, match="b withdrew meanwhile"):
        fits.require_unchanged(session, session.get_one(fits.Fit, fit_id))


def test_site_sees_how_far_a_fit_is_and_not_who_is_in_it(place):
    place.a.whole()
    with place.database.session() as session:
        fit = fits.begin(session, projects.find(session, "brains"), steps=10, seed=0)
        fits.record(session, fit.id, 4, 0.5)
    found = place.b.ask("GET").json()["fit"]
    assert (found["state"], found["step"], found["steps"], found["loss"]) == ("running", 4, 10, 0.5)
    told = {"state", "step", "steps", "loss", "started", "updated", "pairs", "curve"}
    assert set(found) == told


def test_loss_is_kept_at_the_same_steps_whatever_was_recorded_between(place):
    place.a.whole()
    with place.database.session() as session:
        fit = fits.begin(session, projects.find(session, "brains"), steps=250, seed=0)
        # Killed after step 6, it went on from a checkpoint before that.
        for step, loss in ((3, 0.9), (5, 0.8), (6, 0.7), (3, 0.95), (250, 0.1)):
            fits.record(session, fit.id, step, loss)
    curve = place.b.ask("GET").json()["fit"]["curve"]
    kept = [{"step": 3, "loss": 0.95}, {"step": 6, "loss": 0.7}, {"step": 250, "loss": 0.1}]
    assert curve == kept


def test_announced_twice_at_once_is_one(place):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: place.a.begin(), range(4)))
        assert {answer.status_code for answer in answers} == {200}
        put = list(pool.map(lambda _: place.a.put(0, shard_of()), range(4)))
    assert {answer.status_code for answer in put} == {200}
    with place.database.session() as session:
        (one,) = session.scalars(select(Contribution))
        assert len(one.shards) == 1
