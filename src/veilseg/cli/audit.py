"""``veilseg audit``."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from veilseg import __version__
from veilseg.bundle import open_client_half, open_server_half
from veilseg.cli.extras import needing
from veilseg.cli.key import read_key
from veilseg.cli.local import LocalServer
from veilseg.cli.progress import progress
from veilseg.cli.site import labelled_references
from veilseg.datasets.layout import read_dataset
from veilseg.errors import OutputNotWritable, WrongUsage
from veilseg.files import write_text_whole
from veilseg.schemes.registry import TAKES_REFERENCES


@dataclass(frozen=True)
class Request:
    """Options of ``veilseg audit``, as typed."""

    bundle: Path
    dataset: Path
    references: str
    key_file: Path | None
    attacks: str | None
    quick: bool
    frontier: bool
    seed: int
    json_file: Path
    html_file: Path


def audit(request: Request) -> None:
    """Attack a bundle on a data set and report what was learned; needs the ``train`` extra."""
    with needing("train", "audits need"):
        from veilseg.audit.cast import cast_of, scene_of
        from veilseg.audit.frontier import swept
        from veilseg.audit.pictures import frontier_plot, rows
        from veilseg.audit.report import page
        from veilseg.audit.run import audit as run
        from veilseg.audit.run import chosen_attacks
        from veilseg.audit.verdict import strongest_attackers
        from veilseg.audit.workshop import FULL, QUICK, Workshop
    names = chosen_attacks(request.attacks)
    for file in (request.json_file, request.html_file):
        if not file.parent.is_dir():
            raise OutputNotWritable(f"{file}: folder {file.parent} does not exist")
    if request.json_file.resolve() == request.html_file.resolve():
        raise WrongUsage("--json and --html: would overwrite each other")
    bundle = open_client_half(request.bundle)
    if request.frontier and bundle.manifest.scheme not in TAKES_REFERENCES:
        raise WrongUsage(f"--frontier: {bundle.manifest.name} mixes nothing: nothing is swept")
    server = LocalServer(open_server_half(request.bundle))
    dataset = read_dataset(request.dataset)
    cast = cast_of(bundle, dataset)
    references = []
    if bundle.manifest.scheme in TAKES_REFERENCES:
        same = Path(request.references).resolve() == request.dataset.resolve()
        of_site = cast.references if same else None
        references = labelled_references(bundle, request.references, of_site)
    with progress("reading") as show:
        scene = scene_of(bundle, server, cast, references, request.seed, show)
    scene = replace(scene, key=read_key(request.key_file))
    if scene.encodes:
        scene.client()  # a key that is missing or another's is told before anything is attacked
    effort = QUICK if request.quick else FULL
    work = request.json_file.with_suffix(".work")
    with progress("audit") as show:
        workshop = Workshop(scene, effort, work, show)
        channels = run(workshop, names)
        points, status = swept(workshop) if request.frontier else ([], "")
        pictures = rows(workshop, strongest_attackers(channels))
    manifest = bundle.manifest
    document = {
        "veilseg": __version__,
        "bundle": manifest.name,
        "bundle_id": manifest.bundle_id,
        "scheme": manifest.scheme,
        "coefficient": scene.coefficient,
        "strength": manifest.settings.get("strength"),
        "references": ("labelled" if references else "synthetic") if scene.mixes else "none",
        "dataset": dataset.name,
        "data_sha256": dataset.content_hash(),
        "effort": effort.name,
        "seed": request.seed,
        "n_audited": len(workshop.audited),
        "n_patients": len({case.patient for case in workshop.audited}),
        "channels": channels,
        **({"frontier": points, "frontier_status": status} if status else {}),
    }
    plot = frontier_plot(points) if points else None
    write_text_whole(request.json_file, json.dumps(document, indent=2, allow_nan=False) + "\n")
    write_text_whole(request.html_file, page(document, pictures, plot, effort.steps))
    for channel, findings in channels.items():
        for one in findings:
            value = "" if one["value"] is None else f" {one['metric']} {one['value']:.3f}"
            print(f"{channel}: {one['attack']} {one['setting']}: {one['status']}{value}")
    if status:
        print(f"frontier: {status}")
    print(f"report: {request.html_file}")
