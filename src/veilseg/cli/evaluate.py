"""``veilseg evaluate``."""

import hashlib
import json
from pathlib import Path

from veilseg.bundle import open_client_half, open_server_half
from veilseg.cli.local import LocalServer
from veilseg.cli.progress import progress
from veilseg.cli.site import labelled_references
from veilseg.datasets.layout import read_dataset, split_by_patient
from veilseg.errors import InvalidInput, OutputNotWritable, WrongUsage
from veilseg.evaluation.evaluate import evaluate as run
from veilseg.files import write_text_whole
from veilseg.scheme import ClientHalf
from veilseg.schemes.registry import client_half
from veilseg.vault.vault import Vault

# Nothing leaves in an evaluation; a fixed key makes its references the same in every run.
EVALUATION_KEY = hashlib.sha256(b"veilseg evaluation").digest()
SPLITS = ("test", "all")


def evaluate(
    bundle_folder: Path, folder: Path, split: str, references: str, json_file: Path | None
) -> None:
    """Evaluate a bundle on a labelled data set; needs the ``train`` extra for surfaces."""
    if split not in SPLITS:
        raise WrongUsage(f"--split {split}: choose test or all")
    if json_file is not None and not json_file.parent.is_dir():
        raise OutputNotWritable(f"{json_file}: folder {json_file.parent} does not exist")
    bundle = open_client_half(bundle_folder)
    server = open_server_half(bundle_folder)
    dataset = read_dataset(folder)
    data_hash = dataset.content_hash()
    trained_on = bundle.manifest.provenance.get("data_sha256")
    parts = split_by_patient(dataset)
    if split == "test" and data_hash != trained_on:
        raise InvalidInput(
            f"{folder}: --split test: not the data {bundle.manifest.name} was trained on, so which "
            "cases it has not seen is unknown; without --split all cases are taken"
        )
    cases = parts.test if split == "test" else dataset.cases
    reference_cases = None
    if split == "test" and Path(references).resolve() == folder.resolve():
        reference_cases = parts.train
    labelled = labelled_references(bundle, references, reference_cases)
    shared = {case.patient for case in cases} & {reference.patient for reference in labelled}
    if shared:
        raise InvalidInput(
            f"--references {references}: patient {min(shared)} is evaluated as well: take "
            "references of other patients, or --split test"
        )
    halves: dict[str, ClientHalf] = {}
    with Vault.in_memory(EVALUATION_KEY, labelled) as vault, progress("evaluating") as show:
        if bundle.manifest.scheme == "mixup":
            halves["learned"] = client_half(bundle, vault, "learned")
            halves["algebraic"] = client_half(bundle, vault, "algebraic")
        else:
            halves[bundle.manifest.scheme] = client_half(bundle, vault)
        result = run(cases, bundle.manifest, halves, LocalServer(server), show)
    result["split"] = split
    result["references"] = references if references == "synthetic" else Path(references).name
    result["reference_patients"] = sorted({reference.patient for reference in labelled})
    result["dataset"] = dataset.name
    result["data_sha256"] = data_hash
    result["provenance"] = bundle.manifest.provenance
    for name, values in result["per_class"].items():
        print(f"{name}: Dice {values['dice']}, HD95 {values['hd95_mm']} mm, NSD {values['nsd']}")
    low, high = result["interval"]
    print(
        f"mean foreground Dice {result['mean_dice']} "
        f"({low}…{high}, {result['n_patients']} patients)"
    )
    if json_file is not None:
        write_text_whole(json_file, json.dumps(result, indent=2) + "\n")
