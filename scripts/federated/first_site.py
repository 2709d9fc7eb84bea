"""What the first site does for all: plan and weights to begin with, and the bundle at the end."""

import argparse
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

from federated.federation import (
    Federation,
    read_average,
    rounds_done,
    write_average,
)
from federated.site import Site, begun, plan_of, set_weights, weights_of
from veilseg.datasets.layout import read_dataset
from veilseg.datasets.split import split_by_patient
from veilseg.errors import WrongUsage
from veilseg.training.write import write_bundle


def begin(folder: Path, told: dict[str, object]) -> None:
    """Write the federation, whose plan is that of the first site, and the average before any round.

    Parameters
    ----------
    folder : Path
    told : dict
        Fields of the federation without its plan.
    """
    first = next(iter(told["data"].values()))
    plan, network = begun(read_dataset(Path(first)), told["seed"])
    federation = Federation(**told, plan=asdict(plan))
    folder.mkdir(parents=True, exist_ok=True)
    write_average(folder, 0, weights_of(network))
    # Last: by it a beginning is known to be whole.
    federation.write(folder)


def finish(folder: Path, out: Path, licence: str) -> str:
    """Write the last average as a bundle; returns its id.

    Raises
    ------
    WrongUsage
        If rounds are left.
    """
    federation = Federation.read(folder)
    done = len(rounds_done(folder))
    if done < federation.rounds:
        raise WrongUsage(f"{folder}: {done} of {federation.rounds} rounds are done")
    name = next(iter(federation.data))
    site = Site(federation, name, folder / "sites" / name)
    set_weights(site.scheme, read_average(folder, done))
    run = replace(
        site.run,
        steps=federation.steps,
        variant=f"averaged over {len(federation.data)} sites in {done} rounds",
    )
    dataset = read_dataset(Path(federation.data[name]))
    splits = [split_by_patient(read_dataset(Path(data))) for data in federation.data.values()]
    parts = ("train", "validation", "test")
    sizes = {part: sum(len(getattr(split, part)) for split in splits) for part in parts}
    out.mkdir(parents=True, exist_ok=True)
    # No site's validation says how good the average is for all.
    return write_bundle(
        out, dataset, site.scheme, plan_of(federation), run, None, licence, sizes, math.nan
    )


def main() -> None:
    """Begin or finish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("begin", "finish"))
    parser.add_argument("folder", type=Path, help="of the federation")
    parser.add_argument("--told", help="JSON: fields of the federation, to begin with")
    parser.add_argument("--out", type=Path, help="bundle, to finish with")
    parser.add_argument("--licence", default="")
    told = parser.parse_args()
    if told.what == "begin":
        begin(told.folder, json.loads(told.told))
    else:
        finish(told.folder, told.out, told.licence)


if __name__ == "__main__":
    main()
