"""A15 on encodings: whose is it, asked by somebody who has the encoder."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from veilseg.audit.attacks.inversion import encoder_of, inverter
from veilseg.audit.attacks.layout import nearness
from veilseg.audit.attacks.reidentification import (
    CONTROL_RANK_1,
    correlated,
    correlations,
    mean_average_precision,
    null_of_hits,
    rank_1,
    second_acquisitions,
)
from veilseg.audit.chance import rate
from veilseg.audit.findings import Control, Finding, NotRun, Threat, rounded
from veilseg.audit.grids import fitted
from veilseg.audit.laws import NobodyLaw
from veilseg.audit.scene import Observation
from veilseg.audit.workshop import Workshop

Comparison = Callable[[Sequence[Observation]], NDArray[np.float64]]

FINDING = Finding(
    *("A15e", "Re-identification of encodings", "identity"),
    Threat(gallery=1, colluding_site=True),
    "rank-1",
)


def attack(workshop: Workshop) -> list[Finding]:
    """Rank-1 of the strongest of three comparisons with a gallery of raw images.

    Of encodings, after encoding the gallery; of answers, after asking the network as well; of
    images, after inverting what was sent (A10).
    """
    scene = workshop.scene
    if not scene.encodes:
        raise NotRun("nothing is encoded")
    cases, gallery, source = second_acquisitions(workshop)
    seen = scene.observe(cases)
    nobody = scene.simulate(NobodyLaw(scene.law(), scene.auxiliary), cases, answered=True)
    encode, network = encoder_of(scene), inverter(workshop)
    entries = [encode(image) for image in gallery]
    answers = [scene.server(entry) for entry in entries]
    compared: dict[str, Comparison] = {
        "encodings": lambda some: nearness([one.proxy for one in some], entries),
        "answers": lambda some: nearness([one.answer for one in some], answers),
        "images after A10": lambda some: correlations(
            [network.inverted(one.proxy) for one in some], gallery
        ),
    }
    found = {name: how(seen) for name, how in compared.items()}
    hits = {name: rank_1(scores) for name, scores in found.items()}
    best = max(hits, key=lambda name: float(np.mean(hits[name])))
    tile = scene.manifest.tile_shape
    raw = correlated([fitted(case, tile).image for case in cases], gallery)
    known = max(float(rank_1(scores).mean()) for scores in raw.values())
    details = {
        "strongest": best,
        "rank_1": {name: rounded(float(values.mean())) for name, values in hits.items()},
        "map_at_5": rounded(mean_average_precision(found[best], 5)),
    }
    finding = replace(FINDING, threat=replace(FINDING.threat, gallery=len(gallery)))
    return [
        finding.measured(
            rate(hits[best].tolist(), [case.patient for case in cases]),
            {"chance": 1 / len(gallery)},
            Control("raw image against raw image", known, low=CONTROL_RANK_1),
            null_of_hits(rank_1(compared[best](nobody)), len(gallery)),
            details,
            f"gallery: {source}",
        )
    ]
