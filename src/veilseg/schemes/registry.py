"""From a bundle's scheme name to its client half."""

from veilseg.bundle import ClientBundle
from veilseg.errors import BundleIntegrity
from veilseg.scheme import ClientHalf
from veilseg.schemes.mixup.client import MixupClient, Unmixing
from veilseg.schemes.plain.client import PlainClient
from veilseg.vault.vault import Vault

# Schemes whose protection needs a secret of the site.
NEEDS_VAULT = frozenset({"mixup"})


def client_half(
    bundle: ClientBundle, vault: Vault | None, unmixing: Unmixing = "learned"
) -> ClientHalf:
    """Build the client half of a bundle.

    Raises
    ------
    BundleIntegrity
        If this version does not know the scheme.
    """
    scheme = bundle.manifest.scheme
    if scheme == "plain":
        return PlainClient()
    if scheme == "mixup":
        if vault is None:
            raise TypeError("the mixup scheme needs a vault")
        return MixupClient(bundle, vault, unmixing)
    raise BundleIntegrity(f"{bundle.folder / 'manifest.json'}: scheme: {scheme} is unknown here")
