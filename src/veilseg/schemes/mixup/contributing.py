"""What a site gives to a fit of Mixup-Privacy: mixtures, and mixtures of their label maps."""

from numpy.random import Generator

from veilseg.bundle import ClientBundle
from veilseg.contribution import ProtectedPair
from veilseg.datasets.cases import PreparedCase
from veilseg.payload import WIRE_DTYPE, Float32Array
from veilseg.schemes.mixup.client import MixupClient
from veilseg.training.examples import Arrays, one_hot
from veilseg.vault.vault import Vault


class MixupPairs:
    """Pairs of mixtures.

    Parameters
    ----------
    bundle : ClientBundle
    vault : Vault
        Key and references of the site.

    Raises
    ------
    BundleIntegrity, InvalidVault
        As :class:`~veilseg.schemes.mixup.client.MixupClient`.
    """

    def __init__(self, bundle: ClientBundle, vault: Vault) -> None:
        self._client = MixupClient(bundle, vault)
        self._classes = len(bundle.manifest.labels)

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        """A whole case mixed with a reference of its own; ``rng`` has to be secret.

        Raises
        ------
        InvalidVault
            If the vault has labelled references, but none of another patient.

        Leaks
        -----
        To the server: a mixture and its mixed label map for each example. K examples of one patient
        can be averaged, as K proxies can; the label map shows the patient's mask.
        """
        mixture, reference = self._client.mixed(case.image, case.patient, rng)
        a = self._client.coefficient
        own, other = (one_hot(labels, self._classes) for labels in (case.labels, reference.labels))
        return {"proxy": mixture, "answer": a * own + (1 - a) * other}

    def pair(self, tile: dict[str, Float32Array]) -> ProtectedPair:
        """What leaves of one tile: as it was mixed, on the wire."""
        return ProtectedPair(*(tile[name].astype(WIRE_DTYPE) for name in ("proxy", "answer")))
