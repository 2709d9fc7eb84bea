"""One project from a first bundle to the version that was fitted, by the commands of all sides.

Whatever is done stays done; what it cost is told of what was done in one piece alone.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.background import run, serving
from evidence.places import Result, read, write
from evidence.runs import VEILSEG, content_hash, synthetic
from veilseg.bundle import open_client_half
from veilseg.client.credentials import Credentials
from veilseg.client.projects import ProjectClient
from veilseg.schemes.registry import NEEDS_VAULT


@dataclass(frozen=True)
class Project:
    """What sites train together.

    Attributes
    ----------
    name : str
    folder : Path
        Of the provider's store and, so that all can be measured here, the sites' secrets.
    bundle : Path
        That it begins with.
    data, references : dict
        Data set of each site; cases that it mixes in, where they are needed.
    steps, views, seed : int
    key : tuple of str
        Option of the sites' consortium key; empty without one. The provider never sees it.
    """

    name: str
    folder: Path
    bundle: Path
    data: Mapping[str, Path]
    references: Mapping[str, Path]
    steps: int
    views: int
    seed: int
    key: tuple[str, ...] = ()

    @property
    def store(self) -> Path:
        """The provider's."""
        return self.folder / "store"

    def token(self, site: str) -> Path:
        """File with a site's token."""
        return self.folder / f"{site}.token"

    def vault(self, site: str) -> Path | None:
        """Of a site; None where the scheme needs none."""
        needed = open_client_half(self.bundle).manifest.scheme in NEEDS_VAULT
        return self.folder / f"{site}.vault" if needed else None

    def definition(self) -> Result:
        """What makes it another project."""
        return {
            "first_bundle_id": open_client_half(self.bundle).manifest.bundle_id,
            "data_sha256": {site: content_hash(folder) for site, folder in self.data.items()},
            "steps": self.steps,
            "views": self.views,
            "seed": self.seed,
        }


def fit_together(project: Project, out: Path) -> Result:
    """Contribute, fit and pull; the bundle that comes of it goes to ``out``, both halves in one.

    Returns
    -------
    dict
        What defines the project; bytes and seconds of each site, seconds of the fit: None for what
        was broken off between.
    """
    _open(project)
    serve = (*VEILSEG, "project", "serve", "--port", "0", "--store", project.store)
    with serving(*serve, ready="listening on ") as url:
        sites = {site: _contributed(project, site, url) for site in project.data}
        fitted = _fitted(project, url)
        _pull(project, url, out)
    return {**project.definition(), **fitted, "cores": os.cpu_count(), "sites": sites}


def _open(project: Project) -> None:
    """The project, tokens and vaults: all of them, or what is there of them is removed."""
    record, wanted = project.folder / "project.json", project.definition()
    if read(record) == wanted:
        return
    shutil.rmtree(project.folder, ignore_errors=True)
    named = (project.name, "--bundle", project.bundle, "--store", project.store)
    run(*VEILSEG, "project", "create", *named)
    for site in project.data:
        invite = (*VEILSEG, "project", "invite", project.name, site, "--store", project.store)
        # Not by run, which logs what a command says.
        token = subprocess.run(invite, check=True, stdout=subprocess.PIPE, text=True).stdout
        project.token(site).touch(mode=0o600)
        project.token(site).write_text(token, encoding="ascii")
        vault = project.vault(site)
        if vault is not None:
            own = not synthetic(open_client_half(project.bundle).manifest)
            source = ("--references", project.references[site]) if own else ()
            run(*VEILSEG, "site", "init", vault, "--bundle", project.bundle, *source)
    write(record, wanted)


def _contributed(project: Project, site: str, url: str) -> Result:
    """What a site's contribution is, and took."""
    file = project.folder / f"{site}.json"
    if (known := read(file)) is not None:
        return known
    with _client(project, site, url) as client:
        whole = not client.contributions()
    vault = project.vault(site)
    options = (*_at(project, site, url), "--bundle", project.bundle, "--views", str(project.views))
    started = time.monotonic()
    secret = () if vault is None else ("--vault", vault)
    named = (project.data[site], "--project", project.name)
    run(*VEILSEG, "contribute", *named, *options, *secret, *project.key)
    seconds = round(time.monotonic() - started, 1)
    with _client(project, site, url) as client:
        (found,) = client.contributions()
    cases = found["pairs"] // project.views
    kept = {name: found[name] for name in ("pairs", "bytes")}
    write(file, {"cases": cases, **kept, "seconds": seconds if whole else None})
    return read(file) or {}


def _fitted(project: Project, url: str) -> Result:
    """What the fit took; one that was broken off goes on."""
    file = project.folder / "fit.json"
    if (known := read(file)) is not None:
        return known
    with _client(project, next(iter(project.data)), url) as client:
        last: dict[str, Any] | None = client.describe()["fit"]
    started = time.monotonic()
    if last is None or last["state"] != "done":
        how = ["--steps", str(project.steps), "--seed", str(project.seed)]
        resume = [] if last is None else ["--resume"]
        run(*VEILSEG, "fit", "--project", project.name, "--store", project.store, *how, *resume)
    seconds = round(time.monotonic() - started, 1)
    write(file, {"seconds": seconds if last is None else None})
    return read(file) or {}


def _pull(project: Project, url: str, out: Path) -> None:
    """By one site as by any; to be measured, both halves lie in one place, as they never do."""
    pulled, site = project.folder / "pulled", next(iter(project.data))
    for old in (pulled, out):
        shutil.rmtree(old, ignore_errors=True)
    with _client(project, site, url) as client:
        newest = max(int(one["number"]) for one in client.describe()["versions"])
    at = (*_at(project, site, url), "--bundle", project.bundle)
    run(*VEILSEG, "project", "pull", project.name, *at, "--out", pulled)
    version = project.store / "models" / project.name / str(newest)
    shutil.copytree(version / "server", pulled / "server")
    pulled.rename(out)


def _at(project: Project, site: str, url: str) -> tuple[str | Path, ...]:
    return "--server", url, "--token-file", project.token(site)


def _client(project: Project, site: str, url: str) -> ProjectClient:
    return ProjectClient(url, project.name, Credentials.read(project.token(site), None))
