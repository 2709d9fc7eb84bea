"""Options of ``veilseg pacs``."""

from pathlib import Path
from typing import Annotated

import typer

from veilseg.cli.groups import (
    BundlesOption,
    CaOption,
    ClientCertOption,
    ClientKeyOption,
    KeyOption,
    LocalOption,
    ServersOption,
    TimeoutOption,
    TokenFileOption,
    VaultsOption,
)

pacs = typer.Typer(help="Segment what the PACS holds, and store it there.", no_args_is_help=True)

RulesOption = Annotated[
    list[str],
    typer.Option(
        "--rule",
        help="[MODEL:]ATTRIBUTE=PATTERN[,ATTRIBUTE=PATTERN…], e.g. Modality=MR,"
        "SeriesDescription=*t1*; again for each further rule.",
    ),
]
StateOption = Annotated[
    Path, typer.Option("--state", help="Private folder that remembers what is done.")
]
RepeatOption = Annotated[
    bool, typer.Option("--allow-repeat", help="Segment further studies of a patient, too.")
]
SettleOption = Annotated[
    float, typer.Option(help="A series is complete when no image came for so long.", min=0)
]
LogOption = Annotated[str, typer.Option(help="text or json.")]


@pacs.command("watch")
def watch(
    dicomweb: Annotated[str, typer.Option(help="Address of the PACS' DICOMweb service.")],
    rules: RulesOption,
    bundles: BundlesOption,
    state: StateOption,
    servers: ServersOption = None,
    vaults: VaultsOption = None,
    local: LocalOption = False,
    days: Annotated[int, typer.Option(help="How old a study may be; 0 for any age.", min=0)] = 7,
    every_s: Annotated[float, typer.Option(help="Between two looks.", min=0.1)] = 30,
    settle_s: SettleOption = 60,
    once: Annotated[bool, typer.Option("--once", help="End when nothing is left to do.")] = False,
    allow_repeat: RepeatOption = False,
    pacs_auth: Annotated[
        Path | None,
        typer.Option(help="Private file with the Authorization header's value for the PACS."),
    ] = None,
    pacs_ca: Annotated[Path | None, typer.Option(help="Who vouches for the PACS (PEM).")] = None,
    timeout_s: TimeoutOption = 120.0,
    key_file: KeyOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    client_cert: ClientCertOption = None,
    client_key: ClientKeyOption = None,
    log_format: LogOption = "text",
) -> None:
    """Segment new studies that match a rule; store DICOM segmentations beside them."""
    from veilseg.cli.halves import Route
    from veilseg.cli.pacs import Task
    from veilseg.cli.pacs import watch as run

    route = Route(
        *(bundles, servers or [], vaults or [], local, key_file, timeout_s),
        *(token_file, ca, client_cert, client_key),
    )
    task = Task(route, rules, state, allow_repeat, every_s, settle_s, once, log_format)
    run(task, dicomweb, days, pacs_auth, pacs_ca)


@pacs.command("listen")
def listen(
    rules: RulesOption,
    bundles: BundlesOption,
    state: StateOption,
    store: Annotated[str, typer.Option(help="Where segmentations go by C-STORE: TITLE@HOST:PORT.")],
    servers: ServersOption = None,
    vaults: VaultsOption = None,
    local: LocalOption = False,
    title: Annotated[str, typer.Option(help="Title that senders call.")] = "VEILSEG",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 11112,
    callers: Annotated[
        list[str] | None, typer.Option("--from", help="Title that may call; repeatable.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="Let in only senders with certificates of this authority.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen to other machines without certificates.")
    ] = False,
    settle_s: SettleOption = 30,
    allow_repeat: RepeatOption = False,
    timeout_s: TimeoutOption = 120.0,
    key_file: KeyOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    client_cert: ClientCertOption = None,
    client_key: ClientKeyOption = None,
    log_format: LogOption = "text",
) -> None:
    """Receive series by C-STORE (and answer C-ECHO), segment them, send segmentations on."""
    from veilseg.cli.halves import Route
    from veilseg.cli.pacs import Ear, Task
    from veilseg.cli.pacs import listen as run

    route = Route(
        *(bundles, servers or [], vaults or [], local, key_file, timeout_s),
        *(token_file, ca, client_cert, client_key),
    )
    every_s = min(5.0, max(0.1, settle_s))
    task = Task(route, rules, state, allow_repeat, every_s, settle_s, False, log_format)
    ear = Ear(title, host, port, tuple(callers or ()), tls_cert, tls_key, client_ca, insecure)
    run(task, ear, store)


@pacs.command("list")
def show(state: StateOption) -> None:
    """Print what became of each series, with its UID: for this site's eyes only."""
    from veilseg.cli.pacs import show as run

    run(state)
