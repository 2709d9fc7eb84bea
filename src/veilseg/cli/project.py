"""``veilseg project``: the provider's commands on its own machine, and a site's over HTTP."""

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from veilseg.binding import bind
from veilseg.bundle import open_server_half
from veilseg.cli.extras import needing
from veilseg.cli.progress import progress
from veilseg.client.credentials import Credentials
from veilseg.client.projects import ProjectClient
from veilseg.client.repository import load
from veilseg.errors import InvalidAnswer, InvalidInput, OutputNotWritable, VeilsegError, WrongUsage
from veilseg.files import written_whole

if TYPE_CHECKING:
    from veilseg.collaboration.provider import Provider

DATABASE_FILE = "collaboration.sqlite"
# Of a loss that is drawn as text, from its lowest value to its highest, and how wide at most.
BARS, WIDTH = "▁▂▃▄▅▆▇█", 50


@dataclass(frozen=True)
class Place:
    """Where a provider keeps everything."""

    store: Path
    database: str | None
    blobs: str | None

    @contextlib.contextmanager
    def opened(self) -> "Iterator[Provider]":
        """Raises MissingDependency, or what the database and the store raise."""
        with needing("collaboration", "projects need"):
            from veilseg.collaboration.blobs import Blobs
            from veilseg.collaboration.database import Database
            from veilseg.collaboration.provider import Provider
            from veilseg.collaboration.versions import Versions
        try:
            self.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(f"{self.store}: cannot be written: {error.strerror}") from error
        store = self.store.resolve()
        url = self.database or f"sqlite:///{store / DATABASE_FILE}"
        database = Database(url)
        with contextlib.closing(database):
            blobs = Blobs(self.blobs or str(store / "blobs"))
            yield Provider(database, blobs, Versions(store / "models"), store / "fits")


def create(place: Place, project: str, bundle: Path) -> None:
    """Open a project around a bundle's server half."""
    with place.opened() as provider:
        from veilseg.collaboration import projects
        from veilseg.contribution import PairFormat

        provider.require_own_blobs()
        expected = PairFormat.of(open_server_half(bundle).manifest)
        with provider.database.session() as session:
            made = projects.create(session, project, expected)
            provider.versions.adopt(session, made, bundle)
    print(f"{project}: {expected.fitting['scheme']}, model {expected.model}, version 1")


def invite(place: Place, project: str, site: str, days: int) -> None:
    """Print a token for a site, once."""
    with place.opened() as provider, provider.database.session() as session:
        from veilseg.collaboration import projects

        print(projects.invite(session, project, site, days))


def revoke(place: Place, project: str, site: str) -> None:
    """Take a site's tokens away."""
    with place.opened() as provider, provider.database.session() as session:
        from veilseg.collaboration import projects

        print(f"{site}: {projects.revoke(session, project, site)} tokens revoked")


def remove(place: Place, project: str, site: str) -> None:
    """Take a site's tokens away, and all that it contributed."""
    with place.opened() as provider:
        from veilseg.collaboration import projects, withdrawals

        provider.require_own_blobs()
        with provider.database.session() as session:
            tokens = projects.revoke(session, project, site)
            shards = withdrawals.withdraw_all(session, projects.find_site(session, project, site))
        gone = withdrawals.delete_shards(provider.database, provider.blobs, shards)
    print(f"{site}: {tokens} tokens revoked, {gone} of {len(shards)} shards deleted")
    if gone < len(shards):
        raise OutputNotWritable(
            f"{site}: {len(shards) - gone} shards could not be deleted: see the log, and try again"
        )


def close(place: Place, project: str, reopen: bool) -> None:
    """No more contributions, or again some."""
    with place.opened() as provider, provider.database.session() as session:
        from veilseg.collaboration import projects

        projects.close(session, project, reopen)
    print(f"{project}: {'open' if reopen else 'closed'}")


@dataclass(frozen=True)
class Listening:
    """Where the API for sites is, and what guards it."""

    host: str
    port: int
    tls_cert: Path | None
    tls_key: Path | None
    insecure: bool
    most_bytes: int | None = None
    audit_log: Path | None = None


def serve(place: Place, listening: Listening) -> None:
    """Serve the API for sites until interrupted.

    Raises
    ------
    WrongUsage
        If other machines would reach it without TLS, or a certificate is without its key.
    """
    if (listening.tls_cert is None) != (listening.tls_key is None):
        raise WrongUsage("--tls-cert, --tls-key: give both")
    with contextlib.ExitStack() as open_until_the_end:
        provider = open_until_the_end.enter_context(place.opened())
        provider.require_own_blobs()
        from veilseg.access.audit_log import AuditLog
        from veilseg.collaboration import withdrawals
        from veilseg.collaboration.app import Guards, create_app
        from veilseg.serving import sockets
        from veilseg.serving.service import Limits, Service
        from veilseg.serving.tls import ServerTls

        tls = None
        if listening.tls_cert is not None and listening.tls_key is not None:
            tls = ServerTls(listening.tls_cert, listening.tls_key, None)
        listener = open_until_the_end.enter_context(sockets.bind(listening.host, listening.port))
        # Sites' tokens are in the store: there is none to be given here.
        guards = {"--tls-cert": listening.tls_cert, "--tls-key": listening.tls_key}
        sockets.require_guarded(listener, listening.host, guards, listening.insecure)
        if gone := withdrawals.sweep(provider.database, provider.blobs):
            print(f"{gone} files that belonged to no contribution are deleted")
        log = None
        if listening.audit_log is not None:
            log = open_until_the_end.enter_context(AuditLog(listening.audit_log))
        limits = Guards(most_bytes=listening.most_bytes, audit_log=log)
        app = create_app(provider.database, provider.blobs, provider.versions, limits)
        print(f"listening on {sockets.url_of(listener, tls=tls is not None)}", flush=True)
        # A shard that is being written when the service is told to end still gets its answer.
        Service(app, Limits(drain_s=30), tls).serve_on(listener)


