"""Patients are never split; folds test each of them once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.datasets.layout import Case, Dataset
from veilseg.datasets.split import (
    TEST_SHARE,
    VALIDATION_SHARE,
    Fold,
    split_by_patient,
)
from veilseg.errors import InvalidDataset, WrongUsage


def dataset_of(patients):
    cases = tuple(
        Case(f"case{number:03d}", patient, (Path("image"),), Path("labels"))
        for number, patient in enumerate(patients)
    )
    return Dataset(Path("folder"), "name", (), (), cases)


@given(st.lists(st.integers(0, 30), min_size=3, max_size=120).filter(lambda p: len(set(p)) >= 3))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_split_never_parts_a_patient(owners):
    dataset = dataset_of([f"patient{owner}" for owner in owners])
    split = split_by_patient(dataset)
    groups = [split.train, split.validation, split.test]
    assert all(groups)
    assert sorted(case.name for group in groups for case in group) == [
        case.name for case in dataset.cases
    ]
    people = [{case.patient for case in group} for group in groups]
    assert sum(map(len, people)) == len(set.union(*people))
    # Patients keep the order of their first case: training, then validation, then test.
    order = list(dict.fromkeys(case.patient for case in dataset.cases))
    assert [name for group in people for name in order if name in group] == order
    for group in groups:
        assert [case.name for case in group] == sorted(case.name for case in group)


@given(st.lists(st.integers(1, 4), min_size=20, max_size=60))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_each_share_is_the_fewest_patients_that_reach_it(sizes):
    patients = [f"patient{i:02d}" for i, size in enumerate(sizes) for _ in range(size)]
    split = split_by_patient(dataset_of(patients))
    for group, share in ((split.test, TEST_SHARE), (split.validation, VALIDATION_SHARE)):
        wanted = share * len(patients)
        assert len(group) >= wanted
        first = group[0].patient
        assert sum(case.patient != first for case in group) < wanted


def test_three_patients_give_one_each():
    split = split_by_patient(dataset_of(["a", "a", "b", "c"]))
    assert [[c.patient for c in g] for g in (split.train, split.validation, split.test)] == [
        ["a", "a"],
        ["b"],
        ["c"],
    ]


@pytest.mark.parametrize("patients", [["a"], ["a", "a", "b", "b"]])
def test_fewer_than_three_patients_are_refused(patients):
    with pytest.raises(InvalidDataset, match=f"{len(set(patients))} patients"):
        split_by_patient(dataset_of(patients))


@given(st.lists(st.integers(0, 30), min_size=3, max_size=120), st.integers(2, 8))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_folds_test_each_patient_once_and_part_none(owners, count):
    dataset = dataset_of([f"patient{owner}" for owner in owners])
    order = list(dict.fromkeys(case.patient for case in dataset.cases))
    if len(order) < max(3, 4 if count == 2 else count):
        with pytest.raises(InvalidDataset, match=f"{len(order)} patients"):
            split_by_patient(dataset, Fold(1, count))
        return
    tested: list[str] = []
    for index in range(1, count + 1):
        split = split_by_patient(dataset, Fold(index, count))
        groups = [split.train, split.validation, split.test]
        assert all(groups)
        names = sorted(case.name for group in groups for case in group)
        assert names == [case.name for case in dataset.cases]
        train, validation, test = ({case.patient for case in group} for group in groups)
        assert len(train) + len(validation) + len(test) == len(order)
        # In a circle that ends before the tested block: first training, then validation.
        start = len(tested)
        before = order[start:] + order[:start]
        assert set(before[-len(validation) :]) == validation
        wanted = VALIDATION_SHARE * len(owners)
        assert len(split.validation) >= wanted or len(train) == 1
        farthest = before[-len(validation)]
        assert sum(case.patient != farthest for case in split.validation) < wanted
        tested += [name for name in order if name in test]
    # Whole blocks, in order, each patient once.
    assert tested == order


@given(st.lists(st.integers(1, 4), min_size=40, max_size=80), st.integers(2, 8))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_folds_are_of_nearly_equal_size(sizes, count):
    patients = [f"patient{i:02d}" for i, size in enumerate(sizes) for _ in range(size)]
    tested = [
        len(split_by_patient(dataset_of(patients), Fold(index, count)).test)
        for index in range(1, count + 1)
    ]
    # Each end of a block is off by half a patient's cases at most. (At five cases per block and
    # four per patient, no cut is moved because its block would be empty.)
    assert all(abs(size - len(patients) / count) <= max(sizes) for size in tested)


def test_five_folds_of_ten_patients():
    split = split_by_patient(dataset_of([f"p{i}" for i in range(10)]), Fold.parse("1/5"))
    assert [case.patient for case in split.test] == ["p0", "p1"]
    # Before the first comes the last.
    assert [case.patient for case in split.validation] == ["p9"]
    assert [case.patient for case in split.train] == [f"p{i}" for i in range(2, 9)]


def test_one_patient_with_most_cases_does_not_empty_a_block():
    dataset = dataset_of(["a"] * 20 + ["b", "c", "d"])
    assert [len(split_by_patient(dataset, Fold(i, 4)).test) for i in range(1, 5)] == [20, 1, 1, 1]
    assert [len(split_by_patient(dataset, Fold(i, 2)).test) for i in (1, 2)] == [21, 2]


@pytest.mark.parametrize(("text", "fold"), [("1/2", Fold(1, 2)), ("10/10", Fold(10, 10))])
def test_fold_reads_what_it_writes(text, fold):
    assert Fold.parse(text) == fold
    assert str(fold) == text


@pytest.mark.parametrize(
    "text", ["", "2", "/5", "2/", "0/5", "6/5", "1/1", "-1/5", "1.5/5", "a/b", "1/2/3", "²/5"]
)
def test_what_is_no_fold(text):
    with pytest.raises(WrongUsage, match=r"fold .*: must be I/N"):
        Fold.parse(text)
