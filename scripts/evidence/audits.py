"""What is audited, and where its findings are kept."""

from dataclasses import dataclass

from evidence.background import run
from evidence.jobs import BRAIN, CARDIAC, HIPPOCAMPUS, Data, curve_name, keyed_name
from evidence.places import Places, Result, read, source_state
from evidence.runs import VEILSEG, key_options
from veilseg.bundle import open_client_half


@dataclass(frozen=True)
class Audit:
    """One run of ``veilseg audit``.

    Attributes
    ----------
    name : str
        Of the results.
    bundle : str
        Shipped, or else trained for the claims.
    data : Data
    labelled : bool
        Whether the site's references are labelled cases of the same data.
    keyed : bool
        Whether the bundle was trained with the consortium key of the claims.
    options : tuple of str
    """

    name: str
    bundle: str
    data: Data
    labelled: bool = False
    keyed: bool = False
    options: tuple[str, ...] = ()


MIXUP = Audit("audit-hippocampus-mixup", f"{HIPPOCAMPUS.name}-mixup", HIPPOCAMPUS)
# The sweep has networks of its own, which take as long as all attacks: here with the cheapest.
FRONTIER = Audit(
    "audit-hippocampus-frontier",
    MIXUP.bundle,
    HIPPOCAMPUS,
    options=("--attacks", "A4", "--frontier"),
)
# What is open needs no effort to be seen.
PLAIN = Audit(
    "audit-hippocampus-plain", f"{HIPPOCAMPUS.name}-plain", HIPPOCAMPUS, options=("--quick",)
)
LABELLED = Audit(
    *("audit-hippocampus-labelled", MIXUP.bundle, HIPPOCAMPUS),
    labelled=True,
    options=("--attacks", "A5,A5r,A16,A16r,A15,A15r"),
)
# Trained for a from 0.2 to 0.9, so that the mask is attacked at other coefficients than a half.
CURVE = Audit(
    *("audit-hippocampus-curve", curve_name("learned"), HIPPOCAMPUS),
    options=("--attacks", "A16"),
)
# Two frames of each person: who it is can be asked with real second images.
HEART = Audit(
    *("audit-cardiac-mixup", f"{CARDIAC.name}-mixup", CARDIAC),
    labelled=True,
    options=("--quick", "--attacks", "A5,A5r,A16,A16r,A15,A15r,A14"),
)
WHOLE_BRAIN = Audit(
    *("audit-brain-tissue-mixup", f"{BRAIN.name}-mixup", BRAIN),
    options=("--quick", "--attacks", "A5,A16,A15"),
)
ENCODED = Audit("audit-hippocampus-encoding", keyed_name(False, 0), HIPPOCAMPUS)
# Apart, for it needs nothing of what the others learn.
HALF = Audit("audit-hippocampus-half", ENCODED.bundle, HIPPOCAMPUS, options=("--attacks", "A14e"))
KEYED = Audit("audit-hippocampus-keyed", keyed_name(True, 0), HIPPOCAMPUS, keyed=True)
AUDITS = (MIXUP, FRONTIER, PLAIN, LABELLED, CURVE, HEART, WHOLE_BRAIN, ENCODED, HALF, KEYED)


def audit(job: Audit, places: Places, again: bool) -> None:
    """Audit a bundle unless its findings are there; what was broken off goes on."""
    shipped = places.models / job.bundle
    bundle = shipped if shipped.is_dir() else places.bundle(job.bundle)
    bundle_id = open_client_half(bundle).manifest.bundle_id
    old = places.load(job.name)
    if old is not None and not again and old["bundle_id"] == bundle_id:
        return
    folder = places.work / "audits"
    folder.mkdir(parents=True, exist_ok=True)
    files = {kind: folder / f"{job.name}.{kind}" for kind in ("json", "html")}
    source = places.data / job.data.folder
    options = [*job.options, *(["--references", str(source)] if job.labelled else [])]
    options += key_options(places) if job.keyed else []
    commit = source_state()
    where = ("--json", files["json"], "--html", files["html"])
    run(*VEILSEG, "audit", bundle, source, *options, *where)
    places.store(job.name, {**(read(files["json"]) or {}), "commit": commit})


def findings(result: Result, channel: str, attack: str | None = None) -> list[Result]:
    """Of an audit: those of a channel, or of one attack in it."""
    found: list[Result] = result["channels"][channel]
    return [one for one in found if attack is None or one["attack"] == attack]
