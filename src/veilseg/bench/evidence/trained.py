"""The bundle of a cell: one that was trained before, by whomever, or trained now."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilseg.bench.evidence.cells import Run, digest
from veilseg.bench.evidence.children import Note, veilseg
from veilseg.bundle import ClientManifest, open_client_half, open_server_half
from veilseg.datasets.layout import read_dataset
from veilseg.errors import InvalidInput, VeilsegError
from veilseg.schemes.encoding.key import ConsortiumKey


@dataclass(frozen=True)
class Places:
    """Folders of a measurement.

    Attributes
    ----------
    data : Path
        Data sets by their folders' names, never written to.
    work : Path
        What is under way, and the sites' key.
    elsewhere : tuple of Path
        Folders with bundles that were trained for something else.
    """

    data: Path
    work: Path
    elsewhere: tuple[Path, ...] = ()

    @property
    def key_file(self) -> Path:
        """The key that the sites of this measurement share."""
        return self.work / "consortium.key"

    def key(self) -> ConsortiumKey:
        """Made once; without it, what was trained with it is of no use."""
        if not self.key_file.is_file():
            self.key_file.parent.mkdir(parents=True, exist_ok=True)
            ConsortiumKey.new().write(self.key_file)
        return ConsortiumKey.read(self.key_file)

    def own(self, run: Run) -> Path:
        """Where this run, and no other, is trained."""
        return self.work / "evidence" / "trained" / f"{run.name}-{digest(self.defined(run))}"

    def cell_folder(self, name: str, wanted: str) -> Path:
        """Where what is found out about a cell is kept until all of it is."""
        return self.work / "evidence" / "cells" / f"{name}-{wanted}"

    def defined(self, run: Run) -> dict[str, Any]:
        """What makes it this run, on the data and with the key that are here."""
        fingerprint = self.key().fingerprint() if run.keyed else ""
        return run.defined(content_hash(self.data / run.data.folder), fingerprint)

    def key_options(self, run: Run) -> list[str | Path]:
        """Of every command that is given its bundle."""
        return ["--key", self.key_file] if run.keyed else []


def bundle_of(run: Run, places: Places, note: Note) -> Path:
    """A finished bundle of this very run, trained where there is none; goes on where it was.

    Raises
    ------
    VeilsegError
        If it cannot be trained.
    """
    there = next(finished(run, places), None)
    if there is not None:
        return there[0]
    options: list[str | Path] = ["--scheme", run.scheme, "--steps", str(run.steps)]
    options += ["--seed", str(run.seed), "--licence", run.data.licence, *places.key_options(run)]
    if run.data.fold:
        options += ["--fold", run.data.fold]
    if run.start is not None:
        options += ["--init", bundle_of(run.start, places, note)]
    out = places.own(run)
    source = places.data / run.data.folder
    veilseg("train", source, "--out", out, "--resume", *options, note=note)
    there = next(finished(run, places), None)
    if there is None:
        raise InvalidInput(f"{out}: trained, and not the run that was asked for: delete it")
    return there[0]


def finished(run: Run, places: Places) -> Iterator[tuple[Path, ClientManifest]]:
    """Every whole bundle of this very run, its own folder first."""
    wanted = places.defined(run)
    starts = None
    if run.start is not None:
        starts = {manifest.bundle_id for _, manifest in finished(run.start, places)}
    elsewhere = [one for folder in places.elsewhere for one in sorted(folder.glob("[!.]*"))]
    for folder in (places.own(run), *elsewhere):
        manifest = _whole(folder)
        if manifest is not None and is_run(manifest, wanted, starts):
            yield folder, manifest


def is_run(
    manifest: ClientManifest, wanted: Mapping[str, Any], starts: set[str] | None = None
) -> bool:
    """Whether a bundle is of this run.

    Parameters
    ----------
    manifest : ClientManifest
    wanted : mapping
        As :meth:`~veilseg.bench.evidence.cells.Run.defined` gives it.
    starts : set of str or None
        Ids of the bundles that it may have gone on from; None: it began with nothing.
    """
    told = manifest.provenance
    recipe = dict(wanted["recipe"])
    if told.get("batch", 1) > 1:
        # Tiles of which a step takes several are never cut, whatever share of the steps may be.
        recipe["cropped_share"] = (told.get("recipe") or {}).get("cropped_share")
    same = {name: wanted[name] for name in ("steps", "seed", "fold", "data_sha256", "variant")}
    found = {name: told.get(name) for name in same}
    found |= {name: found[name] or "" for name in ("fold", "variant")}
    start = (told.get("init") or {}).get("bundle_id")
    begun = start is None if starts is None else start in starts
    return (manifest.scheme, found, told.get("recipe"), begun) == (
        *(wanted["scheme"], same, recipe),
        True,
    )


def _whole(folder: Path) -> ClientManifest | None:
    """The manifest of a bundle whose halves verify and belong together."""
    if not (folder / "client" / "manifest.json").is_file():
        return None
    try:
        client, server = open_client_half(folder), open_server_half(folder)
    except VeilsegError:
        return None
    belong = client.manifest.bundle_id == server.manifest.bundle_id
    return client.manifest if belong else None


@functools.cache
def content_hash(dataset: Path) -> str:
    """Of a data set; it is read once."""
    return read_dataset(dataset).content_hash()
