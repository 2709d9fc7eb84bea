"""From a bundle's scheme name to its client half."""

from collections.abc import Callable

from veilseg.bundle import ClientBundle
from veilseg.errors import BundleIntegrity, WrongUsage
from veilseg.runtime import Load, OnnxModel
from veilseg.scheme import ClientHalf
from veilseg.schemes.deformation import field
from veilseg.schemes.deformation.client import DeformationClient
from veilseg.schemes.encoding.client import EncodingClient
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.mixup import mixing
from veilseg.schemes.mixup.client import MixupClient, Unmixing, unmixings
from veilseg.schemes.noise import adding
from veilseg.schemes.noise.client import NoiseClient
from veilseg.schemes.plain.client import PlainClient
from veilseg.schemes.privacy_net.client import PrivacyNetClient
from veilseg.vault.vault import Vault

# Schemes whose protection needs a secret of the site.
NEEDS_VAULT = frozenset({"mixup", "noise", "deformation"})
# Schemes that mix an image with a reference of the site.
TAKES_REFERENCES = frozenset({"mixup"})


def client_half(
    bundle: ClientBundle,
    vault: Vault | None,
    unmixing: Unmixing | None = None,
    coefficient: float | None = None,
    key: ConsortiumKey | None = None,
    load: Load = OnnxModel,
) -> ClientHalf:
    """Build the client half of a bundle.

    Parameters
    ----------
    bundle : ClientBundle
    vault : Vault or None
        None for schemes without a secret.
    unmixing, coefficient : optional
        As for :class:`~veilseg.schemes.mixup.client.MixupClient`; None: the bundle's default.
    key : ConsortiumKey or None
        For an encoding bundle that was trained with one.
    load : callable
        Opens the networks that recover.

    Raises
    ------
    BundleIntegrity
        If this version does not know the scheme.
    WrongUsage
        If a coefficient is given for a scheme that does not mix, or a key for one without.
    WrongKey
        If the bundle was trained with another key.
    """
    scheme = bundle.manifest.scheme
    if key is not None and scheme != "encoding":
        raise WrongUsage(f"--key: {scheme} encodes nothing")
    if coefficient is not None and scheme != "mixup":
        raise WrongUsage(f"--coefficient: {scheme} mixes nothing")
    if scheme == "encoding":
        return EncodingClient(bundle, key, load)
    if scheme == "plain":
        return PlainClient()
    if scheme == "privacy_net":
        return PrivacyNetClient(bundle)
    if scheme in NEEDS_VAULT:
        if vault is None:
            raise TypeError(f"the {scheme} scheme needs a vault")
        if scheme == "noise":
            return NoiseClient(bundle, vault)
        if scheme == "deformation":
            return DeformationClient(bundle, vault)
        return MixupClient(bundle, vault, unmixing, coefficient, load)
    raise BundleIntegrity(f"{bundle.folder / 'manifest.json'}: scheme: {scheme} is unknown here")


def client_halves(
    bundle: ClientBundle,
    vault: Vault | None,
    coefficient: float | None = None,
    key: ConsortiumKey | None = None,
) -> dict[str, ClientHalf]:
    """All ways to recover that a bundle offers, by name, its default first.

    They protect alike. Raises as :func:`client_half`.
    """
    if bundle.manifest.scheme != "mixup":
        half = client_half(bundle, vault, coefficient=coefficient, key=key)
        return {bundle.manifest.scheme: half}
    return {
        unmixing: client_half(bundle, vault, unmixing, coefficient)
        for unmixing in unmixings(bundle.manifest)
    }


def price_of_averaging(scheme: str, proxies: int) -> str:
    """What several proxies of one image tell the server, in words; of a scheme that has several."""
    prices: dict[str, Callable[[int], str]] = {
        "mixup": mixing.price_of_averaging,
        "noise": adding.price_of_averaging,
        "deformation": field.price_of_averaging,
    }
    return prices[scheme](proxies)
