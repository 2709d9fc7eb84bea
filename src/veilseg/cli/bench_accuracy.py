"""Dice of what a site recovers from the answers of one runtime or another."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from veilseg.bench.contenders import Contender
from veilseg.bench.runtime import Accuracy
from veilseg.bundle import open_client_half
from veilseg.cli.evaluate import EVALUATION_KEY, Request, cases_of
from veilseg.cli.site import labelled_references
from veilseg.client.pipeline import protect, recover
from veilseg.datasets.cases import read_case
from veilseg.datasets.layout import read_dataset
from veilseg.errors import InvalidInput
from veilseg.evaluation.dice import dice_per_class, mean_foreground
from veilseg.imaging.preprocessing import restore
from veilseg.payload import Float32Array
from veilseg.schemes.registry import client_half
from veilseg.vault.vault import Vault
from veilseg.wire.tensors import DTYPES

Evaluate = Callable[[Contender], Accuracy]


@contextmanager
def evaluators_of(
    folders: Sequence[Path], datasets: Sequence[Path], references: str, count: int
) -> Iterator[dict[str, Evaluate]]:
    """An evaluator for each bundle that was trained on one of the data sets, by its name.

    Raises
    ------
    InvalidInput
        If a data set is that of no bundle.
    """
    by_hash = {read_dataset(folder).content_hash(): folder for folder in datasets}
    found: dict[str, Evaluate] = {}
    used = set()
    with ExitStack() as opened:
        for folder in folders:
            manifest = open_client_half(folder).manifest
            data = by_hash.get(manifest.provenance.get("data_sha256", ""))
            if data is not None:
                used.add(data)
                found[manifest.name] = opened.enter_context(
                    evaluator(folder, data, references, count)
                )
        for data in by_hash.values():
            if data not in used:
                raise InvalidInput(f"--dataset {data}: no bundle here was trained on it")
        yield found


@contextmanager
def evaluator(
    folder: Path, dataset_folder: Path, references: str, count: int
) -> Iterator[Evaluate]:
    """Evaluates a contender on the first cases that the bundle has not seen.

    Protection is drawn from a fixed key, so that every contender is shown the same proxies.

    Parameters
    ----------
    folder : Path
        Of the bundle, both halves.
    dataset_folder : Path
        The data that it was trained on.
    references : str
        Folder of a data set, or ``synthetic``.
    count : int
    """
    bundle = open_client_half(folder)
    manifest = bundle.manifest
    dataset = read_dataset(dataset_folder)
    request = Request(folder, dataset_folder, "test", references, 1, None, None, None)
    found, others = cases_of(request, manifest, dataset, dataset.content_hash())
    cases = found[:count]
    labelled = labelled_references(bundle, references, others)
    classes = len(manifest.labels)
    dtype = DTYPES[manifest.proxy.datatype]
    with Vault.in_memory(EVALUATION_KEY, labelled) as vault:
        half = client_half(bundle, vault)

        def evaluate(contender: Contender) -> Accuracy:
            def processor(tile: Float32Array) -> Float32Array:
                answer: Float32Array = contender(tile[np.newaxis].astype(dtype))[0].astype(
                    np.float32
                )
                return answer

            dice = []
            for case in cases:
                _, truth = read_case(case, classes)
                outgoing = protect(case.images, case.patient, manifest, half)
                back = recover([outgoing], manifest, [half], processor, None)
                labels = restore(back.probabilities[0], outgoing.restoration)
                dice.append(mean_foreground(dice_per_class(labels.array, truth.array, classes)))
            return Accuracy(dice, [case.patient for case in cases])

        yield evaluate
