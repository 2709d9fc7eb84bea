"""Fine-tuning does not make unseen who was seen."""

import pytest

from veilseg.datasets.lineage import has_seen_held_out, runs_behind

HERE, ELSEWHERE = "a" * 64, "b" * 64


def provenance(data, fold, start=None):
    init = None if start is None else {"bundle_id": "c" * 64, "provenance": start}
    return {"data_sha256": data, "fold": fold, "init": init}


def test_runs_come_latest_first():
    first = provenance(HERE, "1/5")
    second = provenance(ELSEWHERE, None, first)
    third = provenance(HERE, "2/5", second)
    assert list(runs_behind(third)) == [third, second, first]
    assert list(runs_behind({})) == [{}]


@pytest.mark.parametrize(
    ("start", "fold", "expected"),
    [
        (provenance(HERE, "1/5"), "1/5", False),
        (provenance(HERE, None), None, False),
        ({"data_sha256": HERE}, None, False),  # written before there were folds
        (provenance(HERE, "1/5"), "2/5", True),
        (provenance(HERE, "1/5"), None, True),
        (provenance(HERE, None), "1/5", True),
        (provenance(ELSEWHERE, "1/5"), "2/5", False),
        (provenance(ELSEWHERE, None, provenance(HERE, "1/5")), "1/5", False),
        (provenance(ELSEWHERE, None, provenance(HERE, "1/5")), "2/5", True),
        (provenance(HERE, "2/5", provenance(HERE, "1/5")), "2/5", True),
    ],
)
def test_who_was_seen(start, fold, expected):
    assert has_seen_held_out(start, HERE, fold) is expected
