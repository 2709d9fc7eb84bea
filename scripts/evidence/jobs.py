"""What is trained and evaluated: one readable table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

SEED = 0
FOLDS = 5
# The mixing coefficients of the curve, and the range that its two networks are trained for.
COEFFICIENTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CURVE_RANGE = (0.2, 0.9)
MOST_MIXTURES = 8

NON_COMMERCIAL = "CC BY-NC-SA 4.0, non-commercial"


@dataclass(frozen=True)
class Data:
    """A data set, and what all its trainings have in common.

    Attributes
    ----------
    name : str
        Beginning of the names of its trainings and results.
    folder : str
        Under ``VEILSEG_DATA``.
    title : str
        In tables.
    steps : int
        Of every scheme, all of them together.
    licence : str
        Of weights trained on it.
    fold : str
        As 2/5; empty for the default split.
    raw_steps : int
        So many of them are on raw images, as one network, which is ``plain``; what the rest would
        bring it is measured by ``longer``. 0: every scheme begins with nothing.
    """

    name: str
    folder: str
    title: str
    steps: int
    licence: str
    fold: str = ""
    raw_steps: int = 0


HIPPOCAMPUS = Data(
    *("hippocampus", "hippocampus", "Hippocampus", 4000),
    "CC BY-SA 4.0 (trained on Task04 of the Medical Segmentation Decathlon, CC BY-SA 4.0)",
)
# The first of all folds: people are tested once each, and what is shipped is one of their networks.
# The 2D sets' tables are sorted by disease, site or kind of image: the default split would test one
# kind only.
DEALT = f"1/{FOLDS}"
BRAIN = Data(
    *("brain-tissue", "brain_t1_oasis_3d", "Brain tissue", 4000),
    f"{NON_COMMERCIAL} (trained on OASIS-1 with Neuromorphometrics labels, CC BY-NC)",
    *(DEALT, 1600),
)
CARDIAC = Data(
    *("cardiac", "cardiac_acdc_2d", "Heart, cine MR (2D)", 13_500),
    f"{NON_COMMERCIAL} (trained on ACDC, CC BY-NC-SA 4.0)",
    *(DEALT, 4500),
)
RETINA = Data(
    *("retina", "retina_vessels", "Retinal vessels (2D)", 13_500),
    "CC BY 4.0 (trained on DRIVE and CHASE_DB1, CC BY 4.0)",
    *(DEALT, 4500),
)
BREAST = Data(
    *("breast", "breast_us_busi", "Breast lesion, ultrasound (2D)", 13_500),
    "CC BY 4.0 (trained on BUSI, CC BY 4.0)",
    *(DEALT, 4500),
)
NUCLEI = Data(
    *("nuclei", "nuclei_dsb2018", "Nuclei, microscopy (2D RGB)", 13_500),
    "CC0 (trained on BBBC038, CC0)",
    *(DEALT, 4500),
)
PICTURES = (CARDIAC, RETINA, BREAST, NUCLEI)


@dataclass(frozen=True)
class Training:
    """One run of ``veilseg train``.

    Attributes
    ----------
    name : str
        Of the bundle, and of its folder.
    steps : int
    unmixing : str
        ``algebraic`` for the baseline trained for itself.
    coefficients : (low, high)
        Where the mixing coefficient is drawn from.
    fold : str
        As 2/5; empty for the default split.
    ship : bool
        Whether the bundle goes to ``models/``.
    control : str
        ``linear`` or ``local``, of Privacy-SF.
    keyed : bool
        With a consortium key.
    init : Training or None
        What it goes on from; None: it begins with nothing.
    """

    name: str
    data: Data
    scheme: str
    steps: int
    seed: int = SEED
    unmixing: str = "learned"
    coefficients: tuple[float, float] = (0.45, 0.55)
    fold: str = ""
    ship: bool = False
    control: str = ""
    keyed: bool = False
    init: "Training | None" = None

    def options(self) -> list[str]:
        """Of the command line."""
        options = ["--scheme", self.scheme, "--steps", str(self.steps), "--seed", str(self.seed)]
        if self.scheme == "mixup":
            low, high = self.coefficients
            options += ["--unmixing", self.unmixing, "--coefficients", f"{low:g}:{high:g}"]
        if self.fold:
            options += ["--fold", self.fold]
        if self.control:
            options += ["--control", self.control]
        return [*options, "--licence", self.data.licence]


@dataclass(frozen=True)
class Evaluation:
    """One run of ``veilseg evaluate --split test``.

    Attributes
    ----------
    name : str
    training : str
        Name of the training whose bundle is evaluated.
    coefficient : float or None
        None for the bundle's own.
    mixtures : int
        Averaged of each image.
    """

    name: str
    training: str
    coefficient: float | None = None
    mixtures: int = 1

    def options(self) -> list[str]:
        """Of the command line."""
        options = ["--split", "test"]
        if self.coefficient is not None:
            options += ["--coefficient", f"{self.coefficient:g}"]
        if self.mixtures > 1:
            options += ["--mixtures", str(self.mixtures)]
        return options


def triple(data: Data, fold: int | None = None, ship: bool = False) -> tuple[Training, ...]:
    """Plain, mixup, and the algebraic baseline, with the same seed."""
    stem = data.name if fold is None else fold_stem(data, fold)
    part = data.fold if fold is None else f"{fold}/{FOLDS}"
    plain = Training(
        f"{stem}-plain", data, "plain", data.raw_steps or data.steps, fold=part, ship=ship
    )
    mixup = going_on(plain, f"{stem}-mixup", scheme="mixup", ship=ship)
    return plain, mixup, going_on(plain, f"{stem}-algebraic", scheme="mixup", unmixing="algebraic")


def longer(data: Data) -> Training:
    """Plain for as many steps as the private schemes have: what more of them bring."""
    plain, *_ = triple(data)
    return going_on(plain, f"{data.name}-longer")


def going_on(plain: Training, name: str, **changed: Any) -> Training:
    """Another training of the same data, from that network on where there are steps left."""
    rest = plain.data.steps - plain.data.raw_steps
    init = plain if plain.data.raw_steps else None
    return replace(plain, **{"ship": False, **changed}, name=name, steps=rest, init=init)


def fold_stem(data: Data, fold: int) -> str:
    """Of the names of a fold's trainings; the data set's own fold goes without saying."""
    return data.name if f"{fold}/{FOLDS}" == data.fold else f"{data.name}-fold{fold}"


def encoded(data: Data, ship: bool = False) -> Training:
    """Privacy-SF, with the steps of the others."""
    fields = f"{data.name}-encoding", data, "encoding", data.steps
    return Training(*fields, fold=data.fold, ship=ship)


def keyed_name(keyed: bool, seed: int) -> str:
    """Of a training of Privacy-SF with or without a key; seed 0 without one is what is shipped."""
    name = f"{HIPPOCAMPUS.name}-{'keyed' if keyed else 'encoding'}"
    return f"{name}-seed{seed}" if seed else name


def curve_name(unmixing: str, coefficient: float | None = None) -> str:
    """Of a training of the curve, or of its evaluation at a mixing coefficient."""
    name = f"{HIPPOCAMPUS.name}-curve-{unmixing}"
    return name if coefficient is None else f"{name}-{coefficient:g}"


def mixtures_name(mixtures: int) -> str:
    """Of the evaluation that averages so many mixtures; one is what a user gets by default."""
    name = f"{HIPPOCAMPUS.name}-mixup"
    return name if mixtures == 1 else f"{name}-x{mixtures}"


# Controls of Privacy-SF, and the seeds for which keyed and unkeyed are compared.
LINEAR, LOCAL = f"{HIPPOCAMPUS.name}-linear", f"{HIPPOCAMPUS.name}-local"
KEY_SEEDS = (0, 1, 2)

# In the order in which they are run: what is shipped first.
TRAININGS: tuple[Training, ...] = (
    *triple(HIPPOCAMPUS, ship=True),
    *triple(BRAIN, ship=True),
    *(training for data in PICTURES for training in triple(data)[:2]),
    *(training for fold in range(2, FOLDS + 1) for training in triple(BRAIN, fold)[:2]),
    *(
        Training(
            curve_name(unmixing),
            HIPPOCAMPUS,
            "mixup",
            HIPPOCAMPUS.steps,
            unmixing=unmixing,
            coefficients=CURVE_RANGE,
        )
        for unmixing in ("learned", "algebraic")
    ),
    *(longer(data) for data in (BRAIN, *PICTURES)),
    encoded(HIPPOCAMPUS, ship=True),
    encoded(BRAIN, ship=True),
    encoded(CARDIAC),
    Training(LINEAR, HIPPOCAMPUS, "encoding", HIPPOCAMPUS.steps, control="linear"),
    Training(LOCAL, HIPPOCAMPUS, "plain", HIPPOCAMPUS.steps, control="local"),
    *(
        Training(
            *(keyed_name(keyed, seed), HIPPOCAMPUS, "encoding", HIPPOCAMPUS.steps, seed),
            keyed=keyed,
        )
        for seed in KEY_SEEDS
        for keyed in (False, True)
        if keyed or seed
    ),
)

EVALUATIONS: tuple[Evaluation, ...] = (
    *(Evaluation(job.name, job.name) for job in TRAININGS if job.coefficients != CURVE_RANGE),
    *(
        Evaluation(mixtures_name(count), mixtures_name(1), mixtures=count)
        for count in range(2, MOST_MIXTURES + 1)
    ),
    *(
        Evaluation(curve_name(unmixing, a), curve_name(unmixing), coefficient=a)
        for unmixing in ("learned", "algebraic")
        for a in COEFFICIENTS
    ),
)

# Evaluations that become a file of results as they are. Those of shipped bundles do when the
# bundles are shipped, so that bundle and figures never differ.
SHIPPED = tuple(job.name for job in TRAININGS if job.ship)
# Whose calibration is shown.
PLAIN_AND_MIXED = tuple(job.name for job in TRAININGS if job.ship and job.scheme != "encoding")
PUBLISHED = tuple(
    job.name
    for job in TRAININGS
    if not job.ship and job.fold == job.data.fold and job.coefficients != CURVE_RANGE
)


def shipped_together(trainings: Sequence[Training]) -> list[tuple[str, ...]]:
    """Bundles that are compared with each other in figures: all of them are shipped or none."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for job in trainings:
        if job.ship:
            groups.setdefault((job.data.name, job.scheme == "encoding"), []).append(job.name)
    return [tuple(names) for names in groups.values()]
