"""What each augmentation of encoded pairs brings, views of a case, and what a site's decoder
sees: validation patients alone.

One image and one mask autoencoder are trained, then a mapping network for each row. Rows go to
results/encoding-ablations.json; those that are there are not measured again.
"""

import argparse
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from evidence.jobs import SEED
from evidence.places import default_places, source_state
from torch import Tensor

from veilseg.cli.progress import Report, progress
from veilseg.datasets.cases import prepare_case
from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import split_by_patient
from veilseg.networks.encodings import Maps
from veilseg.schemes.encoding.augmentation import SequenceAugmentation
from veilseg.schemes.encoding.mapping import MappingFit
from veilseg.schemes.encoding.pairs import EncodedExamples
from veilseg.schemes.encoding.training import EncodingTraining
from veilseg.schemes.trainable import encoding
from veilseg.training.loop import fit
from veilseg.training.plan import plan_and_prepare
from veilseg.training.processes import launch
from veilseg.training.recipe import Recipe
from veilseg.training.run import Run, batch_size
from veilseg.training.train import validation_dice

DATA, FILE = "hippocampus", "encoding-ablations"


@dataclass(frozen=True)
class Row:
    """One mapping network."""

    name: str
    augmentation: SequenceAugmentation = field(default_factory=SequenceAugmentation)
    views: int | None = None  # of each case; None: as many as are sent
    linear: bool = False
    site: str = ""  # what its decoder sees; empty: answers alone, by the one of encoded masks


ROWS = (
    Row("default"),
    Row("no block shift", SequenceAugmentation(shift=0)),
    Row("no jitter", SequenceAugmentation(jitter=0)),
    Row("pairs mixed", SequenceAugmentation(mixed=0.5)),
    Row("blocks cut", SequenceAugmentation(cut=0.5)),
    Row("tokens masked", SequenceAugmentation(masked=0.1)),
    Row("channels dropped", SequenceAugmentation(dropped=0.1)),
    Row("one view of a case", views=1),
    Row("linear map", linear=True),
    Row("image, features and answer", site="all"),
    Row("image and features, no answer", site="no answer"),
)


class Ablated(EncodingTraining):
    """The scheme as a row has it."""

    site = ""

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        if self.site:
            return super().predict(batch)
        answer, _ = self.answered(batch["image"])
        return torch.softmax(self.mask_decoder(answer).float(), dim=1)

    def answered(self, image: Tensor) -> tuple[Maps, Maps]:
        answer, features = super().answered(image)
        if self.site == "no answer":
            answer = [torch.zeros_like(one) for one in answer]
        return answer, features


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=4000, help="of the whole scheme")
    steps, places = parser.parse_args().steps, default_places()
    known = places.load(FILE) or {"rows": []}
    measured = {row["name"]: row for row in known["rows"]}
    folder = places.data / DATA
    dataset = read_dataset(folder)
    split = split_by_patient(dataset)
    with progress("preparing") as show:
        plan, cases = plan_and_prepare(dataset, split.train, partial(show, note=""))
    held = [
        prepare_case(case, len(dataset.labels), plan.spacing_mm, plan.intensity, plan.tile_shape)
        for case in split.validation
    ]
    common = {"data_sha256": dataset.content_hash(), "steps": steps, "seed": SEED}
    if any(known.get(name) != value for name, value in common.items()):
        measured = {}
    fabric = launch()
    torch.manual_seed(SEED)
    scheme = encoding(dataset, plan, cases, SEED, Recipe())
    assert isinstance(scheme, EncodingTraining)
    scheme.__class__ = Ablated
    assert isinstance(scheme, Ablated)
    run = Run("encoding", steps, SEED, batch_size(plan.tile_shape), plan.tile_shape, "")
    with progress("encoding") as show:
        stages = scheme.stages(cases, run, plan.spacing_mm, partial(show, note="pairs"))
        first = next(stages)
        fit(first, SEED, "", None, False, lambda n, _: show(n, first.steps, "autoencoders"), fabric)
        second = next(stages)
    third = next(stages)
    assert isinstance(second.examples, EncodedExamples)
    decoder = {name: one.clone() for name, one in scheme.site_decoder.state_dict().items()}
    pairs = second.examples.pairs
    for row in ROWS:
        if row.name not in measured:
            mapping = MappingFit(
                *(scheme.image, scheme.mask, second.steps, SEED, second.learning_rate),
                *(row.augmentation, row.linear),
            )
            scheme.mapping = mapping.mapping()
            stage = mapping.stage(
                scheme.mapping, pairs[: None if row.views is None else row.views * len(cases)]
            )
            with progress(row.name) as show:
                of = partial(_show, show, stage.steps)
                fit(stage, SEED, "", None, False, of, fabric)
            scheme.site = row.site
            if row.site:
                with progress(row.name) as show:
                    of = partial(_show, show, third.steps)
                    fit(third, SEED, "", None, False, of, fabric)
            dice = validation_dice(scheme.eval(), held, plan, lambda *_: None)
            measured[row.name] = {
                **asdict(row),
                "validation_dice": round(dice, 4),
                "commit": source_state(),
            }
            print(f"{row.name}: {dice:.4f}", flush=True)
            scheme.site_decoder.load_state_dict(decoder)
        rows = [measured[one.name] for one in ROWS if one.name in measured]
        places.store(FILE, {"dataset": DATA, "n_validation": len(held), **common, "rows": rows})


def _show(show: Report, steps: int, done: int, loss: float) -> None:
    show(done, steps, f"loss {loss:.3f}")


if __name__ == "__main__":
    main()
