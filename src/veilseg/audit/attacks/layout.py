"""A12: what encodings show without any pair: who is who, and where things are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from veilseg.audit.attacks.reidentification import CONTROL_RANK_1
from veilseg.audit.chance import rate
from veilseg.audit.encodings import layout_of, own_tiles
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.grids import fitted, means_of_blocks
from veilseg.audit.laws import NobodyLaw
from veilseg.audit.nulls import null_control, proxies_of_nobody
from veilseg.audit.nulls import truths as truths_of_null
from veilseg.audit.scene import Observation, evenly
from veilseg.audit.second_scans import second_acquisitions
from veilseg.audit.similarity import ssim
from veilseg.audit.workshop import Workshop, mean_image
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.sequence import Layout

UNKNOWING = Threat(knows_networks=False)
LINKAGE = Finding("A12", "Linkage of encodings", "identity", UNKNOWING, "rank-1")
PICTURE = Finding("A12p", "First component as a picture", "image", UNKNOWING, "SSIM, best of two")
CONTROL_SSIM = 0.5
PROBED = 20
# What :func:`analysis` says beside the figure of the picture.
CORRELATION, EXPLAINED = "largest_correlation", "linear_probe_r2"
NOISE = 0.01


def linkage(workshop: Workshop) -> list[Finding]:
    """Rank-1 of the nearest encoding, among those of second scans from the same site.

    By values, and by how tokens lie to each other, which no key changes: that links the images of
    two sites with different keys just as well.
    """
    scene = workshop.scene
    if not scene.encodes:
        raise DoesNotApply("nothing is encoded")
    tile = scene.manifest.tile_shape
    cases, gallery, source = second_acquisitions(workshop)
    half = scene.client()
    entries = [half.protect(image, "")[0].array[0] for image in gallery.images]
    seen = scene.observe(cases, answered=False)
    layout = layout_of(scene, "image")

    def linked(
        some: Sequence[Observation], to: Sequence[Float32Array]
    ) -> dict[str, NDArray[np.float64]]:
        sequences = [one.proxy for one in some]
        return {
            "nearest encoding": nearness(sequences, to),
            "Gram matrices": nearness(*(_grams(one, layout) for one in (sequences, to))),
        }

    compared = linked(seen, entries)
    hits = {name: gallery.hits(scores) for name, scores in compared.items()}
    best = max(hits, key=lambda name: float(hits[name].mean()))
    patients = [case.patient for case in cases]
    images = with_little_noise([fitted(case, tile).image for case in cases], scene.seed)
    again = [half.protect(image, "")[0].array[0] for image in images]
    known = float(gallery.hits(linked(seen, again)[best]).mean())
    positive = Control("the same images with a little noise", known, low=CONTROL_RANK_1)
    nobody = scene.simulate(NobodyLaw(scene.law(), scene.auxiliary), cases, answered=False)
    missed = gallery.hits(linked(nobody, entries)[best])
    null = gallery.null(missed, "encodings of other people")
    details = {
        "strongest": best,
        "rank_1": {name: rounded(float(values.mean())) for name, values in hits.items()},
        "map_at_5": rounded(gallery.mean_average_precision(compared[best], 5)),
    }
    finding = replace(LINKAGE, threat=replace(UNKNOWING, subjects=len(cases)))
    chance, setting = {"chance": gallery.chance}, f"encodings of {source}"
    overall = rate(hits[best].tolist(), patients)
    return [finding.measured(overall, chance, positive, null, details, setting)]


def picture(workshop: Workshop) -> list[Finding]:
    """SSIM of the first principal component of the tokens, drawn on their grid.

    Its sign and scale are not known: both signs are scored, and grey values are spread as those of
    the mean image are.
    """
    scene = workshop.scene
    layout = layout_of(scene, "image")
    seen = workshop.observed()
    mean = mean_image(scene.auxiliary, scene.manifest.tile_shape)
    truths = [one.image for one in seen]
    found = drawn(seen, layout, mean)
    scores = [_better(one, truth) for one, truth in zip(found, truths, strict=True)]
    coarse = [_shown(on_grid(image, layout), mean)[0] for image in truths]
    value = np.mean([ssim(one, truth) for one, truth in zip(coarse, truths, strict=True)])
    positive = Control("the image itself on the same grid", float(value), low=CONTROL_SSIM)
    # The better of both signs here as well, for whoever it is compared with.
    nobody = drawn(proxies_of_nobody(workshop, scene.law()), layout, mean)
    people = [case.image for case in truths_of_null(workshop)]
    missed = np.array([[_better(signs, image) for image in people] for signs in nobody])
    null = null_control(workshop, missed)
    overall = bootstrap_mean(scores, [one.patient for one in seen])
    own = evenly(own_tiles(scene), PROBED)
    details = analysis(scene.simulate(scene.law(), own, answered=False), seen, layout)
    baseline = {"mean image": workshop.ssim_of_nobody()}
    return [PICTURE.measured(overall, baseline, positive, null, details)]


def analysis(
    known: Sequence[Observation], seen: Sequence[Observation], layout: Layout
) -> dict[str, float | None]:
    """How linear the tie between tokens and image is.

    Parameters
    ----------
    known : sequence of Observation
        Of the attacker's own images, to fit by.
    seen : sequence of Observation
        Of the audited, to try on.
    layout : Layout

    Returns
    -------
    dict of float
        The largest correlation of a token's value with the image there, and the share of the
        image's variance on the finest grid that a linear probe of the tokens explains.
    """
    (fit_by, fit_to), (try_on, truth) = (_tokens_and_image(some, layout) for some in (known, seen))
    weights, *_ = np.linalg.lstsq(_with_one(fit_by), fit_to, rcond=None)
    left = ((_with_one(try_on) @ weights - truth) ** 2).mean()
    tied = [abs(np.corrcoef(values, truth)[0, 1]) for values in try_on.T if values.std()]
    return {
        CORRELATION: rounded(max(tied, default=0.0)),
        EXPLAINED: rounded(1 - left / max(float(truth.var()), 1e-12)),
    }


def _tokens_and_image(
    seen: Sequence[Observation], layout: Layout
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    tokens = [next(layout.split(one.proxy)) for one in seen]
    images = [on_grid(one.image, layout).ravel() for one in seen]
    return np.concatenate(tokens).astype(np.float64), np.concatenate(images)


def _with_one(tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([tokens, np.ones((len(tokens), 1))], axis=1)


def with_little_noise(images: Sequence[Float32Array], seed: int) -> list[Float32Array]:
    """Images that must be recognised, whatever is compared: positive controls."""
    rng = np.random.default_rng([seed, 41])
    return [
        np.clip(image + NOISE * rng.standard_normal(image.shape), 0, 1).astype(np.float32)
        for image in images
    ]


def nearness(
    queries: Sequence[Float32Array], entries: Sequence[Float32Array]
) -> NDArray[np.float64]:
    rows, columns = (np.stack(some).astype(np.float64) for some in (queries, entries))
    squares = (rows**2).sum(1)[:, None] + (columns**2).sum(1) - 2 * rows @ columns.T
    return np.asarray(-squares)


def _grams(sequences: Sequence[Float32Array], layout: Layout) -> list[Float32Array]:
    """Inner products of all pairs of an encoding's coarsest tokens, centred and of unit norm."""
    found = []
    for sequence in sequences:
        tokens = list(layout.split(sequence))[-1].astype(np.float64)
        centred = tokens - tokens.mean(axis=0)
        gram = (centred @ centred.T).ravel()
        found.append((gram / max(float(np.linalg.norm(gram)), 1e-12)).astype(np.float32))
    return found


