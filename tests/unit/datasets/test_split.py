"""Patients are never split; folds test each of them once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilseg.datasets.layout import Case, Dataset
from veilseg.datasets.split import (
    TEST_SHARE,
    VALIDATION_EVERY,
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
        assert len(test) in (len(order) // count, -(-len(order) // count))
        assert len(validation) == -(-(len(order) - len(test)) // VALIDATION_EVERY)
        tested += test
    assert sorted(tested) == sorted(order)


def test_five_folds_of_ten_patients():
    split = split_by_patient(dataset_of([f"p{i}" for i in range(10)]), Fold.parse("2/5"))
    assert [case.patient for case in split.test] == ["p1", "p6"]
    assert [case.patient for case in split.validation] == ["p0"]
    assert [case.patient for case in split.train] == ["p2", "p3", "p4", "p5", "p7", "p8", "p9"]


def test_folds_of_a_sorted_table_have_every_kind():
    order = [f"{kind}{i:02d}" for kind in ("benign", "malignant", "normal") for i in range(20)]
    for index in range(1, 6):
        split = split_by_patient(dataset_of(order), Fold(index, 5))
        assert [case.patient[:-2] for case in split.test] == (
            ["benign"] * 4 + ["malignant"] * 4 + ["normal"] * 4
        )
        assert {case.patient[:-2] for case in split.validation} == {"benign", "malignant", "normal"}
    # What the default does with such a table: one kind only.
    assert {case.patient[:-2] for case in split_by_patient(dataset_of(order)).test} == {"normal"}


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
