"""Which cells there are, what a cell is trained as, and what makes it another one."""

import dataclasses

import pytest

from veilseg.bench.evidence import cells
from veilseg.bench.evidence.cells import COMPARATORS, PLAIN, PRIVATE, Cell, chosen, digest, table
from veilseg.bench.evidence.data import ALL, CARDIAC, HIPPOCAMPUS
from veilseg.bench.evidence.measure import examples_seen
from veilseg.errors import WrongUsage

BY_NAME = {cell.name: cell for cell in table()}


def test_every_scheme_is_measured_where_it_was_to_be():
    assert len(BY_NAME) == len(table()) == 48
    for data in ALL:
        both = data in (HIPPOCAMPUS, CARDIAC)
        schemes = (PLAIN, *PRIVATE, *(COMPARATORS if both else ()))
        seeds = (0, 1, 2) if both else (0,)
        mine = {(cell.scheme, cell.seed) for cell in table() if cell.data == data}
        assert mine == {(scheme, seed) for scheme in schemes for seed in seeds}


@pytest.mark.parametrize("steps", [None, 1, 2, 41])
@pytest.mark.parametrize("data", ALL, ids=lambda data: data.name)
def test_schemes_of_a_data_set_have_equal_steps_and_starts(data, steps):
    mine = [cell for cell in table(steps) if cell.data == data and cell.seed == 0]
    starts = {cell.run.start for cell in mine if cell.scheme != "encoding"}
    assert len(starts) == 1
    for cell in mine:
        before = 0 if cell.run.start is None else cell.run.start.steps
        assert before + cell.run.steps == (steps or data.steps)
        assert cell.run.steps >= 1
        if cell.run.start is not None:
            assert (cell.run.start.scheme, cell.run.start.seed) == (PLAIN, cell.seed)


def test_private_cells_are_timed_beside_a_network_for_raw_images():
    for cell in table():
        if cell.scheme == PLAIN:
            assert cell.beside is None
        else:
            plain = BY_NAME[f"{cell.data.name}-{PLAIN}-{cell.seed}"]
            assert cell.beside == (plain.run.start or plain.run)


def test_only_encodings_are_keyed_and_attacked_as_such():
    for cell in table():
        encoded = cell.scheme == "encoding"
        assert cell.run.keyed == encoded
        assert ("A10" in cell.attacks) == encoded
        assert ("A5" in cell.attacks) != encoded
        assert "A14" in cell.attacks


def test_the_first_seed_is_attacked_in_full_unless_told_otherwise():
    assert {cell.effort for cell in table() if cell.seed == 0} == {"full"}
    assert {cell.effort for cell in table() if cell.seed} == {"quick"}
    assert {cell.effort for cell in table(effort="none")} == {"none"}


def test_cells_are_chosen_by_name_and_pattern():
    found = chosen(table(), ["cardiac-*-1", "retina-plain-0"])
    assert {cell.name for cell in found} == {
        *(name for name in BY_NAME if name.startswith("cardiac") and name.endswith("-1")),
        "retina-plain-0",
    }
    assert chosen(table(), []) == table()
    with pytest.raises(WrongUsage, match=r"--only liver-\*: no such cell; --list shows all"):
        chosen(table(), ["liver-*"])


CELL = Cell(CARDIAC, "mixup", 1, 6000, "full")


@pytest.mark.parametrize(
    "changed",
    [{"scheme": "noise"}, {"seed": 2}, {"steps": 5000}, {"effort": "quick"}, {"data": HIPPOCAMPUS}],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_defines_a_cell_changes_its_digest(changed):
    other = dataclasses.replace(CELL, **changed)
    assert digest(other.defined("1" * 64)) != digest(CELL.defined("1" * 64))


def test_data_recipe_and_attacks_define_a_cell_too(monkeypatch):
    first = digest(CELL.defined("1" * 64))
    assert first == digest(dataclasses.replace(CELL).defined("1" * 64))
    assert first != digest(CELL.defined("2" * 64))
    monkeypatch.setattr(cells, "ATTACKS", ("A5",))
    assert first != digest(CELL.defined("1" * 64))


def test_a_key_defines_a_run_and_not_a_cell():
    cell = dataclasses.replace(CELL, scheme="encoding")
    runs = [cell.run.defined("1" * 64, key) for key in ("a", "b")]
    assert digest(runs[0]) != digest(runs[1])
    mixed = [CELL.run.defined("1" * 64, key) for key in ("a", "b")]
    assert digest(mixed[0]) == digest(mixed[1])


def test_examples_are_equal_but_for_what_is_recorded():
    assert examples_seen("plain", 3000, 3, 3000) == {"segmenter": 18_000}
    for scheme in ("mixup", "noise", "deformation", "privacy_net"):
        assert examples_seen(scheme, 3000, 3, 3000) == {"segmenter": 18_000}
    # Where a step takes one image, a discriminator needs two.
    assert examples_seen("mixup", 2400, 1, 1600) == {"segmenter": 4000}
    assert examples_seen("privacy_net", 2400, 1, 1600) == {"segmenter": 1600 + 2 * 2400}
    shared = examples_seen("encoding", 4000, 2)
    assert shared == {"autoencoders": 2800, "mapping steps": 1600, "decoder": 2000}
