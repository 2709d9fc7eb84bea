"""``veilseg evaluate``."""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from veilseg.bundle import ClientManifest, open_client_half, open_server_half
from veilseg.cli.key import read_key
from veilseg.cli.local import LocalServer
from veilseg.cli.progress import progress
from veilseg.cli.site import labelled_references
from veilseg.datasets.layout import Case, Dataset, read_dataset
from veilseg.datasets.lineage import has_seen_held_out, same_patients
from veilseg.datasets.split import Fold, split_by_patient
from veilseg.errors import InvalidInput, OutputNotWritable, WrongUsage
from veilseg.evaluation.evaluate import evaluate as run
from veilseg.files import write_text_whole
from veilseg.schemes.registry import NEEDS_VAULT, client_halves, price_of_averaging
from veilseg.vault.vault import Vault

# Nothing leaves in an evaluation; a fixed key makes its references the same in every run.
EVALUATION_KEY = hashlib.sha256(b"veilseg evaluation").digest()
SPLITS = ("test", "validation", "all")


@dataclass(frozen=True)
class Request:
    """Options of ``veilseg evaluate``, as typed."""

    bundle: Path
    dataset: Path
    split: str
    references: str
    mixtures: int
    coefficient: float | None
    key_file: Path | None
    json_file: Path | None


def evaluate(request: Request) -> None:
    """Evaluate a bundle on a labelled data set; needs the ``train`` extra for surfaces."""
    if request.split not in SPLITS:
        raise WrongUsage(f"--split {request.split}: choose {', '.join(SPLITS)}")
    json_file = request.json_file
    if json_file is not None and not json_file.parent.is_dir():
        raise OutputNotWritable(f"{json_file}: folder {json_file.parent} does not exist")
    bundle = open_client_half(request.bundle)
    manifest = bundle.manifest
    server = open_server_half(request.bundle)
    dataset = read_dataset(request.dataset)
    data_hash = dataset.content_hash()
    cases, reference_cases = cases_of(request, manifest, dataset, data_hash)
    labelled = labelled_references(bundle, request.references, reference_cases)
    shared = {case.patient for case in cases} & {reference.patient for reference in labelled}
    if shared:
        raise InvalidInput(
            f"--references {request.references}: patient {min(shared)} is evaluated as well: take "
            "references of other patients, or --split test"
        )
    if request.mixtures > 1 and manifest.scheme in NEEDS_VAULT:
        price = price_of_averaging(manifest.scheme, request.mixtures)
        print(f"veilseg: --mixtures: warning: {price}", file=sys.stderr)
    with Vault.in_memory(EVALUATION_KEY, labelled) as vault, progress("evaluating") as show:
        halves = client_halves(bundle, vault, request.coefficient, read_key(request.key_file))
        result = run(cases, manifest, halves, LocalServer(server), show, request.mixtures)
    coefficient = request.coefficient
    result |= {
        "coefficient": manifest.settings.get("coefficient") if coefficient is None else coefficient,
        "strength": manifest.settings.get("strength"),
        "split": request.split,
        "fold": manifest.provenance.get("fold"),
        "references": "synthetic"
        if request.references == "synthetic"
        else Path(request.references).name,
        "reference_patients": sorted({reference.patient for reference in labelled}),
        "dataset": dataset.name,
        "data_sha256": data_hash,
        "provenance": manifest.provenance,
    }
    for name, values in result["per_class"].items():
        distance = f"{values['hd95_mm']} {result['unit']}"
        print(f"{name}: Dice {values['dice']}, HD95 {distance}, NSD {values['nsd']}")
    low, high = result["interval"]
    print(
        f"mean foreground Dice {result['mean_dice']} "
        f"({low}…{high}, {result['n_patients']} patients)"
    )
    if json_file is not None:
        write_text_whole(json_file, json.dumps(result, indent=2) + "\n")


def cases_of(
    request: Request, manifest: ClientManifest, dataset: Dataset, data_hash: str
) -> tuple[tuple[Case, ...], tuple[Case, ...] | None]:
    """Cases to evaluate, and which of the references' cases may be mixed in (None: all).

    The bundle says by which fold it was trained, so that nobody is taken for unseen who was not.
    Test patients are mixed with validation patients: a site's references are nobody whom the
    networks were trained on.
    """
    if request.split == "all":
        return dataset.cases, None
    if data_hash != manifest.provenance.get("data_sha256"):
        raise InvalidInput(
            f"{request.dataset}: --split {request.split}: not the data {manifest.name} was trained "
            "on, so which cases it has not seen is unknown; without --split all cases are taken"
        )
    if not same_patients(manifest.provenance, dataset.patients_hash()):
        raise InvalidInput(
            f"{request.dataset}: cases.csv: names other patients than when {manifest.name} was "
            "trained, so which cases it has not seen is unknown"
        )
    fold = manifest.provenance.get("fold")
    if has_seen_held_out(manifest.provenance, data_hash, fold):
        raise InvalidInput(
            f"{request.bundle}: --split {request.split}: its training started from a bundle "
            "of another fold of these data: no patient is left that it has not seen"
        )
    parts = split_by_patient(dataset, None if fold is None else Fold.parse(fold))
    same = Path(request.references).resolve() == request.dataset.resolve()
    if request.split == "test":
        return parts.test, parts.validation if same else None
    return parts.validation, parts.train if same else None
