"""``veilseg site init`` and ``veilseg site forget``."""

import sys
from pathlib import Path

import numpy as np

from veilseg.bundle import ClientBundle, open_client_half
from veilseg.cli.progress import progress
from veilseg.datasets.cases import prepare_case_for
from veilseg.datasets.layout import Case, read_dataset
from veilseg.errors import InvalidDataset, WrongUsage
from veilseg.schemes.mixup.client import has_synthetic_references
from veilseg.schemes.registry import TAKES_REFERENCES
from veilseg.vault.vault import LabelledReference, Vault


def init(vault: Path, bundle_folder: Path, references: str) -> None:
    """Make a vault for a bundle."""
    bundle = open_client_half(bundle_folder)
    mixes = bundle.manifest.scheme in TAKES_REFERENCES
    if not mixes and references != "synthetic":
        raise WrongUsage(f"--references: {bundle.manifest.scheme} mixes nothing: it takes none")
    labelled = labelled_references(bundle, references)
    Vault.create(vault, bundle.manifest.protection_id, labelled)
    source = f"{len(labelled)} labelled references" if labelled else "synthetic references"
    if not mixes:
        source = "a key"
    print(f"{vault}: vault of {bundle.manifest.name} with {source}; keep it private and backed up")


def forget(subject: str, folder: Path) -> None:
    """Remove a subject from the ledger."""
    with Vault.open(folder, bundle_id=None) as vault:
        count = vault.forget(subject)
    print(f"{count} proxies forgotten; what a server stored of them cannot be called back")


def labelled_references(
    bundle: ClientBundle, references: str, cases: tuple[Case, ...] | None = None
) -> list[LabelledReference]:
    """Labelled cases with foreground, on the bundle's grid; none for ``synthetic``.

    Parameters
    ----------
    bundle : ClientBundle
    references : str
        Folder of a data set, or ``synthetic``.
    cases : tuple of Case or None
        Which cases; None for all.

    Raises
    ------
    InvalidDataset
        If the data set's labels are not the bundle's, or no case has any foreground.
    InvalidImage
        If its images are not of the bundle's kind.
    WrongUsage
        If the bundle has no synthetic references.
    """
    manifest = bundle.manifest
    if references == "synthetic":
        if not has_synthetic_references(manifest):
            raise WrongUsage(
                f"--references synthetic: {manifest.name} has no template to draw from, for its "
                "labels lie at no common place: give --references DATASET"
            )
        return []
    dataset = read_dataset(Path(references))
    if [label.name for label in dataset.labels] != [label.name for label in manifest.labels]:
        raise InvalidDataset(
            f"{references}: dataset.json: labels are not those of {manifest.name} "
            f"({', '.join(label.name for label in manifest.labels)})"
        )
    prepared = []
    chosen = dataset.cases if cases is None else cases
    with progress("references") as show:
        for case in chosen:
            ready = prepare_case_for(case, manifest)
            # A vault stores FP16; rounded here, an evaluation mixes what a site would mix.
            image = ready.image.astype(np.float16).astype(np.float32)
            prepared.append(LabelledReference(ready.patient, image, ready.labels))
            show(len(prepared), len(chosen))
    usable = [one for one in prepared if one.labels.any()]
    without = len(prepared) - len(usable)
    if not usable:
        raise InvalidDataset(
            f"{references}: no case has any foreground: mixed with such a reference, an answer is "
            "the patient's mask alone"
        )
    if without:
        print(
            f"veilseg: {references}: {without} of {len(prepared)} cases have no foreground and are "
            "left out: mixed with them, an answer is the patient's mask alone",
            file=sys.stderr,
        )
    return usable
