"""A11: the consortium's key from images whose keyed encodings are known, by least squares.

Whoever has the encoder, as every site does, knows what a token was before the key:
``u' = Q·u + b`` is then a linear regression for each resolution. Without any known image, other
people's encodings tell Q as well: images lie alike in their tiles, so that the mean token of each
place is nearly the same; and moments of tokens agree, the sooner the fewer channels there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from veilseg.audit.attacks import inversion
from veilseg.audit.encodings import layout_of
from veilseg.audit.findings import Control, DoesNotApply, Finding, Threat, rounded
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.similarity import ssim
from veilseg.audit.workshop import Workshop
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.payload import Float32Array
from veilseg.schemes.encoding.client import EncodingClient
from veilseg.schemes.encoding.sequence import Layout

FINDING = Finding(
    *("A11", "Key recovery", "image"),
    Threat(known_pairs=1, colluding_site=True),
    "relative error of what the key hides",
    "lower leaks more",
)
# What the error means: an image that a network makes of encodings freed of the key as it was found.
BEHIND = replace(
    FINDING, title="Image behind the key", metric="SSIM", direction="higher leaks more"
)
PAIRS = (1, 5, 20)
# What is left of an encoding by FP16 alone is a thousandth.
CONTROL_ERROR = 0.01
# Less than this of an encoding's variance is no recovery.
NULL_ERROR = 0.5
# Of the same people means and moments agree up to rounding, axes of nearly equal spread do not.
UNPAIRED_ERROR = 0.1
MEANS, MOMENTS = "mean tokens of each place", "moments of all tokens"


@dataclass(frozen=True)
class Fitted:
    """Basis and shift of each resolution, as found.

    Attributes
    ----------
    layout : Layout
    maps : tuple of ndarray, shape (channels + 1, channels), float64
        From keyed tokens, with a one behind, to plain ones.
    """

    layout: Layout
    maps: tuple[NDArray[np.float64], ...]

    @classmethod
    def to(
        cls, layout: Layout, plain: Sequence[Float32Array], keyed: Sequence[Float32Array]
    ) -> Self:
        """The linear maps that explain pairs of sequences best."""
        maps = []
        for wanted, given in zip(
            layout.split(np.stack(plain)), layout.split(np.stack(keyed)), strict=True
        ):
            tokens = given.reshape(-1, given.shape[-1]).astype(np.float64)
            with_one = np.concatenate([tokens, np.ones((len(tokens), 1))], axis=1)
            target = wanted.reshape(-1, wanted.shape[-1]).astype(np.float64)
            maps.append(np.linalg.lstsq(with_one, target, rcond=None)[0])
        return cls(layout, tuple(maps))

    @classmethod
    def by_moments(
        cls, layout: Layout, plain: Sequence[Float32Array], keyed: Sequence[Float32Array]
    ) -> Self:
        """Without a pair: the map that brings the tokens' means, covariances and, for the signs,
        third moments of some people to those of others.
        """
        maps = []
        for wanted, given in zip(
            layout.split(np.stack(plain)), layout.split(np.stack(keyed)), strict=True
        ):
            (to, to_axes), (start, start_axes) = (_axes_of(one) for one in (wanted, given))
            turn = start_axes @ to_axes.T
            maps.append(np.concatenate([turn, (to - start @ turn)[None]]))
        return cls(layout, tuple(maps))

    @classmethod
    def by_means(
        cls, layout: Layout, plain: Sequence[Float32Array], keyed: Sequence[Float32Array]
    ) -> Self:
        """Without a pair: the turn and shift that bring the mean token of each place, over some
        people, to that over others (Schönemann 1966).
        """
        maps = []
        for wanted, given in zip(
            layout.split(np.stack(plain)), layout.split(np.stack(keyed)), strict=True
        ):
            of_places = [one.mean(axis=0, dtype=np.float64) for one in (wanted, given)]
            to, start = (tokens.mean(axis=0) for tokens in of_places)
            target, tokens = of_places[0] - to, of_places[1] - start
            left, _, right = np.linalg.svd(tokens.T @ target)
            turn = left @ right
            maps.append(np.concatenate([turn, (to - start @ turn)[None]]))
        return cls(layout, tuple(maps))

    def unkeyed(self, sequence: Float32Array) -> Float32Array:
        """What a keyed sequence was."""
        found = []
        for tokens, linear in zip(self.layout.split(sequence), self.maps, strict=True):
            with_one = np.concatenate([tokens, np.ones((len(tokens), 1))], axis=1)
            found.append(with_one @ linear)
        return self.layout.joined(found)


def attack(workshop: Workshop) -> list[Finding]:
    """How far encodings, freed of the key as it was found, are from what they were before it."""
    scene = workshop.scene
    if scene.key is None:
        raise DoesNotApply("there is no key")
    layout = layout_of(scene, "image")
    seen = workshop.observed()
    half = scene.client()
    assert isinstance(half, EncodingClient)
    known = scene.simulate(scene.law(), scene.auxiliary[: max(PAIRS)], answered=False)
    keyed = [one.proxy for one in known]
    plain = [half.unkeyed(half.encoded(one.image)) for one in known]
    truths = [half.unkeyed(half.encoded(one.image)) for one in seen]
    errors = {}
    for count in (n for n in PAIRS if n <= len(known)):
        found = Fitted.to(layout, plain[:count], keyed[:count])
        errors[count] = [
            _error(found.unkeyed(one.proxy), truth) for one, truth in zip(seen, truths, strict=True)
        ]
    best = errors[max(errors)]
    exact = Fitted.to(layout, plain, [half.encoded(one.image) for one in known])
    whole = [exact.unkeyed(half.encoded(one.image)) for one in seen]
    left = np.mean([_error(one, truth) for one, truth in zip(whole, truths, strict=True)])
    what = "keyed encodings that were not rounded"
    positive = Control(what, float(left), high=CONTROL_ERROR)
    rng = np.random.default_rng(scene.seed)
    shuffled = [
        layout.joined([rng.permutation(tokens) for tokens in layout.split(one)]) for one in keyed
    ]
    others = Fitted.to(layout, plain, shuffled)
    missed = [_error(others.unkeyed(one.proxy), t) for one, t in zip(seen, truths, strict=True)]
    null = Control(
        "pairs of tokens that do not belong together", float(np.mean(missed)), low=NULL_ERROR
    )
    details = {"error_by_images": {str(n): rounded(float(np.mean(e))) for n, e in errors.items()}}
    finding = replace(FINDING, threat=replace(FINDING.threat, known_pairs=max(errors)))
    patients = [one.patient for one in seen]
    alone = float(np.mean([_error(one.proxy, t) for one, t in zip(seen, truths, strict=True)]))
    by_one = Fitted.to(layout, plain[:1], keyed[:1])
    return [
        finding.measured(
            bootstrap_mean(best, patients),
            *({"the key not known": alone}, positive, null, details),
            setting=f"{max(errors)} known images",
            occurs="never",
        ),
        replace(
            _behind(workshop, by_one),
            threat=FINDING.threat,
            setting="1 known image",
            occurs="never",
        ),
        *_without_pairs(workshop, layout, plain, seen, truths, alone),
    ]


def _behind(workshop: Workshop, key: "Fitted") -> Finding:
    """SSIM of what A10's network makes of encodings, freed of the key as it was found.

    The network has learned encodings in the true key's basis: so they are brought back to it.
    """
    scene, network = workshop.scene, inversion.inverter(workshop)
    assert scene.key is not None
    rekey = scene.key.transform(key.layout, "image").apply

    def image(one: Observation) -> Float32Array:
        return network.inverted(rekey(key.unkeyed(one.proxy)))

    seen = workshop.observed()
    scores = [ssim(image(one), one.image) for one in seen]
    misread = [ssim(network.inverted(rekey(one.proxy)), one.image) for one in seen]
    baseline = {
        "mean image": workshop.ssim_of_nobody(),
        "the key not known": float(np.mean(misread)),
    }
    null = null_of_images(
        workshop, [image(one) for one in proxies_of_nobody(workshop, scene.law())]
    )
    overall = bootstrap_mean(scores, [one.patient for one in seen])
    return BEHIND.measured(overall, baseline, inversion.control(workshop), null)


def _without_pairs(
    workshop: Workshop,
    layout: Layout,
    own: Sequence[Float32Array],
    seen: Sequence[Observation],
    truths: Sequence[Float32Array],
    alone: float,
) -> list[Finding]:
    """Key recovery by whoever has the encoder and images, and no keyed encoding of them."""
    keyed = [one.proxy for one in seen]

    def errors(fit: Fit, plain: Sequence[Float32Array]) -> list[float]:
        found = fit(layout, plain, keyed)
        return [_error(found.unkeyed(one), truth) for one, truth in zip(keyed, truths, strict=True)]

    by_fit = {name: errors(fit, own) for name, fit in FITS.items()}
    best = min(by_fit, key=lambda name: float(np.mean(by_fit[name])))
    # The same people on both sides, in another order: means and moments agree.
    same = float(np.mean(errors(FITS[best], truths[::-1])))
    positive = Control(f"{best}, of the same people, unpaired", same, high=UNPAIRED_ERROR)
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(one.shape).astype(np.float32) for one in own]
    blind = float(np.mean(errors(FITS[best], noise)))
    null = Control("noise instead of images", blind, low=NULL_ERROR)
    found = FITS[best](layout, own, keyed)
    details = {
        "strongest": best,
        "error": {name: rounded(float(np.mean(some))) for name, some in by_fit.items()},
        "error_by_level": [
            rounded(float(np.mean([_error(a, b) for a, b in zip(*of_level, strict=True)])))
            for of_level in zip(
                zip(*(layout.split(found.unkeyed(one)) for one in keyed), strict=True),
                zip(*(layout.split(truth) for truth in truths), strict=True),
                strict=True,
            )
        ],
    }
    threat = replace(FINDING.threat, known_pairs=0, subjects=len(seen))
    setting = "no known image: other people's tokens"
    return [
        replace(FINDING, threat=threat).measured(
            bootstrap_mean(by_fit[best], [one.patient for one in seen]),
            *({"the key not known": alone}, positive, null, details, setting),
        ),
        replace(_behind(workshop, found), threat=threat, setting=setting),
    ]


Fit = Callable[[Layout, Sequence[Float32Array], Sequence[Float32Array]], Fitted]
FITS: dict[str, Fit] = {MEANS: Fitted.by_means, MOMENTS: Fitted.by_moments}


def _axes_of(tokens: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and principal axes (channels, channels) of tokens, each towards its longer tail."""
    flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    mean = flat.mean(axis=0)
    centred = flat - mean
    _, axes = np.linalg.eigh(centred.T @ centred)
    third = ((centred @ axes) ** 3).mean(axis=0)
    return mean, axes * np.where(third < 0, -1, 1)


def _error(found: Float32Array, truth: Float32Array) -> float:
    """Of the truth's deviation; 1 for somebody who knows its mean."""
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth - truth.mean()))
