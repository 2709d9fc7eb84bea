"""Nobody plays two roles."""

from dataclasses import replace

import phantoms
import pytest

from veilseg.audit.cast import cast_of, scene_of
from veilseg.bundle import open_client_half, open_server_half
from veilseg.cli.local import LocalServer
from veilseg.datasets.layout import read_dataset
from veilseg.errors import InvalidDataset
from veilseg.vault.vault import LabelledReference

PEOPLE = tuple(f"person{number // 2:02d}" for number in range(24))  # two images of each


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return read_dataset(phantoms.make_dataset(tmp_path_factory.mktemp("cast") / "set", PEOPLE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return phantoms.make_bundle(tmp_path_factory.mktemp("bundle") / "mixup", "mixup")


@pytest.fixture
def bundle(folder):
    """A bundle with the provenance that a test wants."""

    def build(**provenance):
        half = open_client_half(folder)
        return replace(half, manifest=replace(half.manifest, provenance=provenance))

    return build


def patients(cases):
    return {case.patient for case in cases}


@pytest.mark.parametrize("fold", [None, "2/3"])
def test_no_patient_has_two_roles(bundle, dataset, fold):
    trained = bundle(data_sha256=dataset.content_hash(), fold=fold)
    cast = cast_of(trained, dataset)
    groups = [patients(cast.audited), patients(cast.auxiliary), patients(cast.references)]
    assert all(groups)
    assert len(groups[1]) > 2 * len(groups[2])
    assert sum(map(len, groups)) == len(set.union(*groups)) == 12
    # Members are the attacker's as well, and never audited.
    members = {case.name for case in cast.auxiliary if case.name in cast.members}
    assert members
    assert not members & {case.name for case in cast.audited}


def test_of_other_data_nobody_is_known_to_be_a_member(bundle, dataset):
    assert cast_of(bundle(data_sha256="0" * 64), dataset).members == frozenset()


def test_bundle_of_another_fold_has_seen_the_audited(bundle, dataset):
    data = dataset.content_hash()
    start = {"bundle_id": "a", "provenance": {"data_sha256": data, "fold": "1/3"}}
    with pytest.raises(InvalidDataset, match="no patient is left that it has not seen"):
        cast_of(bundle(data_sha256=data, fold="2/3", init=start), dataset)


def test_patients_of_other_names_are_not_taken_for_unseen(bundle, dataset):
    data, people = dataset.content_hash(), dataset.patients_hash()
    assert cast_of(bundle(data_sha256=data, patients_sha256=people), dataset).audited
    with pytest.raises(InvalidDataset, match="names other patients"):
        cast_of(bundle(data_sha256=data, patients_sha256="0" * 64), dataset)


def test_references_of_the_site_are_neither_audited_nor_the_attackers(bundle, folder, dataset):
    half = bundle(data_sha256=dataset.content_hash())
    cast = cast_of(half, dataset)
    server = LocalServer(open_server_half(folder))
    scene = scene_of(half, server, cast, [], 0, lambda *_: None)
    one, other = scene.audited[0], scene.auxiliary[0]
    references = [LabelledReference(c.patient, c.image, c.labels) for c in (one, other)]
    scene = scene_of(half, server, cast, references, 0, lambda *_: None)
    left = patients(scene.audited) | patients(scene.auxiliary)
    assert not left & {one.patient, other.patient}
    all_audited = [LabelledReference(c.patient, one.image, one.labels) for c in cast.audited]
    with pytest.raises(InvalidDataset, match="no patient is left to audit"):
        scene_of(half, server, cast, all_audited, 0, lambda *_: None)
