"""``veilseg contribute``."""

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilseg.binding import client_digest_of
from veilseg.bundle import ClientBundle, open_client_half
from veilseg.cli.extras import needing
from veilseg.cli.key import read_key
from veilseg.cli.progress import progress
from veilseg.client.credentials import Credentials
from veilseg.client.projects import ProjectClient
from veilseg.datasets.layout import Case, Dataset, read_dataset
from veilseg.datasets.lineage import runs_behind
from veilseg.datasets.split import Fold, split_by_patient
from veilseg.errors import BundleIntegrity, InvalidAnswer, WrongUsage
from veilseg.schemes.mixup.mixing import price_of_averaging
from veilseg.schemes.registry import NEEDS_VAULT
from veilseg.vault.vault import Vault

SEED_BYTES = 16


@dataclass(frozen=True)
class Request:
    """Options of ``veilseg contribute``, as typed."""

    dataset: Path
    project: str
    server: str
    bundle: Path
    vault: Path | None
    key_file: Path | None
    token_file: Path | None
    ca: Path | None
    split: str
    views: int
    beside: bool = False


def contribute(request: Request) -> None:
    """Protect labelled cases and give the pairs to a project.

    Raises
    ------
    VeilsegError
        Of the first thing that fails. What was sent stays; the same command goes on.
    """
    with needing("train", "contributing needs"):
        from veilseg.contributing.plan import Plan
        from veilseg.contributing.send import contribute as send
        from veilseg.contribution import PairFormat
        from veilseg.datasets.cases import prepare_case_for
        from veilseg.schemes.contributing import pair_maker
    if request.split not in ("train", "all"):
        raise WrongUsage(f"--split {request.split}: choose train or all")
    bundle = open_client_half(request.bundle)
    dataset = read_dataset(request.dataset)
    cases = _cases(request.split, dataset, bundle.manifest.provenance)
    credentials = Credentials.read(request.token_file, request.ca)
    with (
        _vault(request, bundle) as vault,
        ProjectClient(request.server, request.project, credentials) as client,
        progress(request.project) as show,
    ):
        maker = pair_maker(bundle, vault, read_key(request.key_file))
        try:
            expected = PairFormat.from_json(client.describe()["format"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidAnswer(f"{request.server}: describes no format of pairs") from error
        if client_digest_of(bundle) != expected.client_digest:
            raise BundleIntegrity(
                f"{request.bundle}: another client half than the project's: what different "
                "bundles or keys protect does not fit together"
            )
        prepared = []
        for number, case in enumerate(cases, start=1):
            prepared.append(prepare_case_for(case, bundle.manifest))
            show(number, len(cases), "preparing")
        plan = Plan(
            *(maker, prepared, bundle.manifest, expected, request.views),
            _seed(bundle, dataset, vault),
            dataset.content_hash(),
        )
        if not request.beside:
            _require_first(client, plan.key())
        patients = sorted({case.patient for case in prepared})
        _tell(request, vault, len(prepared), len(patients))
        if vault is not None:
            _record(vault, plan.key(), patients, request.views)
        key = send(plan, client, lambda done, total: show(done, total, "contributing"))
        print(
            f"{request.project}: contribution {key}: {plan.pairs} pairs of {len(prepared)} cases "
            f"in {plan.shards} shards, {client.bytes_sent} bytes"
        )


def _cases(split: str, dataset: Dataset, provenance: Mapping[str, Any]) -> Sequence[Case]:
    """Of the bundle's own data never those by whom it is tested: a fit to them would know them.

    Raises
    ------
    WrongUsage
        If all of them are asked for.
    """
    data = dataset.content_hash()
    own = [run for run in runs_behind(provenance) if run.get("data_sha256") == data]
    if split == "all":
        if own:
            raise WrongUsage(
                "--split all: the bundle was trained on these data and is tested by those it has "
                "not seen: --split train leaves them out"
            )
        return dataset.cases
    fold = own[0].get("fold") if own else None
    return split_by_patient(dataset, Fold.parse(fold) if fold else None).train


def _require_first(client: ProjectClient, key: str) -> None:
    """Raises WrongUsage if this site has given something else: who is in both would count twice."""
    others = [
        one["key"]
        for one in client.contributions()
        if one["key"] != key and one["state"] != "withdrawn"
    ]
    if others:
        raise WrongUsage(
            f"--beside: this site has contributed {', '.join(others)} already, from other cases or "
            "settings: people who are in both would count twice, and more views of them leave; "
            "withdraw it first, or give --beside"
        )


def _seed(bundle: ClientBundle, dataset: Dataset, vault: Vault | None) -> int:
    """The same for the same data, so that an interrupted contribution goes on as it began.

    Where references hide the patient it is secret: the vault's.
    """
    about = [bundle.manifest.protection_id, dataset.content_hash()]
    if vault is not None:
        return int.from_bytes(vault.generator("contribution", *about).bytes(SEED_BYTES))
    return int.from_bytes(hashlib.sha256(":".join(about).encode()).digest()[:SEED_BYTES])


def _tell(request: Request, vault: Vault | None, cases: int, patients: int) -> None:
    """What a contribution costs, before it leaves."""
    what = f"{request.views} protected views of each of {cases} cases of {patients} patients"
    price = "whoever has a site's half decodes the masks, and can learn to turn the images back"
    if vault is not None:
        price = price_of_averaging(request.views)
    print(
        f"veilseg: warning: {what}, and of their masks, leave this site: {price}", file=sys.stderr
    )


def _record(vault: Vault, key: str, patients: list[str], views: int) -> None:
    """Enter the ledger: later proxies of these people are further ones."""
    for patient in patients:
        digests = [
            hashlib.sha256(f"{key}:{patient}:{view}".encode()).hexdigest() for view in range(views)
        ]
        vault.record(patient, *digests, allow_repeat=True)


@contextlib.contextmanager
def _vault(request: Request, bundle: ClientBundle) -> Iterator[Vault | None]:
    if bundle.manifest.scheme not in NEEDS_VAULT:
        yield None
        return
    if request.vault is None:
        raise WrongUsage(
            f"--vault: {bundle.manifest.name} needs one; make it with: "
            f"veilseg site init VAULT --bundle {request.bundle}"
        )
    with Vault.open(request.vault, bundle.manifest.protection_id) as vault:
        yield vault
