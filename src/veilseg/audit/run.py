"""All attacks, one after the other; what was found stays found."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from veilseg.audit.attacks import (
    averaging,
    blind_inversion,
    deep_image_prior,
    encoded_masks,
    encoded_people,
    follow_up,
    gallery,
    inversion,
    key_recovery,
    layout,
    mask_recovery,
    matching,
    membership,
    reference_person,
    reidentification,
    separation,
    shared_components,
    shared_reference,
    support,
)
from veilseg.audit.findings import CHANNELS, CONTROL_FAILED, RUN, Finding, NotRun
from veilseg.audit.workshop import Workshop
from veilseg.errors import VeilsegError, WrongUsage
from veilseg.files import write_text_whole

Attack = Callable[[Workshop], list[Finding]]
Documents = list[dict[str, Any]]


@dataclass(frozen=True)
class Listed:
    """An attack, its finding without an outcome, and the fewest patients that say anything."""

    finding: Finding
    attack: Attack
    least_patients: int = 4


# In the order of the report; what needs no training first.
LISTED = (
    Listed(support.FINDING, support.attack, 2),
    Listed(averaging.FINDING, averaging.attack),
    Listed(follow_up.FINDING, follow_up.attack),
    Listed(shared_reference.FINDING, shared_reference.attack),
    Listed(shared_components.FINDING, shared_components.attack, 8),
    Listed(gallery.FINDING, gallery.attack, 1),
    Listed(separation.FINDING, separation.attack),
    Listed(reference_person.IMAGE, reference_person.image),
    Listed(deep_image_prior.FINDING, deep_image_prior.attack),
    Listed(inversion.FINDING, inversion.attack),
    Listed(blind_inversion.FINDING, blind_inversion.attack),
    Listed(key_recovery.FINDING, key_recovery.attack, 1),
    Listed(layout.PICTURE, layout.picture),
    Listed(mask_recovery.FINDING, mask_recovery.attack),
    Listed(reference_person.MASK, reference_person.mask),
    Listed(encoded_masks.FINDING, encoded_masks.attack),
    Listed(layout.LINKAGE, layout.linkage),
    Listed(matching.FINDING, matching.attack),
    Listed(encoded_people.FINDING, encoded_people.attack),
    Listed(reidentification.FINDING, reidentification.attack),
    Listed(reference_person.IDENTITY, reference_person.identity),
    Listed(membership.FINDING, membership.attack, 2),
    Listed(membership.OF_HALF, membership.attack_by_half, 2),
)
ATTACKS = {listed.finding.attack: listed for listed in LISTED}


def chosen_attacks(names: str | None) -> tuple[str, ...]:
    """Read ``A1,A5``; None for all.

    Raises
    ------
    WrongUsage
        If there is no such attack.
    """
    if names is None:
        return tuple(ATTACKS)
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in ATTACKS:
            raise WrongUsage(f"--attacks {name}: there are {', '.join(ATTACKS)}")
    return tuple(name for name in ATTACKS if name in wanted)


def audit(workshop: Workshop, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Run attacks and give their findings by channel, as documents for JSON.

    An attack that cannot run on these data is there with its reason; one that ran before, on the
    same bundle and people with the same effort, is read from the workshop's folder.
    """
    channels: dict[str, list[dict[str, Any]]] = {channel: [] for channel in CHANNELS}
    for number, name in enumerate(names):
        workshop.report(number, len(names), name)
        channels[ATTACKS[name].finding.channel] += remembered(
            workshop, name, partial(_found, name, workshop)
        )
    workshop.report(len(names), len(names), "")
    return channels


def remembered(workshop: Workshop, name: str, make: Callable[[], Documents]) -> Documents:
    """What was found before on the same bundle and people with the same effort, or is found now."""
    file = workshop.folder / f"{name}-{_key(workshop, name)}.json"
    if file.is_file():
        documents: Documents = json.loads(file.read_text(encoding="utf-8"))
        return documents
    documents = make()
    if any(one.get("status", RUN) not in (RUN, CONTROL_FAILED) for one in documents):
        return documents  # next time it may be possible
    workshop.folder.mkdir(parents=True, exist_ok=True)
    write_text_whole(file, json.dumps(documents, indent=2, allow_nan=False) + "\n")
    return documents


def _found(name: str, workshop: Workshop) -> Documents:
    """The data may not allow an attack; the others still run, and none is left out in silence."""
    listed = ATTACKS[name]
    patients = len({case.patient for case in workshop.audited})
    try:
        if patients < listed.least_patients:
            raise NotRun(f"{patients} patients to audit: {listed.least_patients} are needed")
        findings = listed.attack(workshop)
        if workshop.scene.encodes_images:  # proxies of its own are made by a site's half
            findings = [
                replace(one, threat=replace(one.threat, colluding_site=True)) for one in findings
            ]
    except NotRun as error:
        findings = [listed.finding.not_run(str(error), error.status)]
    except (VeilsegError, MemoryError) as error:
        findings = [listed.finding.not_run(str(error) or "it takes more memory than there is")]
    return [finding.document() for finding in findings]


def _key(workshop: Workshop, name: str) -> str:
    parts = [name, asdict(workshop.effort), workshop.scene.seed, workshop.scene.fingerprint()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
