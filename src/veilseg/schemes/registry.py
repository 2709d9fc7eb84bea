"""From a bundle's scheme name to its client half."""

from veilseg.bundle import ClientBundle
from veilseg.errors import BundleIntegrity, WrongUsage
from veilseg.scheme import ClientHalf
from veilseg.schemes.mixup.client import MixupClient, Unmixing, unmixings
from veilseg.schemes.plain.client import PlainClient
from veilseg.vault.vault import Vault

# Schemes whose protection needs a secret of the site.
NEEDS_VAULT = frozenset({"mixup"})


def client_half(
    bundle: ClientBundle,
    vault: Vault | None,
    unmixing: Unmixing | None = None,
    coefficient: float | None = None,
) -> ClientHalf:
    """Build the client half of a bundle.

    Parameters
    ----------
    bundle : ClientBundle
    vault : Vault or None
        None for schemes without a secret.
    unmixing, coefficient : optional
        As for :class:`~veilseg.schemes.mixup.client.MixupClient`; None: the bundle's default.

    Raises
    ------
    BundleIntegrity
        If this version does not know the scheme.
    WrongUsage
        If a coefficient is given for a scheme that does not mix.
    """
    scheme = bundle.manifest.scheme
    if scheme == "mixup":
        if vault is None:
            raise TypeError("the mixup scheme needs a vault")
        return MixupClient(bundle, vault, unmixing, coefficient)
    if scheme == "plain":
        if coefficient is not None:
            raise WrongUsage("--coefficient: plain mixes nothing")
        return PlainClient()
    raise BundleIntegrity(f"{bundle.folder / 'manifest.json'}: scheme: {scheme} is unknown here")


def client_halves(
    bundle: ClientBundle, vault: Vault | None, coefficient: float | None = None
) -> dict[str, ClientHalf]:
    """All ways to recover that a bundle offers, by name, its default first.

    They protect alike. Raises as :func:`client_half`.
    """
    if bundle.manifest.scheme != "mixup":
        return {bundle.manifest.scheme: client_half(bundle, vault, coefficient=coefficient)}
    return {
        unmixing: client_half(bundle, vault, unmixing, coefficient)
        for unmixing in unmixings(bundle.manifest)
    }
