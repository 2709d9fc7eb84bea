"""``veilseg segment``."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from veilseg.bundle import ClientBundle, open_client_half, open_server_half
from veilseg.cli.key import read_key
from veilseg.cli.local import LocalServer
from veilseg.cli.outputs import result_files
from veilseg.cli.progress import progress
from veilseg.client.credentials import Credentials
from veilseg.client.group import connected
from veilseg.client.pipeline import channel_files, segment
from veilseg.client.processor import TileProcessor
from veilseg.client.sizes import sizes
from veilseg.datasets.layout import read_patients
from veilseg.errors import VeilsegError, WrongUsage
from veilseg.files import write_text_whole
from veilseg.imaging import nifti
from veilseg.imaging.dicom_marks import ENDING as DICOM_ENDING
from veilseg.imaging.dicom_marks import Kind
from veilseg.imaging.formats import (
    map_endings,
    require_source,
    stem_of,
    write_map,
    write_segmentation,
)
from veilseg.payload import Proxy
from veilseg.runtime import runtime
from veilseg.scheme import ClientHalf
from veilseg.schemes.mixup.client import Unmixing
from veilseg.schemes.registry import NEEDS_VAULT, client_half, price_of_averaging
from veilseg.vault.vault import KEY_BYTES, Vault

SIZE_AS_TOLD = {"volumes_ml": "{:.2f} ml", "areas_mm2": "{:.2f} mm²", "areas_px": "{:.0f} px"}


@dataclass(frozen=True)
class Request:
    """Options of ``veilseg segment``, as typed."""

    images: list[Path]
    bundle: Path
    out: Path
    servers: list[str]
    vault: Path | None
    subject: str | None
    subjects: Path | None
    allow_repeat: bool
    local: bool
    unmixing: str | None
    key_file: Path | None
    mixtures: int
    uncertainty: Path | None
    save_proxy: Path | None
    timeout_s: float
    runtime: str
    json_file: Path | None
    token_file: Path | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    dicom_kind: Kind = "binary"


def segment_all(request: Request) -> None:
    """Segment every image; one that fails does not keep the others from being done.

    Raises
    ------
    VeilsegError
        After all images were tried, of the type of the first failure.
    """
    _require_sensible(request)
    options = (request.uncertainty, request.save_proxy, request.json_file)
    further = [path for path in options if path is not None]
    outputs = result_files(request.images, request.out, further)
    if request.dicom_kind != "binary" and not any(one.suffix == DICOM_ENDING for one in outputs):
        raise WrongUsage("--labelmap: is for DICOM segmentations (-o FILE.dcm)")
    who = _subjects(request)
    bundle = open_client_half(request.bundle)
    if request.save_proxy is not None and bundle.manifest.scheme == "encoding":
        raise WrongUsage("--save-proxy: an encoding is no image that a file could show")
    failures: list[VeilsegError] = []
    results: list[dict[str, Any]] = []
    with (
        _vault(request, bundle) as vault,
        _processor(request, bundle) as processor,
        progress("segmenting") as show,
    ):
        unmixing = cast(Unmixing | None, request.unmixing)
        key = read_key(request.key_file)
        half = client_half(bundle, vault, unmixing, key=key, load=runtime(request.runtime))
        jobs = zip(request.images, outputs, who, strict=True)
        for index, (image, output, subject) in enumerate(jobs):
            note = f"{image.name} ({index + 1} of {len(outputs)})"
            job = _Job(request, bundle, half, vault, processor)
            try:
                found = job.run(
                    image, output, subject, lambda done, total, n=note: show(done, total, n)
                )
            except VeilsegError as failure:
                failures.append(_naming(image, failure))
                if len(outputs) > 1:
                    print(f"veilseg: {failures[-1]}", file=sys.stderr)
                continue
            results.append({"image": str(image), "output": str(output), **found})
    if request.json_file is not None:
        document = {
            "bundle": bundle.manifest.name,
            "bundle_id": bundle.manifest.bundle_id,
            "scheme": bundle.manifest.scheme,
            "images": results,
        }
        write_text_whole(request.json_file, json.dumps(document, indent=2) + "\n")
    if failures and len(outputs) == 1:
        raise failures[0]
    if failures:
        # Each was told when it happened; the first decides the exit code.
        summary = f"{len(failures)} of {len(outputs)} images failed, see above"
        raise type(failures[0])(summary) from failures[0]


@dataclass(frozen=True)
class _Job:
    """What all images of a request share."""

    request: Request
    bundle: ClientBundle
    half: ClientHalf
    vault: Vault | None
    processor: TileProcessor

    def run(self, image: Path, output: Path, subject: str, report: Any) -> dict[str, Any]:
        manifest = self.bundle.manifest
        files = channel_files(image, manifest)

        def before_sending(proxies: Sequence[Proxy]) -> None:
            require_source(output, files, manifest)
            if self.vault is not None and not self.request.local:
                self._record(self.vault, image, subject, proxies)
            if self.request.save_proxy is not None:
                nifti.write_array(self.request.save_proxy, proxies[0].array)

        result = segment(
            files,
            subject,
            manifest,
            self.half,
            self.processor,
            before_sending,
            report,
            self.request.mixtures,
            self.request.uncertainty is not None,
        )
        for warning in result.warnings:
            print(f"veilseg: {image}: warning: {warning}", file=sys.stderr)
        write_segmentation(output, result.labels, files, manifest, self.request.dicom_kind)
        if self.request.uncertainty is not None and result.uncertainty is not None:
            write_map(self.request.uncertainty, result.uncertainty, result.labels.geometry)
        quantity, size = sizes(result.labels, manifest)
        told = (f"{name} {SIZE_AS_TOLD[quantity].format(value)}" for name, value in size.items())
        print(f"{output}: {', '.join(told)}")
        return {
            quantity: {name: round(value, 4) for name, value in size.items()},
            "warnings": result.warnings,
            "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
            "bytes_sent": result.bytes_sent,
            "bytes_received": result.bytes_received,
        }

    def _record(self, vault: Vault, image: Path, subject: str, proxies: Sequence[Proxy]) -> None:
        """Enter in the ledger what is about to leave, and say what it costs."""
        digests = [proxy.digest() for proxy in proxies]
        known = vault.record(subject, *digests, allow_repeat=self.request.allow_repeat)
        mixtures = len(digests)
        if mixtures > 1:
            price = price_of_averaging(self.bundle.manifest.scheme, mixtures)
            print(f"veilseg: {image}: warning: {price}", file=sys.stderr)
        if known > mixtures:
            print(
                f"veilseg: {image}: warning: this server now has {known} different proxies "
                "of this subject and can average them",
                file=sys.stderr,
            )


def _naming(image: Path, error: VeilsegError) -> VeilsegError:
    """The same error, its message beginning with the image unless it does so already."""
    beginnings = (str(image.parent / stem_of(image)), f"{image}: ")
    return error if str(error).startswith(beginnings) else type(error)(f"{image}: {error}")


def _require_sensible(request: Request) -> None:
    if request.local == bool(request.servers):
        raise WrongUsage("give either --server URL or --local")
    if request.unmixing not in (None, *get_args(Unmixing)):
        raise WrongUsage(f"--unmixing {request.unmixing}: choose learned or algebraic")
    if len(request.images) > 1 and request.subject is not None:
        raise WrongUsage("--subject: names one image; segment several subjects one by one")
    if len(request.images) > 1 and request.uncertainty is not None:
        raise WrongUsage("--uncertainty: takes one image at a time")
    if request.uncertainty is not None:
        allowed = map_endings(request.images[0])
        if not request.uncertainty.name.lower().endswith(allowed):
            raise WrongUsage(
                f"{request.uncertainty}: --uncertainty must end in {' or '.join(allowed)}"
            )
    if request.subject is not None and request.subjects is not None:
        raise WrongUsage("--subject and --subjects: give one of them")
    if len(request.images) > 1 and request.save_proxy is not None:
        raise WrongUsage("--save-proxy: takes one image at a time")
    if request.save_proxy is not None and request.mixtures > 1:
        raise WrongUsage("--save-proxy: writes one proxy; not with --mixtures")
    if request.save_proxy is not None and not request.save_proxy.name.endswith(nifti.ENDINGS):
        raise WrongUsage(f"{request.save_proxy}: --save-proxy must end in .nii.gz or .nii")


def _subjects(request: Request) -> list[str]:
    """Who each image is of: as told, or by the name of the file."""
    names = [stem_of(image) for image in request.images]
    if request.subjects is not None:
        patients = read_patients(request.subjects, names)
        return [patients[name] for name in names]
    return names if request.subject is None else [request.subject] * len(names)


@contextlib.contextmanager
def _vault(request: Request, bundle: ClientBundle) -> Iterator[Vault | None]:
    if bundle.manifest.scheme not in NEEDS_VAULT:
        yield None
    elif request.vault is not None:
        with Vault.open(request.vault, bundle.manifest.protection_id) as vault:
            # A file name need not be the patient id by which a reference of one's own is left out.
            untold = request.subject is None and request.subjects is None
            if vault.has_labelled_references and untold:
                raise WrongUsage(
                    "--subject, --subjects: say who it is, as in the references' cases.csv: nobody "
                    "must be mixed with their own image"
                )
            yield vault
    elif request.local:
        # Nothing leaves, so nothing has to be secret; a fixed key makes runs repeatable.
        with Vault.in_memory(bytes(KEY_BYTES)) as vault:
            yield vault
    else:
        raise WrongUsage(
            f"--vault: {bundle.manifest.name} needs one; make it with: "
            f"veilseg site init VAULT --bundle {request.bundle}"
        )


@contextlib.contextmanager
def _processor(request: Request, bundle: ClientBundle) -> Iterator[TileProcessor]:
    if not request.servers:
        yield LocalServer(open_server_half(request.bundle), runtime(request.runtime))
        return
    credentials = Credentials.read(
        request.token_file, request.ca, request.client_cert, request.client_key
    )
    with connected(request.servers, bundle.manifest, request.timeout_s, credentials) as remote:
        yield remote
