"""What a site may cost, and that what it does is written down."""

import base64
import hashlib
import json

import anyio
import httpx
import pytest
from collaborating import KEY, Site, reason, shard_of

from veilseg.access.audit_log import AuditLog, verify
from veilseg.access.errors import AuditLogFailed
from veilseg.collaboration.app import Guards, create_app

OTHER = "f" * 32


@pytest.fixture
def guarded(place):
    """Site a of the same place, by a service with other guards."""

    def build(**guards):
        app = create_app(place.database, place.blobs, place.versions, Guards(**guards))
        return Site(app, "brains", place.a.token)

    return build


def test_what_a_site_does_is_written_down(guarded, tmp_path):
    file = tmp_path / "audit.log"
    with AuditLog(file) as log:
        site = guarded(audit_log=log)
        site.whole()
        assert site.ask("DELETE", f"/contributions/{KEY}").status_code == 200
        assert site.ask("POST", "/token").status_code == 200
        assert site.ask("GET", "/contributions", headers={"Authorization": "Bearer x"}).is_error
        assert site.begin(OTHER, digest="d" * 64).status_code == 409  # what is refused is no entry
    verify([file])
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [one["action"] for one in entries] == [
        "contribution begun",
        "shard received",
        "contribution complete",
        "contribution withdrawn",
        "token rotated",
    ]
    assert {(one["project"], one["site"]) for one in entries} == {("brains", "a")}
    assert entries[3]["contribution"] == KEY
    assert entries[3]["shards"] == 1
    assert site.token not in file.read_text()


def test_what_cannot_be_written_down_does_not_happen(guarded, tmp_path, monkeypatch, files):
    with AuditLog(tmp_path / "audit.log") as log:
        site = guarded(audit_log=log)
        site.whole()

        def full(**_):
            raise AuditLogFailed(f"{tmp_path}: No space left on device")

        monkeypatch.setattr(log, "append", full)
        for method, path in (("DELETE", f"/contributions/{KEY}"), ("POST", "/token")):
            line = reason(site.ask(method, path), 503)
            assert line == "requests cannot be written down at the moment"
        (own,) = site.ask("GET", "/contributions").json()["contributions"]
    assert (own["state"], len(files())) == ("complete", 1)


def test_a_site_contributes_as_much_as_it_may(guarded, place, files):
    most = len(shard_of()) + 1
    site = guarded(most_bytes=most)
    site.whole()
    site.begin(OTHER)
    told = f"site a: its shards may take {most:,} bytes together"
    assert reason(site.put(0, shard_of(), OTHER), 413) == told
    assert len(files()) == 1
    place.b.whole()  # of another site nothing counts
    site.ask("DELETE", f"/contributions/{KEY}")
    assert site.put(0, shard_of(), OTHER).status_code == 200


def test_shards_that_are_sent_at_once_wait_outside(guarded, place, monkeypatch):
    monkeypatch.setattr("veilseg.collaboration.app.OF_ONE_SITE", 1)
    site = guarded()
    other = Site(site.app, "brains", place.b.token)
    for one in (site, other):
        one.begin(shards=2, pairs=4)
    content = shard_of()
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()

    async def scenario():
        inside, go_on = anyio.Event(), anyio.Event()

        async def slowly():
            yield content[:10]
            inside.set()
            await go_on.wait()
            yield content[10:]

        async def put(who, number, body):
            headers = {
                "Authorization": f"Bearer {who.token}",
                "Content-Digest": f"sha-256=:{digest}:",
            }
            path = f"{who.path}/contributions/{KEY}/shards/{number}"
            return await client.put(path, content=body, headers=headers)

        found = {}
        transport = httpx.ASGITransport(site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:

            async def first():
                found["first"] = await put(site, 0, slowly())

            async with anyio.create_task_group() as group:
                group.start_soon(first)
                await inside.wait()
                found["second"] = await put(site, 1, content)
                found["other"] = await put(other, 0, content)
                go_on.set()
            found["again"] = await put(site, 1, content)
        return found

    found = anyio.run(scenario)
    assert {name: one.status_code for name, one in found.items()} == {
        "first": 200,
        "second": 429,
        "other": 200,
        "again": 200,
    }
    assert int(found["second"].headers["retry-after"]) >= 1
