"""Train and evaluate everything that README, docs and model cards state.

Starts in the background and returns; whatever is done stays done, so it can be stopped or killed
at any time and started again. Needs the data sets (``VEILSEG_DATA``, by default
``../shared/data``); works in ``build/claims`` (``VEILSEG_WORK``); writes ``results/``, ``models/``
and the documents.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from evidence.audits import AUDITS, audit
from evidence.background import LOCK, LOG, last_line, start
from evidence.centers import INVERSIONS, collaborate, how_far
from evidence.encodings import RESULT, encodings
from evidence.federated import how_far as how_far_averaged
from evidence.federated import jobs as federations
from evidence.jobs import EVALUATIONS, PUBLISHED, SHIPPED, TRAININGS, Training, shipped_together
from evidence.places import ROOT, Places, Result, default_places
from evidence.runs import evaluate, evaluated, is_shipped, progress, ship, train, trained
from evidence.sites import CENTERS, Centers
from evidence.summaries import summarise
from evidence.usage import demo, overhead, site
from evidence.versus import name_of
from figures import update

from veilseg.bench.alone import only_one, running
from veilseg.errors import Busy, VeilsegError

USAGE: dict[str, Callable[[Places, bool], None]] = {
    "demo": demo,
    "site": site,
    "overhead": overhead,
    **{job.name: partial(audit, job) for job in AUDITS},
    **INVERSIONS,
}
NAMES = (*(job.name for job in (*TRAININGS, *CENTERS)), *federations(CENTERS), *USAGE)
TRIAL_STEPS = 2
BY_NAME = {evaluation.name: evaluation for evaluation in EVALUATIONS}


def measure(
    trainings: Sequence[Training],
    only: Sequence[str],
    places: Places,
    again: bool,
    together: Sequence[Centers] = (),
) -> int:
    """Do what is left to do; one job that fails does not keep the others from being done.

    Parameters
    ----------
    trainings : sequence of Training
        All that there are.
    only : sequence of str
        Names of the jobs to do.
    places : Places
    again : bool
        Whether to evaluate what is evaluated already.
    together : sequence of Centers
        What several sites train, in full.

    Returns
    -------
    int
        How many jobs failed.
    """
    failed = 0
    for training in trainings:
        if training.name in only:
            failed += not _survived(training.name, partial(_job, training, places, again))
            publish(trainings, places)
    publish(trainings, places)
    joint = {job.name: partial(collaborate, job) for job in together} | federations(together)
    for name, take in (joint | USAGE).items():
        if name in only:
            failed += not _survived(name, partial(take, places, again))
    update(places)
    return failed


def _job(training: Training, places: Places, again: bool) -> None:
    if _is_published(training, places) and not again:
        return
    train(training, places)
    for evaluation in EVALUATIONS:
        if evaluation.training == training.name:
            evaluate(evaluation, training, places, again)


def _is_published(training: Training, places: Places) -> bool:
    """Whether all that is told of a training is there, and its bundle where that is needed."""
    mine = [one for one in EVALUATIONS if one.training == training.name]
    found = {one.name: evaluated(one, training, places) for one in mine}
    if not mine or None in found.values():
        return False
    if training.name in SHIPPED and not is_shipped(
        training.name, found[training.name] or {}, places
    ):
        return False
    goes_on = [job for job in TRAININGS if job.init == training]
    there = trained(training, places) is not None
    return there or all(_is_published(job, places) for job in goes_on)


def _survived(name: str, job: Callable[[], None]) -> bool:
    try:
        job()
    except (VeilsegError, subprocess.CalledProcessError) as error:
        print(f"claims: {name}: {_told(error)}", file=sys.stderr, flush=True)
        return False
    return True


def publish(trainings: Sequence[Training], places: Places) -> None:
    """Ship what is complete, with its figures; write the results and what follows from them."""
    by_name = {training.name: training for training in trainings}

    def evaluation(name: str) -> Result | None:
        job = BY_NAME[name]
        return evaluated(job, by_name[job.training], places)

    for names in shipped_together(TRAININGS):
        group = {name: evaluation(name) for name in names}
        for name, found in group.items():
            # Not where a published bundle was taken away: there is nothing to ship anew.
            there = places.models / name, places.bundle(name)
            if found is not None and None not in group.values() and any(map(Path.exists, there)):
                ship(name, found, places)
                places.store(name, found)
    for name in (one.name for one in EVALUATIONS if one.name not in SHIPPED):
        found = evaluation(name)
        if found is not None:
            places.store(name if name in PUBLISHED else f"parts/{name}", found)
    summarise(places, evaluation)
    found = encodings(evaluation)
    if found is not None:
        places.store(RESULT, found)


def table(trainings: Sequence[Training], places: Places, together: Sequence[Centers] = ()) -> str:
    """Every job, how far it is, and what it reached."""
    rows = [("job", "state", "Dice")]
    for training in trainings:
        found = progress(training, places)
        mine = [e for e in EVALUATIONS if e.training == training.name]
        done = [result for e in mine if (result := evaluated(e, training, places)) is not None]
        if _is_published(training, places):
            state = "published"
        elif found.outdated:
            state = "outdated, to be trained anew"
        elif not found.finished:
            started = places.bundle(training.name).exists()
            kept = f"training, {found.steps} of {training.steps} steps kept"
            state = kept if started else "waiting"
        elif len(done) < len(mine):
            state = f"trained, {len(done)} of {len(mine)} evaluated"
        else:
            state = "evaluated, not shipped yet"
        figures = sorted(result["mean_dice"] for result in done)
        dice = " … ".join(f"{value:.3f}" for value in dict.fromkeys(figures[:1] + figures[-1:]))
        rows.append((training.name, state, dice))
    rows += [(job.name, how_far(job, places), "") for job in together]
    rows += [(name_of(job), how_far_averaged(job, places), "") for job in together]
    rows += [(name, "waiting" if places.load(name) is None else "measured", "") for name in USAGE]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def main() -> int:
    """Start in the background, or do what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--foreground", action="store_true", help="work here and now")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these jobs alone")
    parser.add_argument("--list", action="store_true", help="show all jobs and how far they are")
    parser.add_argument("--again", action="store_true", help="evaluate what is evaluated already")
    parser.add_argument(
        "--trial",
        type=Path,
        metavar="FOLDER",
        help=f"try all jobs with {TRIAL_STEPS} steps; everything goes to this folder",
    )
    options = parser.parse_args()
    unknown = sorted(set(options.only or ()) - set(NAMES))
    if unknown:
        parser.error(f"--only {unknown[0]}: no such job; --list shows all")
    places, jobs, together = default_places(), TRAININGS, CENTERS
    only = NAMES if options.only is None else options.only
    if options.trial is not None:
        trial = options.trial.resolve()
        places = Places(trial, places.data, trial / "work")
        jobs, together = (
            tuple(replace(job, steps=TRIAL_STEPS) for job in those) for those in (jobs, together)
        )
        only = [name for name in only if name not in USAGE]
    if not places.data.is_dir():
        print(f"claims: {places.data}: no data sets there; set VEILSEG_DATA", file=sys.stderr)
        return 3
    if options.list:
        print(table(jobs, places, together))
        print(_activity(places.work))
        return 0
    if not options.foreground:
        return _in_background(places.work)
    try:
        with only_one(places.work / LOCK):
            failed = measure(jobs, only, places, options.again, together)
    except Busy as busy:
        print(f"claims: {busy}", file=sys.stderr)
        return 1
    print(f"claims: done, {failed} failed")
    return 1 if failed else 0


def _in_background(work: Path) -> int:
    if running(work / LOCK) is None:
        process = start(work, [sys.executable, "-u", __file__, "--foreground", *sys.argv[1:]]).pid
        print(f"claims: started as process {process}; stop it with: kill {process}")
    else:
        print(_activity(work))
    print(f"watch it: tail -f {_shown(work / LOG)}\nhow far it is: make claims-status")
    return 0


def _activity(work: Path) -> str:
    process = running(work / LOCK)
    if process is None:
        return "claims: not running; make claims starts it"
    return f"claims: running as process {process}: {last_line(work)}"


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _told(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"its command ended with {error.returncode}, see above"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
