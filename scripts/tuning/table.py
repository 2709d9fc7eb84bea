"""What was tried: one readable table.

To add an experiment, add a line to ``TABLE`` and, for a variant that the package does not have, to
``networks.py``.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Experiment:
    """One training; the defaults are those of the first.

    Attributes
    ----------
    name : str
    against : str
        The experiment it is compared with; empty for none.
    scheme, data : str
    segmenter, unmixer : str
        Of networks.py.
    optimizer : str
        ``adam`` or ``muon``.
    learning_rate : float
        At the end of the warm-up.
    steps, batch : int
    unmixing_weight : float
        λ.
    symmetric : bool
        Whether the unmixer is trained to recover the reference's labels as well.
    label_smoothing : float
        Share of every target that is spread over all classes.
    deep_supervision : bool
        Whether the segmenter's coarser levels are to give the mixture of maps, too.
    curriculum : bool
        Whether training begins with a large a.
    labelled_share, coefficients
        As in the package's Recipe, for training; validation has synthetic references at a = ½.
    references : int
        Synthetic ones whose mean an image is mixed with, in training and validation.
    augmentation : str
        ``full`` as in the package, ``light`` without smoothing and noise.
    cropped_share : float
        As in the package's Recipe; it matters where tiles are large.
    """

    name: str
    against: str = ""
    scheme: str = "mixup"
    data: str = "hippocampus"
    segmenter: str = "full-16"
    unmixer: str = "16-32-64"
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    steps: int = 480
    batch: int = 6
    unmixing_weight: float = 4.0
    symmetric: bool = False
    label_smoothing: float = 0.0
    deep_supervision: bool = False
    curriculum: bool = False
    labelled_share: float = 0.5
    coefficients: tuple[float, float] = (0.4, 0.6)
    references: int = 1
    augmentation: str = "full"
    cropped_share: float = 0.0


A_HALF, A_WIDE, A_PACKAGE = (0.5, 0.5), (0.4, 0.6), (0.45, 0.55)
SYNTHETIC = {"labelled_share": 0.0, "coefficients": A_HALF, "augmentation": "light"}
PACKAGE = {
    **{"segmenter": "fine-48", "unmixer": "pooled-12-24-48"},
    **{"labelled_share": 0.1, "coefficients": A_PACKAGE, "augmentation": "full"},
}
BRAIN = {
    **PACKAGE,
    **{"data": "brain_t1_oasis_3d", "optimizer": "muon", "learning_rate": 8e-3, "batch": 1},
}
ONE_RAW = {"scheme": "plain", "segmenter": "fine-48", "optimizer": "muon", "learning_rate": 4e-3}

RAW_BRAIN = {"data": "brain_t1_oasis_3d", "learning_rate": 8e-3, "steps": 300, "batch": 1}
VESSELS = {"data": "retina_vessels", "learning_rate": 8e-3, "steps": 400, "batch": 3}
HEARTS = {
    **PACKAGE,
    **{"data": "cardiac_acdc_2d", "optimizer": "muon", "learning_rate": 8e-3},
    **{"steps": 1000, "batch": 3},
}

# Group, which is a table of docs/experiments.md: name: (compared with, what is changed).
TABLE: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "resolution": {
        "full-16": ("", {}),
        "raw-48": ("full-16", {"segmenter": "raw-48"}),
        "raw-32": ("full-16", {"segmenter": "raw-32", "steps": 800}),
    },
    "batch": {
        "batch-2": ("raw-32", {"batch": 2, "steps": 1440, "learning_rate": 1e-3}),
    },
    "examples": {
        "synthetic": ("batch-2", SYNTHETIC),
    },
    "optimizer": {
        "muon": ("synthetic", {"optimizer": "muon", "learning_rate": 2e-3}),
        "muon-720": ("muon", {"steps": 720}),
    },
    "rate": {
        "rate-4": ("muon-720", {"learning_rate": 4e-3}),
        "rate-8": ("rate-4", {"learning_rate": 8e-3, "segmenter": "fine-32"}),
        "rate-16": ("rate-8", {"learning_rate": 1.6e-2}),
    },
    "width": {
        "fine-48": ("muon-720", {"segmenter": "fine-48"}),
    },
    "labelled": {
        "quarter-labelled": ("rate-8", {"labelled_share": 0.25, "coefficients": A_WIDE}),
    },
    "plain": {
        "plain": ("", {**ONE_RAW, "steps": 720, "batch": 2}),
    },
    "unmixing": {
        "algebra": ("rate-8", {"unmixer": "none"}),
        "pooled": ("rate-8", {"unmixer": "pooled-12-24-48"}),
        "coarse": ("rate-8", {"unmixer": "coarse-16-32-48"}),
        "quarter": ("rate-8", {"unmixer": "quarter-24"}),
        "quarter-wide": ("rate-8", {"unmixer": "quarter-48"}),
        "coarse-quarter": ("rate-8", {"unmixer": "coarse-quarter-24"}),
        "coarse-light": ("rate-8", {"unmixer": "coarse-half-12"}),
    },
    "weight": {
        "weight-20": ("pooled", {"unmixing_weight": 20.0}),
    },
    "vessels": {
        "vessels-half": ("", {**ONE_RAW, **VESSELS, "segmenter": "fine-48"}),
        "vessels-full": ("vessels-half", {"segmenter": "full-32"}),
    },
    "parts": {
        "brain-whole": ("", {**BRAIN, "steps": 200}),
        "brain-parts": ("brain-whole", {"steps": 400, "cropped_share": 0.75}),
        "brain-rate-16": ("brain-parts", {"learning_rate": 1.6e-2}),
        "brain-long": ("brain-parts", {"steps": 1600, "cropped_share": 0.9}),
        "brain-raw": ("", {**ONE_RAW, **RAW_BRAIN}),
    },
    "package": {
        "package": ("pooled", PACKAGE),
        "symmetric": ("package", {"symmetric": True}),
        "log-answer": ("package", {"unmixer": "pooled-log"}),
        "smoothing": ("package", {"label_smoothing": 0.05}),
        "deep": ("package", {"deep_supervision": True}),
        "curriculum": ("package", {"curriculum": True}),
    },
    "pictures": {
        "hearts": ("", HEARTS),
        "hearts-batch": ("hearts", {"steps": 500, "batch": 6}),
        "hearts-single": ("hearts", {"steps": 3000, "batch": 1}),
        "hearts-wide": ("hearts-single", {"segmenter": "fine-64"}),
        "hearts-deep": ("hearts-single", {"segmenter": "fine-48-deep"}),
        "hearts-deeper": ("hearts-deep", {"segmenter": "fine-48-deeper"}),
        "vessels-mixed": ("hearts-single", {"data": "retina_vessels", "steps": 1500}),
        "vessels-deep": ("vessels-mixed", {"segmenter": "fine-48-deep"}),
    },
    "one": {
        "package-again": ("package", {}),
        "law-half": ("package-again", {"coefficients": A_HALF}),
        "law-wide": ("package-again", {"coefficients": (0.3, 0.7)}),
        "labelled-none": ("package-again", {"labelled_share": 0.0}),
        "labelled-half": ("package-again", {"labelled_share": 0.5}),
        "weight-1": ("package-again", {"unmixing_weight": 1.0}),
        "weight-16": ("package-again", {"unmixing_weight": 16.0}),
        "blind": ("package-again", {"unmixer": "pooled-blind"}),
        "slower": ("package-again", {"learning_rate": 4e-3}),
        "references-2": ("labelled-none", {"references": 2}),
        "references-4": ("labelled-none", {"references": 4}),
    },
}
# What is tried of the loss, in losses.py.
TRIED = ("symmetric", "label_smoothing", "deep_supervision", "curriculum")
# Settings that only mean something where there is a mixture.
OF_MIXTURES = (
    *("unmixer", "unmixing_weight", "labelled_share", "coefficients", "references"),
    *TRIED,
)


def experiments() -> dict[str, Experiment]:
    """All of the table by name."""
    found: dict[str, Experiment] = {}
    for group in TABLE.values():
        for name, (against, changes) in group.items():
            base = found[against] if against else Experiment(name)
            found[name] = replace(base, name=name, against=against, **changes)
    return found


def settings(experiment: Experiment) -> dict[str, Any]:
    """What an experiment is defined by, as JSON has it; ``plain`` has nothing to unmix."""
    fields = json.loads(json.dumps(asdict(experiment)))
    unused = OF_MIXTURES if experiment.scheme == "plain" else ()
    return {name: value for name, value in fields.items() if name not in unused}


def changed(experiment: Experiment, than: Experiment) -> dict[str, list[Any]]:
    """Every setting that differs, whether meant or not: [before, after]."""
    before, after = settings(than), settings(experiment)
    return {
        name: [before.get(name), value]
        for name, value in after.items()
        if name not in ("name", "against") and before.get(name) != value
    }