@dataclass(frozen=True)
class Hosting:
    """A server that hosts the versions of a project."""

    server: str
    token_file: Path | None
    ca: Path | None


def fit(
    place: Place, project: str, steps: int, seed: int, resume: bool, hosting: Hosting | None
) -> None:
    """Fit the server network anew, publish it, and have it hosted."""
    with place.opened() as provider:
        provider.require_own_blobs()
        from veilseg.collaboration.fitting import fit as run

        with progress(project) as show:
            number = run(provider, project, steps, seed, resume, show)
    if number is not None:
        print(f"{project}: version {number}: {provider.versions.folder(project, number)}")
        if hosting is not None:
            try:
                _hosted(provider, project, number, hosting)
            except VeilsegError:
                # A fit takes hours, and its version is there.
                where = f"--store {place.store} --server {hosting.server}"
                print(f"to have it hosted later: veilseg project host {project} {where}")
                raise


def host(place: Place, project: str, hosting: Hosting) -> None:
    """Have the newest version hosted."""
    with place.opened() as provider, provider.database.session() as session:
        from veilseg.collaboration import projects

        number = provider.versions.newest(session, projects.find(session, project))
    if number is None:
        raise InvalidInput(f"project {project}: has no version")
    _hosted(provider, project, number, hosting)


def _hosted(provider: "Provider", project: str, number: int, hosting: Hosting) -> None:
    name = open_server_half(provider.versions.folder(project, number)).manifest.name
    load(hosting.server, name, Credentials.read(hosting.token_file, hosting.ca))
    print(f"{hosting.server}: hosts {name} version {number}")


@dataclass(frozen=True)
class Membership:
    """Where a site's project is, and by what it is known there."""

    project: str
    server: str
    token_file: Path | None
    ca: Path | None = None

    def client(self) -> ProjectClient:
        credentials = Credentials.read(self.token_file, self.ca)
        return ProjectClient(self.server, self.project, credentials)


def status(member: Membership) -> None:
    """Print the project's state and this site's contributions."""
    with member.client() as client:
        found, own = client.describe(), client.contributions()
    print(f"{found['project']}: {found['state']}, {found['pairs']} pairs of all sites")
    if fitted := found["fit"]:
        print(f"fit: {fitted['state']}, step {fitted['step']} of {fitted['steps']}")
        if curve := [one["loss"] for one in fitted["curve"] if math.isfinite(one["loss"])]:
            print(f"loss: {_drawn(curve)} {curve[-1]:.3f}")
    for version in found["versions"]:
        print(f"version {version['number']}: {_date(version['created'])}")
    for one in own:
        print(f"contribution {one['key']}: {one['state']}, {one['pairs']} pairs")


def _drawn(losses: Sequence[float]) -> str:
    low, high = min(losses), max(losses)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0
    some = losses[:: -(-len(losses) // WIDTH)]
    return "".join(BARS[round((loss - low) * scale)] for loss in some)


def withdraw(member: Membership, key: str | None) -> None:
    """Take one contribution back, or all of this site's."""
    with member.client() as client:
        keys = [one["key"] for one in client.contributions()] if key is None else [key]
        for one in keys:
            shards, gone = client.withdraw(one)
            print(f"contribution {one}: withdrawn, {gone} of {shards} shards deleted")
            if gone < shards:
                print(
                    f"veilseg: warning: contribution {one}: {shards - gone} shards could not be "
                    "deleted yet: ask the provider",
                    file=sys.stderr,
                )


def pull(member: Membership, bundle: Path, out: Path, number: int | None) -> None:
    """Make the bundle by which this site uses a version."""
    with member.client() as client:
        if number is None:
            versions = client.describe()["versions"]
            if not versions:
                raise InvalidAnswer(f"{member.server}: project {member.project} has no version")
            number = max(int(one["number"]) for one in versions)
        bundle_id = bind(bundle, client.server_manifest(number), out)
    print(f"{out}: version {number}, bundle {bundle_id[:12]}")


def rotate_token(member: Membership) -> None:
    """Put a new token into the token file; the old one ends within the hour."""
    file = member.token_file
    if file is None:
        raise WrongUsage("--token-file: the new token needs a file")
    with member.client() as client:
        token = client.rotate_token()
    with written_whole(file, private=True) as temporary:
        temporary.write_text(f"{token}\n", encoding="ascii")
    print(f"{file}: a new token; the old one ends within the hour")


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
