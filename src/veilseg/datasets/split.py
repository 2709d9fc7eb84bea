"""Which cases train, choose and test: rules over patients, not lists (decision 0005)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from veilseg.datasets.layout import Case, Dataset
from veilseg.errors import InvalidDataset, WrongUsage

# Shares of cases, taken in whole patients. A fold has its block in place of the test share.
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Fold:
    """One of the parts of a cross-validation.

    Attributes
    ----------
    index : int
        Which block of patients is tested, from 1.
    count : int
        Blocks in all, at least 2.
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
    """Split whole patients in the order of their first case: a block to test, one before it to
    choose by, the rest to train.

    Without a fold the last patients are tested, the fewest that have 20 % of the cases. Folds cut
    the patients into blocks of nearly equal numbers of cases; each patient is in the tested block
    of exactly one fold. Validation has 10 % of the cases, of the patients before the tested block;
    before the first comes the last. The rule needs no seed and no list that could go astray.

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
        start = len(order) - _needed(order[:1:-1], count, TEST_SHARE)
        stop = len(order)
    else:
        # Two patients are left to train and to validate, whichever block is tested.
        least = 2 if fold.count == 2 else 1
        if len(order) < least * fold.count:
            raise InvalidDataset(
                f"{dataset.folder}: {len(order)} patients: {fold.count} folds need "
                f"{least * fold.count}"
            )
        start, stop = _blocks([count[patient] for patient in order], fold.count, least)[
            fold.index - 1
        ]
    others = order[stop:] + order[:start]
    kept = len(others) - _needed(others[:0:-1], count, VALIDATION_SHARE)
    uses = (set(others[:kept]), set(others[kept:]), set(order[start:stop]))
    return Split(*(tuple(case for case in dataset.cases if case.patient in use) for use in uses))


def _needed(patients: Sequence[str], count: Counter[str], share: float) -> int:
    """How many of the patients, from the first, it takes to have a share of all cases."""
    wanted = share * count.total()
    together = accumulate(count[patient] for patient in patients)
    return next((n for n, cases in enumerate(together, start=1) if cases >= wanted), len(patients))


def _blocks(sizes: Sequence[int], count: int, least: int) -> list[tuple[int, int]]:
    """Cut patients with ``sizes`` cases into ``count`` blocks of at least ``least`` patients.

    Each cut lies where the cases before it are nearest to their equal share.
    """
    before = [0, *accumulate(sizes)]
    cuts = [0]
    for number in range(1, count):
        share = before[-1] * number / count
        off = [abs(cases - share) for cases in before]
        possible = range(cuts[-1] + least, len(sizes) - least * (count - number) + 1)
        cuts.append(min(possible, key=off.__getitem__))
    return list(zip(cuts, [*cuts[1:], len(sizes)], strict=True))
