"""Which cases train, choose and test: rules over patients, not lists (decision 0005)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from veilseg.datasets.layout import Case, Dataset
from veilseg.errors import InvalidDataset, WrongUsage

# Shares of cases, taken in whole patients.
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
# Of the patients that a fold does not test.
VALIDATION_EVERY = 10


@dataclass(frozen=True)
class Fold:
    """One of the parts of a cross-validation.

    Attributes
    ----------
    index : int
        Which part of the patients is tested, from 1.
    count : int
        Parts in all, at least 2.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"2/5"``: the second of five.

        Raises
        ------
        WrongUsage
            If it is anything else.
        """
        index, _, count = text.partition("/")
        digits = index.isascii() and count.isascii() and index.isdigit() and count.isdigit()
        if not digits or int(count) < 2 or not 1 <= int(index) <= int(count):
            raise WrongUsage(f"fold {text}: must be I/N, the I-th of N ≥ 2 parts, as in 2/5")
        return cls(int(index), int(count))


@dataclass(frozen=True)
class Split:
    """Cases by use; no patient is in two of them."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]


def split_by_patient(dataset: Dataset, fold: Fold | None = None) -> Split:
    """Split whole patients, in the order of their first case, by a rule that needs no seed.

    Without a fold the last patients are tested, the fewest that have 20 % of the cases; those
    before them, the fewest that have 10 %, are for validation.

    Folds deal the patients out in turn: fold I of N tests the I-th and every N-th after it, so each
    patient is tested in exactly one fold, and where the order follows disease or site, each fold
    has its part of every kind. Of the others, the first and every tenth after it validate.

    Raises
    ------
    InvalidDataset
        If there are too few patients: three, four for two folds, else one per fold.
    """
    count = Counter(case.patient for case in dataset.cases)
    order = list(count)
    if len(order) < 3:
        raise InvalidDataset(
            f"{dataset.folder}: {len(order)} patients: training, validation and test need three"
        )
    if fold is None:
        test = set(order[len(order) - _needed(order[:1:-1], count, TEST_SHARE) :])
        others = [patient for patient in order if patient not in test]
        validation = set(others[len(others) - _needed(others[:0:-1], count, VALIDATION_SHARE) :])
    else:
        # Two patients are left to train and to validate, whichever fold is tested.
        least = 4 if fold.count == 2 else fold.count
        if len(order) < least:
            raise InvalidDataset(
                f"{dataset.folder}: {len(order)} patients: {fold.count} folds need {least}"
            )
        test = set(order[fold.index - 1 :: fold.count])
        others = [patient for patient in order if patient not in test]
        validation = set(others[::VALIDATION_EVERY])
    uses = (set(others) - validation, validation, test)
    return Split(*(tuple(case for case in dataset.cases if case.patient in use) for use in uses))


def _needed(patients: Sequence[str], count: Counter[str], share: float) -> int:
    """How many of the patients, from the first, it takes to have a share of all cases."""
    wanted = share * count.total()
    together = accumulate(count[patient] for patient in patients)
    return next((n for n, cases in enumerate(together, start=1) if cases >= wanted), len(patients))
