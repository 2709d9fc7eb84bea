"""From a bundle's scheme name to its way to make pairs for a fit."""

from veilseg.bundle import ClientBundle
from veilseg.contributing.plan import PairMaker
from veilseg.errors import InvalidShard, WrongUsage
from veilseg.schemes.encoding.contributing import EncodingPairs
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.mixup.contributing import MixupPairs
from veilseg.vault.vault import Vault


def pair_maker(bundle: ClientBundle, vault: Vault | None, key: ConsortiumKey | None) -> PairMaker:
    """The scheme's.

    Raises
    ------
    InvalidShard
        If the scheme has no protected pairs.
    WrongUsage
        If a key is given to a scheme without one.
    BundleIntegrity, InvalidVault, WrongKey
        As the scheme's client half.
    """
    scheme = bundle.manifest.scheme
    if scheme == "encoding":
        return EncodingPairs(bundle, key)
    if key is not None:
        raise WrongUsage(f"--key: {scheme} encodes nothing")
    if scheme == "mixup":
        if vault is None:
            raise TypeError("the mixup scheme needs a vault")
        return MixupPairs(bundle, vault)
    raise InvalidShard(f"{bundle.manifest.name}: {scheme} has no protected pairs to contribute")
