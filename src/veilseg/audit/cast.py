"""Who plays whom: from a bundle and a data set to a scene."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from veilseg.audit.scene import Scene, evenly
from veilseg.bundle import ClientBundle
from veilseg.client.processor import TileProcessor
from veilseg.datasets.cases import PreparedCase, prepare_case_for
from veilseg.datasets.layout import Case, Dataset
from veilseg.datasets.lineage import has_seen_held_out, runs_behind, same_patients
from veilseg.datasets.split import Fold, split_by_patient
from veilseg.errors import InvalidDataset
from veilseg.vault.vault import LabelledReference

# An attacker's images beyond this many bring little and cost memory.
MOST_AUXILIARY = 200
# Of the people who are not audited, one in so many is the site's, whether it takes references from
# them or not: so audits of one data set have the same attacker and can be compared.
SITE_PART = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Cast:
    """Cases of a data set by role; no patient has two, but for the members.

    Attributes
    ----------
    audited : tuple of Case
    auxiliary : tuple of Case
        The attacker's own.
    references : tuple of Case
        The site's, should it take its references from these data.
    members : frozenset of str
        Names of those auxiliary cases that the server half was trained on; empty where unknown.
    """

    audited: tuple[Case, ...]
    auxiliary: tuple[Case, ...]
    references: tuple[Case, ...]
    members: frozenset[str]


def cast_of(bundle: ClientBundle, dataset: Dataset) -> Cast:
    """Audited are the patients whom the bundle's split holds out; of the others a quarter is the
    site's, and three are the attacker's.

    Parameters
    ----------
    bundle : ClientBundle
    dataset : Dataset
        Best the one the bundle was trained on: only then is it known who was trained on.

    Raises
    ------
    InvalidDataset
        If labels are not the bundle's, there are too few patients, or the bundle has seen all.
    """
    manifest = bundle.manifest
    if [label.name for label in dataset.labels] != [label.name for label in manifest.labels]:
        raise InvalidDataset(
            f"{dataset.folder}: dataset.json: labels are not those of {manifest.name} "
            f"({', '.join(label.name for label in manifest.labels)})"
        )
    data, fold = dataset.content_hash(), manifest.provenance.get("fold")
    known = any(run.get("data_sha256") == data for run in runs_behind(manifest.provenance))
    if known and not same_patients(manifest.provenance, dataset.patients_hash()):
        raise InvalidDataset(
            f"{dataset.folder}: cases.csv: names other patients than when {manifest.name} was "
            "trained: whom it has not seen is unknown"
        )
    if known and has_seen_held_out(manifest.provenance, data, fold):
        raise InvalidDataset(
            f"{dataset.folder}: {manifest.name} started from a bundle of another fold of these "
            "data: no patient is left that it has not seen"
        )
    split = split_by_patient(dataset, Fold.parse(fold) if known and fold else None)
    others = (*split.train, *split.validation)
    people = list(dict.fromkeys(case.patient for case in others))
    of_site = set(people[1::SITE_PART])
    own = tuple(case for case in others if case.patient not in of_site)
    if not own or not of_site:
        raise InvalidDataset(
            f"{dataset.folder}: {len(people)} patients are not audited: too few to be the site's "
            "references and the attacker's"
        )
    return Cast(
        split.test,
        tuple(evenly(own, MOST_AUXILIARY)),
        tuple(case for case in others if case.patient in of_site),
        frozenset(case.name for case in split.train) if known else frozenset(),
    )


def scene_of(
    bundle: ClientBundle,
    server: TileProcessor,
    cast: Cast,
    references: Sequence[LabelledReference],
    seed: int,
    progress: Progress,
) -> Scene:
    """Read the cases of a cast.

    Parameters
    ----------
    bundle : ClientBundle
    server : TileProcessor
    cast : Cast
    references : sequence of LabelledReference
        Of the site. Empty for synthetic ones.
    seed : int
    progress : callable
        Called with (cases read, cases).

    Raises
    ------
    InvalidDataset
        If all who could be audited are references of the site.
    InvalidImage
        If a case cannot be used.
    """
    of_site = {reference.patient for reference in references}
    audited, auxiliary = (
        [case for case in cases if case.patient not in of_site]
        for cases in (cast.audited, cast.auxiliary)
    )
    if not audited or not auxiliary:
        raise InvalidDataset(
            f"no patient is left to {'attack with' if audited else 'audit'}: all others are "
            "references of the site"
        )
    prepared: list[PreparedCase] = []
    for case in (*auxiliary, *audited):
        prepared.append(prepare_case_for(case, bundle.manifest))
        progress(len(prepared), len(auxiliary) + len(audited))
    own, attacked = prepared[: len(auxiliary)], prepared[len(auxiliary) :]
    members = [case for case in own if case.name in cast.members]
    return Scene(bundle, server, own, attacked, members, references, seed)
