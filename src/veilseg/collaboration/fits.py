"""Records of fits: what was used, how far it is, how it ended."""

import time
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from veilseg.collaboration.errors import Conflict, UnknownObject
from veilseg.collaboration.projects import now
from veilseg.collaboration.tables import (
    COMPLETE,
    DONE,
    FAILED,
    RUNNING,
    Contribution,
    Fit,
    Loss,
    Project,
    Shard,
    Site,
)

SECONDS_BETWEEN_RECORDS = 2.0
CURVE_POINTS = 100  # of a fit's loss, at the same steps whatever it runs on


def begin(session: Session, project: Project, steps: int, seed: int) -> Fit:
    """Record a fit to all that is complete now.

    Raises
    ------
    UnknownObject
        If there is nothing to fit to.
    """
    manifest = whole_contributions(session, project)
    if not manifest:
        raise UnknownObject(f"project {project.name}: no whole contribution to fit to")
    moment = now()
    fit = Fit(
        project_id=project.id,
        steps=steps,
        seed=seed,
        started=moment,
        updated=moment,
        manifest=manifest,
    )
    session.add(fit)
    session.flush()
    return fit


def last_unfinished(session: Session, project: Project) -> Fit:
    """The newest fit, which has not ended well. Raises Conflict if there is none."""
    own = select(Fit).where(Fit.project_id == project.id).order_by(Fit.id.desc()).limit(1)
    fit = session.scalar(own)
    if fit is None or fit.state == DONE:
        raise Conflict(f"--resume: project {project.name} has no fit that did not end")
    fit.state = RUNNING
    return fit


def outdated(session: Session, project: Project) -> list[int]:
    """Fits that did not end well, of what is not all there any more."""
    unfinished = select(Fit).where(Fit.project_id == project.id, Fit.state != DONE)
    still = {one["contribution"] for one in whole_contributions(session, project)}
    return [
        fit.id
        for fit in session.scalars(unfinished)
        if not {one["contribution"] for one in fit.manifest} <= still
    ]


def whole_contributions(
    session: Session, project: Project, locked: bool = False
) -> list[dict[str, Any]]:
    """Contributions that are complete, with their shards, in an order that does not change.

    ``locked``: none of them is withdrawn before the transaction ends.
    """
    own = (
        select(Contribution)
        .join(Site)
        .where(Site.project_id == project.id, Contribution.state == COMPLETE)
        .order_by(Contribution.id)
    )
    if locked:
        own = own.with_for_update(of=Contribution)
    return [
        {
            "contribution": one.id,
            "site": one.site.name,
            "pairs": sum(shard.pairs for shard in one.shards),
            "shards": [_shard(shard) for shard in one.shards],
        }
        for one in session.scalars(own)
    ]


def require_unchanged(session: Session, fit: Fit, locked: bool = False) -> None:
    """Raise Conflict if something that was fitted to has been withdrawn since."""
    still = {one["contribution"] for one in whole_contributions(session, fit.project, locked)}
    if gone := [one["site"] for one in fit.manifest if one["contribution"] not in still]:
        raise Conflict(
            f"fit {fit.id}: {', '.join(sorted(set(gone)))} withdrew meanwhile: fit again, without"
        )


class Recorder:
    """Writes how far a fit is, not at every step."""

    def __init__(self) -> None:
        self._last = 0.0

    def due(self, step: int, steps: int) -> bool:
        """Whether to write now."""
        moment = time.monotonic()
        if not on_curve(step, steps) and moment - self._last < SECONDS_BETWEEN_RECORDS:
            return False
        self._last = moment
        return True


def on_curve(step: int, steps: int) -> bool:
    """Whether the loss of a step is kept: of the last one, and of evenly many before."""
    return step == steps or step % -(-steps // CURVE_POINTS) == 0


def record(session: Session, fit_id: int, step: int, loss: float) -> None:
    """How far a fit is."""
    fit = session.get_one(Fit, fit_id)
    fit.step, fit.loss, fit.updated, fit.state = step, loss, now(), RUNNING
    if on_curve(step, fit.steps):
        # One that goes on from a checkpoint takes some steps again.
        session.merge(Loss(fit_id=fit_id, step=step, value=loss))


def end(session: Session, fit_id: int, done: bool) -> None:
    """How a fit ended."""
    fit = session.get_one(Fit, fit_id)
    fit.state, fit.updated = DONE if done else FAILED, now()


def latest(session: Session, project: Project) -> dict[str, Any] | None:
    """The newest fit as every member may see it: how far, not who else is in it."""
    own = select(Fit).where(Fit.project_id == project.id).order_by(Fit.id.desc()).limit(1)
    fit = session.scalar(own)
    if fit is None:
        return None
    names = ("state", "step", "steps", "loss", "started", "updated")
    pairs = sum(one["pairs"] for one in fit.manifest)
    curve = [{"step": one.step, "loss": one.value} for one in fit.losses]
    return {name: getattr(fit, name) for name in names} | {"pairs": pairs, "curve": curve}


def _shard(shard: Shard) -> dict[str, Any]:
    names = ("number", "sha256", "pairs", "path")
    return {name: getattr(shard, name) for name in names}
