"""Proxies of the comparators, as whoever knows the scheme makes them from images of its own."""

from dataclasses import dataclass

from numpy.random import Generator

from veilseg.audit.laws import Law, RawLaw
from veilseg.bundle import ClientBundle
from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.deformation.client import Deformer
from veilseg.schemes.deformation.field import deformed, flow
from veilseg.schemes.noise.adding import with_noise
from veilseg.schemes.privacy_net.client import PrivacyNetClient
from veilseg.schemes.secret import strength_of
from veilseg.training.examples import Arrays

# Of the strength, for a control in which a proxy is nearly the patient.
EASED = 0.01
EASIER = {
    "noise": "images under a hundredth of the noise",
    "deformation": "images under a hundredth of the deformation",
    "privacy_net": "images that are not encoded",
}


@dataclass(frozen=True)
class NoisyLaw:
    """Images under fresh noise."""

    classes: int
    strength: float

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        raw = RawLaw(self.classes).example(case, rng)
        return raw | {"proxy": with_noise(case.image, self.strength, rng)}


@dataclass(frozen=True)
class DeformedLaw:
    """Images under fresh deformations.

    Attributes
    ----------
    classes : int
    deformer : Deformer
        The published generator.
    share : float
        Of the velocity.
    """

    classes: int
    deformer: Deformer
    share: float = 1.0

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        places = flow(self.share * self.deformer.velocity(rng), case.labels.shape)
        raw = RawLaw(self.classes).example(case, rng)
        return raw | {
            "proxy": deformed(case.image, places),
            # What the server's network answers to it, were it right.
            "shown_target": deformed(raw["target"], places),
        }


@dataclass(frozen=True)
class EncodedImageLaw:
    """Encoded images, as a site makes them."""

    classes: int
    half: PrivacyNetClient

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        raw = RawLaw(self.classes).example(case, rng)
        return raw | {"proxy": self.half.protect(case.image, case.patient)[0].array}


def law_of(bundle: ClientBundle, classes: int) -> Law:
    """Of a scheme that neither mixes nor sends sequences."""
    scheme = bundle.manifest.scheme
    if scheme == "noise":
        return NoisyLaw(classes, strength_of(bundle))
    if scheme == "deformation":
        return DeformedLaw(classes, Deformer(bundle))
    if scheme == "privacy_net":
        return EncodedImageLaw(classes, PrivacyNetClient(bundle))
    return RawLaw(classes)


def eased_law_of(bundle: ClientBundle, classes: int) -> tuple[Law, str]:
    """A law under which a proxy is nearly the patient, and what that is in words."""
    law = law_of(bundle, classes)
    if isinstance(law, NoisyLaw):
        law = NoisyLaw(classes, EASED * law.strength)
    elif isinstance(law, DeformedLaw):
        law = DeformedLaw(classes, law.deformer, EASED)
    else:
        law = RawLaw(classes)
    return law, EASIER[bundle.manifest.scheme]
