"""What a site does in a round: the package's own training, from the average on; without Flower."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from federated.federation import Federation, Weights
from veilseg.bundle import Expectation, IntensityRule
from veilseg.datasets.cases import PreparedCase, prepare_case
from veilseg.datasets.layout import Dataset, read_dataset
from veilseg.datasets.split import split_by_patient
from veilseg.errors import InvalidInput
from veilseg.files import written_whole
from veilseg.schemes.trainable import TRAINABLE
from veilseg.training.batches import Examples
from veilseg.training.interface import SchemeTraining
from veilseg.training.loop import fit
from veilseg.training.plan import Plan, plan_and_prepare
from veilseg.training.processes import launch
from veilseg.training.recipe import Recipe
from veilseg.training.run import Run, batch_size

SCHEME = "plain"
MODEL = "model/"  # as checkpoints name weights


def begun(dataset: Dataset, seed: int) -> tuple[Plan, SchemeTraining]:
    """Plan and network of the first site, just as ``veilseg train`` begins there."""
    cases = split_by_patient(dataset).train
    plan, prepared = plan_and_prepare(dataset, cases, lambda *_: None)
    return plan, _network(dataset, plan, prepared, seed)


def _network(
    dataset: Dataset, plan: Plan, cases: Sequence[PreparedCase], seed: int
) -> SchemeTraining:
    torch.manual_seed(seed)
    return TRAINABLE[SCHEME](dataset, plan, cases, seed, Recipe())


def plan_of(federation: Federation) -> Plan:
    """By which all prepare their cases: the first site's."""
    told = dict(federation.plan)
    looks = {name: _tuple(value) for name, value in told.pop("expectation").items()}
    rule = IntensityRule(**told.pop("intensity"))
    fields = {name: _tuple(value) for name, value in told.items()}
    return Plan(**fields, intensity=rule, expectation=Expectation(**looks))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def weights_of(module: torch.nn.Module) -> Weights:
    """By name, each once."""
    return {
        name: tensor.detach().contiguous().numpy().copy()
        for name, tensor in module.named_parameters()
    }


def set_weights(module: torch.nn.Module, weights: Weights) -> None:
    """Those of :func:`weights_of`."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))


class Site:
    """A site of a federation; what moves its weights (momenta) stays here between rounds.

    Parameters
    ----------
    federation : Federation
    name : str
    folder : Path
        Its own.
    """

    def __init__(self, federation: Federation, name: str, folder: Path) -> None:
        self.federation, self.name, self.folder = federation, name, folder
        folder.mkdir(parents=True, exist_ok=True)
        dataset = read_dataset(Path(federation.data[name]))
        plan = plan_of(federation)
        self.spacing, tile = plan.spacing_mm, plan.tile_shape
        self.cases = [
            prepare_case(case, len(dataset.labels), self.spacing, plan.intensity, tile)
            for case in split_by_patient(dataset).train
        ]
        if len(self.cases) != federation.cases[name]:
            raise InvalidInput(
                f"{name}: has {len(self.cases)} cases, {federation.cases[name]} told"
            )
        self.scheme = _network(dataset, plan, self.cases, federation.seed)
        self.run = Run(
            SCHEME,
            federation.steps_of(name),
            federation.seed,
            batch_size(tile),
            tile,
            dataset.content_hash(),
            variant="federated",
        )

    @property
    def names(self) -> list[str]:
        """Of the weights, in the order in which they go over the wire."""
        return sorted(weights_of(self.scheme))

    def take(self, number: int, average: Weights) -> Weights:
        """Train from the average on for the steps of a round, counted from 1.

        A round that was broken off, or whose weights did not arrive, is taken anew.
        """
        _, last = self.federation.bounds(self.name, number)
        checkpoint, before = self.folder / "checkpoint.safetensors", self._kept(number - 1)
        if number > 1:
            _with_weights(before, average, checkpoint)
        set_weights(self.scheme, average)
        (stage,) = self.scheme.stages(self.cases, self.run, self.spacing)
        # So far it goes in this round; the learning rate follows all of them.
        cast(Examples, stage.examples).count = last * stage.batch
        fit(
            stage,
            self.run.seed,
            self.run.fingerprint(),
            checkpoint,
            number > 1,
            lambda *_: None,
            launch(),
        )
        checkpoint.rename(self._kept(number))
        self._kept(number - 2).unlink(missing_ok=True)
        return weights_of(self.scheme)

    def _kept(self, number: int) -> Path:
        return self.folder / f"round-{number}.safetensors"


def _with_weights(before: Path, average: Weights, after: Path) -> None:
    """A checkpoint as it was after the last round, but with the average's weights."""
    with safe_open(before, framework="pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    for name, array in average.items():
        tensors[MODEL + name] = torch.from_numpy(array)
    with written_whole(after) as temporary:
        save_file(tensors, temporary, metadata=metadata)
