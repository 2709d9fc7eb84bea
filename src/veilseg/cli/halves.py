"""From options to what segments: client halves of bundles, and the way to their server halves."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veilseg.bundle import ClientBundle, open_client_half, open_server_half
from veilseg.cli.key import read_key
from veilseg.cli.local import LocalServer
from veilseg.client.credentials import Credentials
from veilseg.client.group import connected
from veilseg.client.remote import RemoteServer
from veilseg.errors import VaultIntegrity, WrongUsage
from veilseg.schemes.registry import NEEDS_VAULT, client_half
from veilseg.vault.vault import KEY_BYTES, Vault

if TYPE_CHECKING:
    from veilseg.gateway.segmenting import Connect, Segmenter


@dataclass(frozen=True)
class Route:
    """Bundles, and how their images get to a server and back."""

    bundles: Sequence[Path]
    servers: Sequence[str]
    vaults: Sequence[Path]
    local: bool = False
    key_file: Path | None = None
    timeout_s: float = 120.0
    token_file: Path | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


@contextmanager
def segmenters(route: Route) -> "Iterator[list[Segmenter]]":
    """One for each bundle. Servers are asked only when there is an image for them.

    Raises
    ------
    WrongUsage
        If there is no way to a server half, or no vault for a bundle that needs one.
    InvalidInput, IntegrityError
        If a bundle, vault, key, address or credential cannot be used.
    """
    if route.local == bool(route.servers):
        raise WrongUsage("give either --server URL or --local")
    credentials = Credentials.read(route.token_file, route.ca, route.client_cert, route.client_key)
    with ExitStack() as open_until_the_end:
        yield [_segmenter(route, path, credentials, open_until_the_end) for path in route.bundles]


def _segmenter(
    route: Route, path: Path, credentials: Credentials, open_until_the_end: ExitStack
) -> "Segmenter":
    from veilseg.gateway.segmenting import Segmenter

    bundle = open_client_half(path)
    folder = vault = None
    if bundle.manifest.scheme in NEEDS_VAULT:
        if route.local and not route.vaults:
            # Nothing leaves, so nothing has to be secret; a fixed key makes runs repeatable.
            vault = Vault.in_memory(bytes(KEY_BYTES))
        else:
            folder, vault = _vault_of(bundle, path, route.vaults)
        open_until_the_end.enter_context(vault)
    key = read_key(route.key_file) if bundle.manifest.scheme == "encoding" else None
    half = client_half(bundle, vault, key=key)
    needs_subject = vault is not None and vault.has_labelled_references
    ledger = None if route.local else folder
    connect = _connect(route, path, bundle, credentials)
    return Segmenter(bundle.manifest, half, connect, ledger, needs_subject, route.servers)


def _vault_of(bundle: ClientBundle, path: Path, vaults: Sequence[Path]) -> tuple[Path, Vault]:
    """The vault that belongs to a bundle."""
    reason: VaultIntegrity | None = None
    for folder in vaults:
        try:
            return folder, Vault.open(folder, bundle.manifest.protection_id)
        except VaultIntegrity as error:
            reason = error
    if reason is not None:
        raise reason
    raise WrongUsage(
        f"--vault: {bundle.manifest.name} needs one; make it with: "
        f"veilseg site init VAULT --bundle {path}"
    )


def _connect(route: Route, path: Path, bundle: ClientBundle, credentials: Credentials) -> "Connect":
    if route.local:
        here = LocalServer(open_server_half(path))
        return lambda _: nullcontext(here)
    for url in route.servers:
        # An address that can be none is told now, and not with the first image.
        RemoteServer(url, bundle.manifest, credentials=credentials).close()
    given = route.servers, bundle.manifest, route.timeout_s, credentials
    return lambda still_wanted: connected(*given, still_wanted)
