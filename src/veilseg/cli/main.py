"""The ``veilseg`` command: options here, work elsewhere; heavy imports wait for a command."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from veilseg.cli import together
from veilseg.cli.bench_options import bench
from veilseg.cli.demo_options import demo
from veilseg.cli.gateway_options import gateway
from veilseg.cli.groups import (
    BundleOption,
    CaOption,
    ClientCertOption,
    ClientKeyOption,
    JsonOption,
    KeyOption,
    MixturesOption,
    ReferencesOption,
    ServersOption,
    TimeoutOption,
    TokenFileOption,
    key,
    log,
    site,
    token,
)
from veilseg.cli.pacs_options import pacs
from veilseg.cli.serve_options import serve
from veilseg.errors import IntegrityError, InvalidInput, ServerError, VeilsegError, WrongUsage

EXIT_INTERRUPTED = 130
# The first branch that an error is of decides; typer's own errors of usage are 2 as well.
EXIT_CODES: dict[type[VeilsegError], int] = {
    WrongUsage: 2,
    InvalidInput: 3,
    ServerError: 4,
    IntegrityError: 5,
}


class InterruptibleGroup(TyperGroup):
    """Says that Ctrl-C was heard; typer by itself ends without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("veilseg: interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)


app = typer.Typer(
    name="veilseg",
    cls=InterruptibleGroup,
    help="Segment medical images on someone else's server without showing it the patient. "
    "Obfuscation whose leaks are measured, not encryption. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
groups = {"site": site, "key": key, "project": together.project, "token": token, "log": log}
for name, group in {**groups, "pacs": pacs, "bench": bench}.items():
    app.add_typer(group, name=name)
app.command()(together.contribute)
app.command()(together.fit)
app.command("serve")(serve)
app.command("demo")(demo)
app.command("gateway")(gateway)


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="Data set in the nnU-Net raw layout.")],
    out: Annotated[Path, typer.Option("--out", help="Bundle folder to write.")],
    scheme: Annotated[
        str,
        typer.Option(
            help="mixup, encoding, plain, or a comparator: noise, deformation, privacy_net."
        ),
    ] = "mixup",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Turned into steps once.", min=0.1)] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    init: Annotated[Path | None, typer.Option(help="Start from this bundle's weights.")] = None,
    fold: Annotated[
        str | None, typer.Option(help="Hold out the I-th of N parts of the patients: I/N.")
    ] = None,
    unmixing: Annotated[
        str, typer.Option(help="learned, or the algebraic baseline without unmixing network.")
    ] = "learned",
    coefficients: Annotated[
        str, typer.Option(help="Where training draws the mixing coefficient from, LOW:HIGH.")
    ] = "0.45:0.55",
    key_file: KeyOption = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How strongly a comparator protects: noise, deformation, privacy_net."),
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="Train a control: linear (encoding) or local (plain).")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the weights, into the manifest and card.")
    ] = "unspecified: follows the training data",
    label_codes: Annotated[
        Path | None, typer.Option(help="JSON of codes for DICOM, as label_codes in dataset.json.")
    ] = None,
) -> None:
    """Train both halves of a scheme and write a bundle."""
    from veilseg.cli.train import train as run

    run(
        *(dataset, scheme, out, steps, minutes, seed, resume, init, fold),
        *(unmixing, coefficients, key_file, strength, control, licence, label_codes),
    )


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of the trained bundle.")],
    dataset: Annotated[Path, typer.Argument(help="Labelled data set.")],
    split: Annotated[
        str, typer.Option(help="test or validation (held out by patient), or all.")
    ] = "all",
    references: ReferencesOption = "synthetic",
    mixtures: MixturesOption = 1,
    coefficient: Annotated[
        float | None, typer.Option(help="Mixing coefficient; default: the bundle's.")
    ] = None,
    key_file: KeyOption = None,
    json_file: JsonOption = None,
) -> None:
    """Measure Dice, HD95, surface Dice and calibration through the real halves."""
    from veilseg.cli.evaluate import Request
    from veilseg.cli.evaluate import evaluate as run

    run(Request(bundle, dataset, split, references, mixtures, coefficient, key_file, json_file))


