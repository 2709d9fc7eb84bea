"""How much accuracy is kept for how much leakage, over the coefficient and number of references.

One set of networks for all points, each told the point: the scheme's own, fitted to all of them,
and two attackers'. So figures are comparable with each other, and a little below what networks for
one point alone would reach, on either side.
"""

from collections.abc import Mapping
from dataclasses import asdict

from veilseg.audit.attacks.membership import CONTROL_AUC
from veilseg.audit.attacks.reidentification import CONTROL_RANK_1
from veilseg.audit.findings import RUN, rounded
from veilseg.audit.laws import MixtureLaw, NobodyLaw, SweptLaw
from veilseg.audit.run import Documents, remembered
from veilseg.audit.sweep import NOTHING, Point, Sweep
from veilseg.audit.workshop import Workshop
from veilseg.errors import VeilsegError, WrongUsage

COEFFICIENTS = (0.2, 0.35, 0.5, 0.65, 0.8)
COUNTS = (1, 2, 3, 4)
# What attackers have to reach on raw images, or their failing elsewhere says nothing; that of
# membership, on a network that knows people by heart. Of masks, by so much more than where there is
# no information.
OF_RAW = {"image": 0.9, "identity": CONTROL_RANK_1, "membership": CONTROL_AUC}
LEAST_GAIN = 0.1


def frontier(workshop: Workshop) -> Documents:
    """Every point as a document.

    Raises
    ------
    WrongUsage
        If the bundle mixes nothing.
    """
    scene = workshop.scene
    law = scene.law()
    if not isinstance(law, MixtureLaw):
        raise WrongUsage(
            f"--frontier: {scene.manifest.name} mixes nothing: there is nothing to sweep"
        )
    sweep = Sweep(workshop, law, COUNTS)
    settings = [(a, count) for count in COUNTS for a in COEFFICIENTS]
    points = []
    for number, (a, count) in enumerate(settings):
        points.append(sweep.point("mixture", SweptLaw(law, (a, a), (count,)), a, count))
        workshop.report(number + 1, len(settings) + 2, "frontier")
    raw = sweep.raw()
    half = SweptLaw(law, (0.5, 0.5), (1,))
    nothing = sweep.point(NOTHING, NobodyLaw(half, scene.auxiliary), 0, 1)
    untrusted = dict.fromkeys(_failed(raw, nothing, sweep.chance, sweep.remembered()))
    workshop.report(len(settings) + 2, len(settings) + 2, "frontier")
    return [
        {
            name: rounded(value) if isinstance(value, float) else value
            for name, value in asdict(point).items()
        }
        | untrusted
        for point in (*points, raw, nothing)
    ]


def swept(workshop: Workshop) -> tuple[Documents, str]:
    """The points, and a status as of an attack: a report is due whether they can be had or not."""
    try:
        return remembered(workshop, "frontier", lambda: frontier(workshop)), RUN
    except (VeilsegError, MemoryError) as error:
        return [], f"not run: {str(error) or 'it takes more memory than there is'}"


def _failed(
    raw: Point, nothing: Point, chance: Mapping[str, float], remembered: float
) -> list[str]:
    """Channels whose attackers miss what is open, or find what is not there."""
    reached = {"image": raw.image, "mask": raw.mask, "identity": raw.identity}
    reached["membership"] = remembered
    least = OF_RAW | {"mask": nothing.mask + LEAST_GAIN}
    return [
        channel
        for channel, value in reached.items()
        # Of what is not defined neither holds.
        if not (value >= least[channel] and getattr(nothing, channel) <= chance[channel])
    ]
