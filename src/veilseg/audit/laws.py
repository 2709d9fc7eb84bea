"""How proxies are made, as whoever knows the scheme can make them: from its own images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.random import Generator

from veilseg.audit.grids import fitted
from veilseg.datasets.cases import PreparedCase
from veilseg.scheme import ClientHalf
from veilseg.schemes.mixup.mixing import mix
from veilseg.schemes.references import (
    Reference,
    Template,
    fill_background,
    labelled_reference,
    synthetic_reference,
    with_contrast,
)
from veilseg.training.examples import Arrays, one_hot

# Maps by which a network is told coefficient and number of references.
SETTINGS = 2


class Law(Protocol):
    """A distribution of proxies, without any site's key."""

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        """One proxy with the truth beside it: ``proxy``, ``image``, ``target``, and of a mixture
        ``reference`` and ``reference_labels``. Trailing axes are spatial.
        """
        ...


@dataclass(frozen=True)
class RawLaw:
    """The image itself."""

    classes: int

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:  # noqa: ARG002 - one interface
        return {
            "proxy": case.image,
            "image": case.image,
            "target": one_hot(case.labels, self.classes),
        }


@dataclass(frozen=True)
class EncodedLaw:
    """Encodings, as a site makes them of whole tiles."""

    classes: int
    half: ClientHalf

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:  # noqa: ARG002 - one interface
        return {
            "proxy": self.half.protect(case.image, case.patient)[0].array[0],
            "image": case.image,
            "target": one_hot(case.labels, self.classes),
        }


@dataclass(frozen=True)
class MixtureLaw:
    """Mixup-Privacy's mixtures.

    Attributes
    ----------
    classes : int
    coefficient : float
    template : Template or None
        Of synthetic references; None: labelled ones.
    bases : sequence of PreparedCase
        Of labelled references.
    """

    classes: int
    coefficient: float
    template: Template | None
    bases: Sequence[PreparedCase] = ()

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        return self.mixed(case, self.reference(case, rng), rng)

    def mixed(self, case: PreparedCase, reference: Reference, rng: Generator) -> Arrays:
        """An example with a given reference; the generator fills the backgrounds."""
        mixture, reference = mix(case.image, reference, self.coefficient, rng)
        return {
            "proxy": mixture,
            "image": case.image,
            "target": one_hot(case.labels, self.classes),
            "reference": reference.image,
            "reference_labels": one_hot(reference.labels, self.classes),
        }

    def reference(self, case: PreparedCase, rng: Generator) -> Reference:
        """Drawn as a site would for an image of this patient."""
        shape = case.labels.shape
        if self.template is not None:
            return synthetic_reference(self.template, shape, rng)
        others = [base for base in self.bases if base.patient != case.patient and base.labels.any()]
        base = others[int(rng.integers(len(others)))]
        return labelled_reference(Reference(base.image, base.labels), shape, rng)


def with_bases(law: Law, people: Sequence[PreparedCase]) -> Law:
    """The law, its labelled references made of these people's cases; others have none."""
    if not people or not isinstance(law, MixtureLaw) or law.template is not None:
        return law
    return replace(law, bases=people)


@dataclass(frozen=True)
class SweptLaw:
    """Mixtures with the mean of several references, at any coefficient.

    Attributes
    ----------
    law : MixtureLaw
        Of the references.
    coefficients : (low, high)
        Where the coefficient is drawn from; at 1 the image is sent as it is.
    counts : tuple of int
        Of references, one of which is drawn.
    """

    law: MixtureLaw
    coefficients: tuple[float, float]
    counts: tuple[int, ...]

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        a = np.float32(rng.uniform(*self.coefficients))
        count = int(rng.choice(self.counts))
        drawn = [self.law.reference(case, rng) for _ in range(count)]
        mean = np.mean([fill_background(one.image, rng) for one in drawn], axis=0)
        # A mean is blander than what it is of; a site would not send a bland reference.
        reference = with_contrast(Reference(mean, drawn[0].labels), case.image).image
        labels = np.mean([one_hot(one.labels, self.law.classes) for one in drawn], axis=0)
        setting = np.ones((SETTINGS, *case.labels.shape), np.float32)
        setting *= np.array([a, 1 / count]).reshape(-1, *[1] * case.labels.ndim)
        return {
            "proxy": a * fill_background(case.image, rng) + (1 - a) * reference,
            "image": case.image,
            "target": one_hot(case.labels, self.law.classes),
            "reference": reference,
            "reference_labels": labels,
            "coefficient": np.array(a),
            "setting": setting,
        }


@dataclass(frozen=True)
class NobodyLaw:
    """Proxies that carry another person: what is said to be shown is not in them.

    Attributes
    ----------
    law : Law
    people : sequence of PreparedCase
        Whom the proxies carry.
    """

    law: Law
    people: Sequence[PreparedCase]

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        others = [one for one in self.people if one.patient != case.patient]
        other = others[int(rng.integers(len(others)))]
        shown = fitted(other, case.labels.shape)
        arrays = self.law.example(shown, rng)
        own = {"image": case.image, "target": one_hot(case.labels, arrays["target"].shape[0])}
        return arrays | own
