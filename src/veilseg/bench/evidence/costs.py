"""What a cell costs: seconds, bytes and multiply-adds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from veilseg.bench.evidence.cells import TIMED_IMAGES, Cell, digest
from veilseg.bench.evidence.children import Note, prefixed, written
from veilseg.bench.evidence.trained import Places, bundle_of, content_hash
from veilseg.bench.operations import multiply_adds_of_bundle
from veilseg.bench.rounds import ratio
from veilseg.bundle import open_client_half
from veilseg.datasets.layout import read_dataset

Document = dict[str, Any]


def cost_of(cell: Cell, places: Places, note: Note) -> Document:
    """Time a cell's bundle beside the network for raw images, and count its operations.

    Raises
    ------
    VeilsegError
        Of the command that failed.
    """
    source = places.data / cell.data.folder
    bundle = bundle_of(cell.run, places, prefixed("training", note))
    beside: list[Path] = []
    if cell.beside is not None:
        beside = [bundle_of(cell.beside, places, prefixed("training what it is beside", note))]
    folder = places.cell_folder(cell.name, digest(cell.defined(content_hash(source))))
    bundle_id = open_client_half(bundle).manifest.bundle_id
    images = str(max(1, min(TIMED_IMAGES, len(read_dataset(source).cases) - 1)))
    command: list[str | Path] = ["bench", "site", *beside, bundle, "--dataset", source]
    command += ["--budget-images", images, *places.key_options(cell.run)]
    timed = written(folder / "timing.json", bundle_id, *command, note=prefixed("timing", note))
    return cost(timed, bundle_id) | {"multiply_adds": multiply_adds_of_bundle(bundle)}


def cost(timed: Mapping[str, Any], bundle_id: str) -> Document:
    """Seconds and bytes of one image, and how plain did by turns in the same run."""
    arms = {one["bundle_id"] == bundle_id: one for one in timed["bundles"].values()}
    own, plain = arms[True], arms.get(False)
    return {
        "seconds": _seconds(own),
        "plain_seconds": None if plain is None else _seconds(plain),
        "ratio": None if plain is None else _ratio(plain["total_ms"], own["total_ms"]),
        "bytes": {name: own["mean_image"][name] for name in ("sent", "received")},
        "tiles": own["mean_image"]["tiles"],
        "n_images": timed["n_images"],
        "machine": timed["machine"],
    }


def _seconds(arm: Mapping[str, Any]) -> dict[str, float]:
    """The site waits while the server works: what is left of the whole is its own time."""
    each = {name: value / 1000 for name, value in arm["milliseconds"].items()}
    server, total = each["wait"], each["total"]
    parts = {"site": total - server, "server": server, "total": total}
    return {name: round(seconds, 4) for name, seconds in parts.items()}


def _ratio(plain: list[float], own: list[float]) -> Document:
    found = ratio(plain, own)
    return {name: found[name] for name in ("median", "interval")}