def drawn(
    seen: Sequence[Observation], layout: Layout, mean: Float32Array
) -> list[tuple[Float32Array, Float32Array]]:
    """Both signs of each encoding's first component, over the tokens of all of them."""
    tokens = np.stack([next(layout.split(one.proxy)) for one in seen]).astype(np.float64)
    centred = tokens - tokens.mean(axis=(0, 1))
    flat = centred.reshape(-1, centred.shape[-1])
    _, vectors = np.linalg.eigh(flat.T @ flat)
    grid = layout.levels[0].grid
    return [_shown((one @ vectors[:, -1]).reshape(grid), mean) for one in centred]


def _shown(component: NDArray[np.float64], mean: Float32Array) -> tuple[Float32Array, Float32Array]:
    """On the tile, both signs, with the grey values of the mean image."""
    zoom = [full / part for full, part in zip(mean.shape[1:], component.shape, strict=True)]
    # A token is in the middle of its block, not at the end of the grid.
    fine = ndimage.zoom(component, zoom, order=1, grid_mode=True, mode="nearest")
    spread = (fine - fine.mean()) / max(float(fine.std()), 1e-12)
    signs = [np.clip(mean.mean() + sign * mean.std() * spread, 0, 1) for sign in (1, -1)]
    first, second = (np.broadcast_to(one, mean.shape).astype(np.float32) for one in signs)
    return first, second


def on_grid(image: Float32Array, layout: Layout) -> NDArray[np.float64]:
    """The mean of an image's channels, and of the voxels that a token of the finest grid is of."""
    return np.asarray(means_of_blocks(image, layout.levels[0].grid).mean(axis=0))


def _better(signs: tuple[Float32Array, Float32Array], truth: Float32Array) -> float:
    return max(ssim(one, truth) for one in signs)