@app.command()
def segment(
    images: Annotated[
        list[Path], typer.Argument(help="NIfTI, PNG or DICOM; CASE_0000 of several channels.")
    ],
    bundle: BundleOption,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="File like the image's, or a folder for several.")
    ],
    server: ServersOption = None,
    vault: Annotated[Path | None, typer.Option(help="The site's vault (not for plain).")] = None,
    subject: Annotated[
        str | None, typer.Option(help="Who it is; stays here. Default: the file name.")
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option(help="Table of case,patient that says who each image is of.")
    ] = None,
    allow_repeat: Annotated[
        bool, typer.Option("--allow-repeat", help="Send a second, different proxy of a subject.")
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="Run both halves here.")] = False,
    unmixing: Annotated[
        str | None, typer.Option(help="learned or algebraic; default: the bundle's.")
    ] = None,
    key_file: KeyOption = None,
    mixtures: MixturesOption = 1,
    uncertainty: Annotated[
        Path | None,
        typer.Option(help="Write the entropy of each voxel: 0 certain … 1 (255 in PNG) undecided."),
    ] = None,
    save_proxy: Annotated[
        Path | None, typer.Option(help="Write what the server is shown (.nii.gz).")
    ] = None,
    labelmap: Annotated[
        bool,
        typer.Option("--labelmap", help="DICOM: one number per voxel, not one bit per label."),
    ] = False,
    timeout_s: TimeoutOption = 120.0,
    runtime: Annotated[
        str, typer.Option(help="Of this site's networks: onnxruntime, or openvino: faster.")
    ] = "onnxruntime",
    json_file: JsonOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    client_cert: ClientCertOption = None,
    client_key: ClientKeyOption = None,
) -> None:
    """Segment images: protected on a server, or with --local entirely here."""
    from veilseg.cli.segment import Request, segment_all

    segment_all(
        Request(
            images,
            bundle,
            out,
            server or [],
            vault,
            subject,
            subjects,
            allow_repeat,
            local,
            unmixing,
            key_file,
            mixtures,
            uncertainty,
            save_proxy,
            timeout_s,
            runtime,
            json_file,
            token_file,
            ca,
            client_cert,
            client_key,
            "labelmap" if labelmap else "binary",
        )
    )


@app.command()
def audit(
    bundle: Annotated[Path, typer.Argument(help="Folder of the trained bundle, both halves.")],
    dataset: Annotated[
        Path, typer.Argument(help="Labelled data set, best the one the bundle was trained on.")
    ],
    json_file: Annotated[Path, typer.Option("--json", help="Results, for scripts.")],
    html_file: Annotated[Path, typer.Option("--html", help="Report, for people.")],
    references: ReferencesOption = "synthetic",
    key_file: KeyOption = None,
    attacks: Annotated[
        str | None, typer.Option(help="Only these, as in A1,A5; all without.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes instead of an hour: weaker attackers.")
    ] = False,
    frontier: Annotated[
        bool,
        typer.Option("--frontier", help="Also sweep a and the number of references."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Attack a bundle and report what a curious server learns of images, masks and people."""
    from veilseg.cli.audit import Request
    from veilseg.cli.audit import audit as run

    run(
        Request(
            *(bundle, dataset, references, key_file, attacks, quick, frontier, seed),
            *(json_file, html_file),
        )
    )


def exit_code(error: VeilsegError) -> int:
    """Exit code of an error, by its branch of the tree."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def version(show: bool) -> None:
    if show:
        from veilseg import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command; ``--debug`` is looked up by :func:`main`."""


def main() -> None:
    """Run the command line; turn errors into one line and an exit code."""
    try:
        app()
    except VeilsegError as error:
        if "--debug" in sys.argv:
            raise
        print(f"veilseg: {error}", file=sys.stderr)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
