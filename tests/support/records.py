"""What a training leaves of itself before its first step, without any training."""

import json
from dataclasses import asdict
from pathlib import Path

from veilseg.bundle import open_client_half
from veilseg.datasets.layout import read_dataset
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.training.recipe import Recipe


def leave_run(out: Path, words: list[str], data: Path) -> dict[str, object]:
    """The record that ``veilseg train`` writes before its first step."""
    recipe = asdict(Recipe())
    if "--unmixing" in words:
        low, high = words[words.index("--coefficients") + 1].split(":")
        recipe["coefficient_range"] = [float(low), float(high)]
        recipe["unmixing"] = words[words.index("--unmixing") + 1]
    fold = words[words.index("--fold") + 1] if "--fold" in words else ""
    record = {
        "scheme": words[words.index("--scheme") + 1],
        "steps": int(words[words.index("--steps") + 1]),
        "seed": int(words[words.index("--seed") + 1]),
        "data_sha256": read_dataset(data).content_hash(),
        "recipe": recipe,
        "init": start_of(words),
        "fold": fold,
        "batch": 2,
        "tile_shape": [16, 16, 16],
    }
    if "--key" in words:
        key = ConsortiumKey.read(Path(words[words.index("--key") + 1]))
        record["variant"] = f"key {key.fingerprint()}"
    (out / "weights").mkdir(parents=True, exist_ok=True)
    (out / "weights" / "run.json").write_text(json.dumps(record))
    return record


def start_of(words: list[str]) -> str:
    """Id of the bundle that a training is told to go on from."""
    if "--init" not in words:
        return ""
    return open_client_half(Path(words[words.index("--init") + 1])).manifest.bundle_id
