"""Results of ``veilseg bench evidence`` that nobody measured, for tests of what is said of them."""

import numpy as np

from veilseg.bench.evidence.cells import Cell, digest, table
from veilseg.bench.evidence.leakage import leakage
from veilseg.bench.evidence.means import averaged
from veilseg.bench.evidence.measure import METRICS

COMMIT, DATA = "0" * 40, "1" * 64
# Of each scheme: Dice, and what is learned of image, mask, person and membership.
REACHED = {
    "plain": (0.90, 1.00, 0.95, 1.00, 0.55),
    "mixup": (0.89, 0.75, 0.80, 0.90, 0.52),
    "encoding": (0.88, 0.60, 0.65, 0.40, 0.50),
    "deformation": (0.87, 0.85, 0.90, 0.80, 0.60),
    "privacy_net": (0.85, 0.90, 0.95, 0.95, 0.60),
    "noise": (0.80, 0.70, 0.85, 0.60, 0.55),
}
NOTHING = {
    "image": ("SSIM", "mean image", 0.35),
    "mask": ("Dice", "population-mean mask", 0.5),
    "identity": ("rank-1", "chance", 0.05),
    "membership": ("AUC", "chance", 0.5),
}
NAMES = {"image": "A5", "mask": "A16", "identity": "A15", "membership": "A14"}


def finding(channel: str, value: float | None, status: str = "run", **fields: object) -> dict:
    """What an audit says of one attack."""
    metric, baseline, nothing = NOTHING[channel]
    passed = {"what": "easy", "value": 1.0, "low": 0.9, "high": None, "passed": True}
    ends = [None, None] if value is None else [value - 0.02, min(1.0, value + 0.02)]
    return {
        "attack": NAMES[channel],
        "title": "An attack",
        "setting": "",
        "occurs": "by default",
        "person": "patient",
        "status": status,
        "metric": metric,
        "direction": "higher leaks more",
        "value": value,
        "interval": ends,
        "n": 12,
        "n_patients": 6,
        "baseline": {baseline: nothing},
        "positive_control": passed,
        "null_control": passed,
        "controls_passed": status == "run",
        "threat": {"colluding_site": False},
        **fields,
    }


def audit(scheme: str) -> dict:
    """An audit's document: one attack on each channel, and A10 on encodings."""
    channels = {
        channel: [finding(channel, value)]
        for channel, value in zip(NOTHING, REACHED[scheme][1:], strict=True)
    }
    if scheme == "encoding":
        channels["image"].append(finding("image", REACHED[scheme][1], attack="A10"))
    return {"channels": channels}


def cell(of: Cell, dice: float | None = None, **fields: object) -> dict:
    """A measured cell: twelve images of six patients, each case a little otherwise."""
    rng = np.random.default_rng([of.seed, 7])
    level = REACHED[of.scheme][0] if dice is None else dice
    cases = [
        {"case": f"case{number}", "patient": f"person{number // 2}"}
        | {"dice": round(level + move, 4), "hd95": 3.0 - move, "nsd": round(level + move / 2, 4)}
        for number, move in enumerate(rng.normal(0, 0.01, 12))
    ]
    definition = of.defined(DATA)
    private = of.scheme != "plain"
    seconds = {"site": 0.012, "server": 0.03, "total": 0.042}
    return {
        "data": of.data.name,
        "scheme": of.scheme,
        "definition": definition,
        "digest": digest(definition),
        "commit": COMMIT,
        "bundle_id": f"id of {of.name}",
        "trained": {"steps": of.run.steps, "steps_before": of.steps - of.run.steps, "batch": 2}
        | {"examples": {"segmenter": 2 * of.steps}, "commit": COMMIT},
        "dataset": of.data.folder,
        "data_sha256": DATA,
        "seed": of.seed,
        "references": "synthetic",
        "unit": "mm",
        "surface_tolerance_mm": 1.0,
        "n_cases": 12,
        "n_patients": 6,
        "accuracy": {name: averaged(cases, name) for name in METRICS},
        "cases": cases,
        "effort": of.effort,
        "leakage": leakage(audit(of.scheme)),
        "cost": {
            "seconds": seconds,
            "plain_seconds": seconds if private else None,
            "ratio": {"median": 1.4, "interval": [1.3, 1.5]} if private else None,
            "bytes": {"sent": 131_072, "received": 393_216},
            "tiles": 1,
            "n_images": 10,
            "machine": {},
            "multiply_adds": {"server": 6_453_780_480, "site": 403_334_400 if private else 0},
        },
        **fields,
    }


def cells(**fields: object) -> list[dict]:
    """Every cell of the table."""
    return [cell(one, **fields) for one in table()]
