"""Versions that are published: on both databases, one after the other, or not at all."""

from types import SimpleNamespace

import pytest

from veilseg.collaboration import fits, projects
from veilseg.collaboration.errors import Conflict


@pytest.fixture
def publish(place):
    """Publish a version of ``brains``; gives its number."""
    place.a.whole()

    def run(content="half", meanwhile=lambda _: None, allowed=lambda _: None):
        with place.database.session() as session:
            fit = fits.begin(session, projects.find(session, "brains"), 1, 0).id

        def write(folder, number):
            (folder / "network").write_text(f"{content} {number}")
            meanwhile(number)
            return SimpleNamespace(bundle_id="b" * 64)

        return place.versions.publish(place.database, "brains", fit, write, allowed)

    return run


def listed(place):
    """Numbers of all versions, and what lies in each."""
    found = place.a.ask("GET").json()["versions"]
    numbers = [one["number"] for one in found]
    files = [place.versions.folder("brains", n) / "server" / "network" for n in numbers]
    return numbers, [file.read_text() for file in files]


def test_versions_follow_each_other(place, publish):
    assert [publish(), publish("other")] == [1, 2]
    assert listed(place) == ([2, 1], ["other 2", "half 1"])


def test_sites_contribute_while_a_version_is_written(place, publish):
    publish(meanwhile=lambda _: place.b.whole())
    assert [one["state"] for one in place.b.ask("GET", "/contributions").json()["contributions"]]


def test_two_fits_that_end_at_once_have_two_numbers(place, publish):
    written = []

    def another(number):
        written.append(number)
        if number == 1:
            assert publish("first") == 1

    assert publish("second", another) == 2
    assert written == [1, 2]
    assert listed(place) == ([2, 1], ["second 2", "first 1"])


def test_what_must_not_be_published_leaves_nothing(place, publish):
    def withdrawn(_):
        raise Conflict("a site withdrew meanwhile")

    with pytest.raises(Conflict):
        publish(allowed=withdrawn)
    assert listed(place) == ([], [])
    assert list(place.versions.folder("brains", 1).parent.iterdir()) == []
    assert publish() == 1
