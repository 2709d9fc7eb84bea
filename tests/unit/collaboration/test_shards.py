"""Pairs of many shards as one sequence."""

import numpy as np
import pytest
from collaborating import KEY, shard_of

from veilseg.collaboration import fits, projects
from veilseg.collaboration.blobs import Blobs
from veilseg.collaboration.shards import ShardPairs
from veilseg.errors import IntegrityError, InvalidInput, MissingDependency


@pytest.fixture
def manifest(place):
    """Of two contributions: shards of 2 and 3 pairs, and one of 2."""
    place.a.begin(shards=2, pairs=5)
    place.a.put(0, shard_of(2, 1.0))
    place.a.put(1, shard_of(3, 2.0))
    place.a.complete()
    place.b.whole(value=3.0)
    with place.database.session() as session:
        return fits.whole_contributions(session, projects.find(session, "brains"))


def test_every_pair_once_in_order(place, manifest, tmp_path):
    pairs = ShardPairs(manifest, place.blobs, tmp_path)
    assert len(pairs) == 7
    assert [float(pair.proxy[0]) for pair in pairs] == [1, 1, 2, 2, 2, 3, 3]
    assert [float(pair.answer[0]) for pair in pairs[::3]] == [1, 2, 3]
    assert float(pairs[-1].proxy[0]) == 3
    assert pairs[0].proxy.dtype == np.float16
    with pytest.raises(IndexError):
        pairs[7]
    assert len(ShardPairs([], place.blobs, tmp_path)) == 0


def stored(place, manifest):
    return place.folder / manifest[0]["shards"][1]["path"]


def test_altered_shard(place, manifest, tmp_path):
    path = stored(place, manifest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"contribution 1: shard 1: SHA-256 differs"):
        ShardPairs(manifest, place.blobs, tmp_path)


def test_missing_shard(place, manifest, tmp_path):
    stored(place, manifest).unlink()
    with pytest.raises(IntegrityError, match=r"contribution 1: shard 1: cannot be read"):
        ShardPairs(manifest, place.blobs, tmp_path)


def test_shard_with_other_pairs_than_recorded(place, manifest, tmp_path):
    manifest[0]["shards"][1]["pairs"] = 4
    with pytest.raises(IntegrityError, match=r"shard 1: holds 3 pairs, not 4"):
        ShardPairs(manifest, place.blobs, tmp_path)


def test_store_elsewhere_is_fetched(tmp_path):
    blobs = Blobs("memory://veilseg-test")
    blobs.write("shards/one", shard_of())
    copy = blobs.fetch("shards/one", tmp_path)
    assert copy.parent == tmp_path
    assert copy.read_bytes() == shard_of() == blobs.read("shards/one")
    blobs.delete("shards/one")
    blobs.delete("shards/one")  # it is gone already
    with pytest.raises(FileNotFoundError):
        blobs.read("shards/one")


def test_store_that_nobody_knows():
    with pytest.raises(InvalidInput, match="--blobs nonsense"):
        Blobs("nonsense://bucket")


def test_store_whose_package_is_missing():
    with pytest.raises(MissingDependency, match="--blobs"):
        Blobs("oci://bucket")


def test_key_is_not_in_the_manifest(manifest):
    assert KEY not in str(manifest)
