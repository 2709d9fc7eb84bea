"""Options of ``veilseg bench``."""

from pathlib import Path
from typing import Annotated

import typer

from veilseg.cli.groups import KeyOption

bench = typer.Typer(
    help="Measure speed beside what else one could use, and every scheme; on an idle machine.",
    no_args_is_help=True,
)

JsonFile = Annotated[Path, typer.Option("--json", help="Results, for scripts.")]
Threads = Annotated[int, typer.Option(help="Of each contender's network.", min=1)]
Bundles = Annotated[list[Path], typer.Argument(help="Folders of bundles, both halves.")]


@bench.command("runtime")
def runtime(
    bundles: Bundles,
    json_file: JsonFile,
    threads: Threads = 1,
    budget_s: Annotated[
        float, typer.Option("--budget-s", help="Timed seconds for each network.", min=0)
    ] = 60.0,
    dataset: Annotated[
        list[Path] | None,
        typer.Option(
            help="Also compare Dice after recovery, of what was trained on this data set."
        ),
    ] = None,
    references: Annotated[str, typer.Option(help="As for veilseg evaluate.")] = "synthetic",
    cases: Annotated[int, typer.Option(help="So many unseen cases of it.", min=1)] = 20,
) -> None:
    """Compute networks in torch, ONNX Runtime and OpenVINO; compare times and answers."""
    from veilseg.cli.bench import RuntimeRequest
    from veilseg.cli.bench import runtime as run

    run(RuntimeRequest(bundles, json_file, threads, budget_s, dataset or [], references, cases))


@bench.command("serve")
def serve(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, both halves.")],
    json_file: JsonFile,
    threads: Threads = 1,
    budget_s: Annotated[
        float, typer.Option("--budget-s", help="Seconds of load for all servers together.", min=0)
    ] = 600.0,
    clients: Annotated[
        list[int] | None, typer.Option(help="At a time; again for others. Default: 1, 8, 32.")
    ] = None,
    replicas: Annotated[
        list[int] | None, typer.Option(help="Of our server; again for others. Default: 1, 2.")
    ] = None,
    peers: Annotated[
        Path, typer.Option(help="Environments of other servers, as make bench-peers makes them.")
    ] = Path(".venv/peers"),
) -> None:
    """Load our server, Triton and plain Ray Serve with the same tiles, beside a bare loop."""
    from veilseg.cli.bench import ServeRequest
    from veilseg.cli.bench import serve as run

    run(
        ServeRequest(
            bundle, json_file, threads, budget_s, clients or [1, 8, 32], replicas or [1, 2], peers
        )
    )


@bench.command("site")
def site(
    bundles: Bundles,
    dataset: Annotated[Path, typer.Option(help="Data set whose images are segmented.")],
    json_file: JsonFile,
    images: Annotated[
        int, typer.Option("--budget-images", help="So many images count.", min=1)
    ] = 20,
    runtime: Annotated[str, typer.Option(help="As for veilseg segment.")] = "onnxruntime",
    key_file: KeyOption = None,
) -> None:
    """Tell where a site's time goes: read, protect, tile, wire, wait, recover, write."""
    from veilseg.cli.bench import SiteRequest
    from veilseg.cli.bench import site as run

    run(SiteRequest(bundles, dataset, json_file, images, runtime, key_file))


@bench.command("soak")
def soak(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle with its server half.")],
    json_file: JsonFile,
    minutes: Annotated[float, typer.Option(min=0.01)] = 30.0,
    load: Annotated[
        float, typer.Option(help="Of the most that the server answers.", min=0.01, max=0.99)
    ] = 0.8,
    clients: Annotated[int, typer.Option(help="Connections.", min=1)] = 8,
    threads: Threads = 1,
) -> None:
    """Load our server for half an hour: failures, time of answers, and whether its memory grows."""
    from veilseg.cli.bench import SoakRequest
    from veilseg.cli.bench import soak as run

    run(SoakRequest(bundle, json_file, minutes, load, clients, threads))


@bench.command("volume")
def volume(
    bundles: Bundles,
    json_file: JsonFile,
    shape: Annotated[str, typer.Option(help="Of the made-up image.")] = "512x512x400",
) -> None:
    """Segment a large image on a server: memory of the site and of the server, progress."""
    from veilseg.cli.bench import volume as run

    run(bundles, json_file, shape)


@bench.command("families")
def families(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle with its server half.")],
    json_file: JsonFile,
    threads: Annotated[int, typer.Option(help="Of each process.", min=1)] = 1,
    budget_s: Annotated[
        float, typer.Option("--budget-s", help="Seconds by turns; three rounds at least.", min=0)
    ] = 60.0,
    peers: Annotated[
        Path, typer.Option(help="Environments, as make bench-families makes them.")
    ] = Path(".venv/peers"),
) -> None:
    """Compute one layer in CrypTen and TenSEAL; estimate the network from it."""
    from veilseg.cli.bench_families import families as run

    run(bundle, json_file, threads, budget_s, peers)


@bench.command("plan")
def plan(
    calibration: Annotated[Path, typer.Argument(help="JSON of veilseg bench serve.")],
    json_file: JsonFile,
    tiles_per_scan: Annotated[int, typer.Option(min=1)] = 8,
    under_way: Annotated[int, typer.Option(help="Tiles of a scan at a time.", min=1)] = 2,
    load: Annotated[float, typer.Option(help="Of the replicas.", min=0.01, max=0.99)] = 0.8,
    site_mbit_per_s: Annotated[float, typer.Option(help="A site's link.", min=0.1)] = 100.0,
    front_mbit_per_s: Annotated[float, typer.Option(help="A front's link.", min=0.1)] = 10_000.0,
    price_per_core_hour: Annotated[float, typer.Option(min=0)] = 0.05,
) -> None:
    """Simulate up to 1,000 replicas from what bench serve measured: latency, cost, what breaks."""
    from veilseg.cli.bench import PlanRequest
    from veilseg.cli.bench import plan as run

    run(
        PlanRequest(
            *(calibration, json_file, tiles_per_scan, under_way, load),
            *(site_mbit_per_s, front_mbit_per_s, price_per_core_hour),
        )
    )


@bench.command("evidence")
def evidence(
    json_file: JsonFile,
    data: Annotated[
        Path, typer.Option(envvar="VEILSEG_DATA", help="Folder of the data sets.")
    ] = Path("../shared/data"),
    work: Annotated[
        Path, typer.Option(envvar="VEILSEG_WORK", help="What is under way; bundles to be reused.")
    ] = Path("build/claims"),
    bundles: Annotated[
        list[Path] | None, typer.Option(help="Further bundles to be reused. Default: models.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Cells by name or pattern, as 'cardiac-*-0'; again.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of each chosen cell; default: its data set's.", min=1)
    ] = None,
    audit: Annotated[
        str | None,
        typer.Option(help="full, quick or none; default: full for seed 0, else quick."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="What is measured already, too.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Show cells and how far they are.")] = False,
    repeat: Annotated[
        str | None, typer.Option(help="Measure this cell afresh: 0 if Dice is within, 1 if not.")
    ] = None,
) -> None:
    """Train, evaluate, attack and time every scheme on every data set; goes on where it was."""
    from veilseg.cli.bench_evidence import EvidenceRequest
    from veilseg.cli.bench_evidence import evidence as run

    run(
        EvidenceRequest(
            *(json_file, data, work, bundles or [Path("models")], only or [], steps, audit),
            *(again, show, repeat),
        )
    )
