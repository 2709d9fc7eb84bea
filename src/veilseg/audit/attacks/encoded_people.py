"""A15 on encodings: whose is it, asked by somebody who has the encoder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from veilseg.audit.attacks.inversion import encoder_of, inverter
from veilseg.audit.attacks.layout import nearness, with_little_noise
from veilseg.audit.attacks.matching import fitted_siamese
from veilseg.audit.attacks.reidentification import (
    CONTROL_RANK_1,
    Siamese,
    correlated,
    correlations,
    embedded,
)
from veilseg.audit.chance import rate
from veilseg.audit.encodings import layout_of
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.grids import fitted
from veilseg.audit.laws import NobodyLaw
from veilseg.audit.scene import Observation
from veilseg.audit.second_scans import second_acquisitions, second_scan, with_other_noise
from veilseg.audit.workshop import Workshop
from veilseg.datasets.cases import PreparedCase
from veilseg.payload import Float32Array
from veilseg.scheme import ClientHalf
from veilseg.schemes.encoding.sequence import Layout
from veilseg.training.examples import Arrays

FINDING = Finding(
    *("A15e", "Re-identification of encodings", "identity"),
    Threat(gallery=1, colluding_site=True),
    "rank-1",
)


@dataclass(frozen=True)
class EncodedAgain:
    """An encoding's finest grid, and the same person's image acquired another time."""

    half: ClientHalf
    layout: Layout

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        sequence = self.half.protect(case.image, "")[0].array[0]
        again = with_other_noise(second_scan(case, rng), rng)
        return {"proxy": self.layout.grids(sequence)[0], "gallery": again}


def attack(workshop: Workshop) -> list[Finding]:
    """Rank-1 of the strongest of several comparisons with a gallery of raw images.

    Of encodings, after encoding the gallery; of answers, after asking the network as well; of
    images, after inverting what was sent (A10); and by networks that are taught to tell people.
    """
    scene = workshop.scene
    if not scene.encodes:
        raise DoesNotApply("nothing is encoded")
    cases, gallery, source = second_acquisitions(workshop)
    seen = scene.observe(cases)
    nobody = scene.simulate(NobodyLaw(scene.law(), scene.auxiliary), cases, answered=True)
    encode, network = encoder_of(scene), inverter(workshop)
    layout = layout_of(scene, "image")

    def siamese() -> Siamese:
        law, steps = EncodedAgain(scene.client(), layout), max(1, workshop.effort.steps // 2)
        maps = layout.levels[0].channels
        return fitted_siamese(workshop, "siamese-of-encodings", maps, law, steps)

    def compared(
        some: Sequence[Observation], images: Sequence[Float32Array]
    ) -> dict[str, NDArray[np.float64]]:
        entries = [encode(image) for image in images]
        found = {
            "encodings": nearness([one.proxy for one in some], entries),
            "answers": nearness(
                [one.answer for one in some], [scene.server(entry) for entry in entries]
            ),
            "images after A10": correlations([network.inverted(one.proxy) for one in some], images),
        }
        if workshop.effort.thorough:
            shown = [layout.grids(one.proxy)[0] for one in some]
            found["Siamese network"] = embedded(siamese(), shown, images)
        return found

    found = compared(seen, gallery.images)
    hits = {name: gallery.hits(scores) for name, scores in found.items()}
    best = max(hits, key=lambda name: float(np.mean(hits[name])))
    tile = scene.manifest.tile_shape
    own = [fitted(case, tile).image for case in cases]
    again = compared(seen, with_little_noise(own, scene.seed))[best]
    raw = correlated(own, gallery.images)
    details = {
        "strongest": best,
        "rank_1": {name: rounded(float(values.mean())) for name, values in hits.items()},
        "raw_rank_1": rounded(max(float(gallery.hits(scores).mean()) for scores in raw.values())),
        "map_at_5": rounded(gallery.mean_average_precision(found[best], 5)),
    }
    finding = replace(FINDING, threat=replace(FINDING.threat, gallery=len(gallery)))
    return [
        finding.measured(
            rate(hits[best].tolist(), [case.patient for case in cases]),
            {"chance": gallery.chance},
            Control(
                "the same images with a little noise",
                float(gallery.hits(again).mean()),
                CONTROL_RANK_1,
            ),
            gallery.null(gallery.hits(compared(nobody, gallery.images)[best])),
            details,
            f"gallery: {source}",
        )
    ]
