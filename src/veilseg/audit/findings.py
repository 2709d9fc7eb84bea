"""What an attack says, and the controls without which it says nothing."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from veilseg.evaluation.bootstrap import Interval

Channel = Literal["image", "mask", "identity", "membership"]
CHANNELS: tuple[Channel, ...] = ("image", "mask", "identity", "membership")
# Of the attack's metric: what a better protected patient would change it to.
Direction = Literal["higher leaks more", "lower leaks more"]

# When a site does what is attacked: unless told otherwise, if told to, or not at all.
Occurs = Literal["by default", "if asked for", "never"]
# Whose image, mask or identity: with labelled references, a mixture is of two people.
Person = Literal["patient", "reference"]

RUN = "run"
CONTROL_FAILED = "not run: control failed"


# Of findings about what the bundle's scheme does not do: they say nothing of anybody.
DOES_NOT_APPLY = "not run: does not apply"


class NotRun(Exception):
    """Bundle or data leave an attack nothing to do; the message says why."""

    status = "not run"


class DoesNotApply(NotRun):
    """The bundle's scheme does nothing that this attack is about; the message says why."""

    status = DOES_NOT_APPLY


@dataclass(frozen=True)
class Threat:
    """What an attacker has beside the proxies and answers of the audited patients.

    Attributes
    ----------
    knows_scheme : bool
        The code, so that it can make proxies of its own images.
    knows_networks : bool
        The server half, which it runs.
    knows_coefficient : bool
        The mixing coefficient, a published default.
    auxiliary_images : bool
        Labelled images of the same kind, never of the audited patients.
    gallery : int
        Candidates it holds, among them the right one; 0 for none.
    known_pairs : int
        Images whose proxies it knows.
    candidate_image : bool
        Image and labels of somebody of whom it asks whether they were trained on.
    subjects : int
        People whose proxies it compares.
    proxies_per_subject : int
        Different proxies of one image, or of two scans of one person.
    colluding_site : bool
        Whether a site gives away what it keeps.
    """

    knows_scheme: bool = True
    knows_networks: bool = True
    knows_coefficient: bool = True
    auxiliary_images: bool = True
    gallery: int = 0
    known_pairs: int = 0
    candidate_image: bool = False
    subjects: int = 1
    proxies_per_subject: int = 1
    colluding_site: bool = False

    def in_words(self) -> str:
        """One sentence for people."""
        images = "image with its proxy" if self.known_pairs == 1 else "images with their proxies"
        has = [
            words
            for words, given in (
                ("the scheme and its code", self.knows_scheme),
                ("the server's network", self.knows_networks),
                ("the mixing coefficient", self.knows_coefficient),
                ("labelled images of other people", self.auxiliary_images),
                (f"{self.gallery} candidates, the right one among them", self.gallery),
                (f"{self.known_pairs} {images}", self.known_pairs),
                ("image and labels of the person it asks about", self.candidate_image),
                ("what one site keeps", self.colluding_site),
            )
            if given
        ]
        sees = "one proxy and its answer"
        if self.subjects > 1:
            sees = f"proxies of {self.subjects} people and their answers"
        if self.proxies_per_subject > 1:
            sees = f"{self.proxies_per_subject} proxies of one person and their answers"
        return f"It sees {sees}; it has {', '.join(has) or 'nothing else'}."


@dataclass(frozen=True)
class Control:
    """An attack where its outcome is known beforehand.

    Attributes
    ----------
    what : str
        The case, in words.
    value : float
    low, high : float
        Where the value has to lie; an open end is ± infinity.
    """

    what: str
    value: float
    low: float = -np.inf
    high: float = np.inf

    @property
    def passed(self) -> bool:
        return bool(np.isfinite(self.value) and self.low <= self.value <= self.high)

    def document(self) -> dict[str, Any]:
        """For JSON, which has no infinity."""
        ends = {"low": self.low, "high": self.high}
        finite = {name: rounded(end) if np.isfinite(end) else None for name, end in ends.items()}
        return {
            "what": self.what,
            "value": rounded(self.value),
            **finite,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Finding:
    """What one attack found in one channel.

    Attributes
    ----------
    attack : str
        As in the table of docs/privacy.md, ``A5``.
    title : str
    channel : Channel
    threat : Threat
    metric : str
    direction : Direction
    value : float or None
        None where the attack was not run.
    interval : (low, high)
        95 %, patients drawn anew.
    n, n_patients : int
    baseline : dict
        What the same metric is without the attack, by name.
    positive_control, null_control : Control or None
    status : str
        ``run``, or ``not run: reason``.
    setting : str
        What is attacked, where an attack has several.
    occurs : Occurs
        When a site does that.
    person : Person
        Who is found out about.
    details : dict
        Anything else: curves, other metrics.
    """

    attack: str
    title: str
    channel: Channel
    threat: Threat
    metric: str
    direction: Direction = "higher leaks more"
    value: float | None = None
    interval: tuple[float, float] = (float("nan"), float("nan"))
    n: int = 0
    n_patients: int = 0
    baseline: dict[str, float] = field(default_factory=dict)
    positive_control: Control | None = None
    null_control: Control | None = None
    status: str = RUN
    setting: str = ""
    occurs: Occurs = "by default"
    person: Person = "patient"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def controls_passed(self) -> bool:
        """Both controls are there and came out as they had to."""
        controls = (self.positive_control, self.null_control)
        return all(control is not None and control.passed for control in controls)

    def measured(
        self,
        overall: Interval,
        baseline: dict[str, float],
        positive: Control,
        null: Control,
        details: dict[str, Any] | None = None,
        setting: str | None = None,
        occurs: Occurs = "by default",
    ) -> "Finding":
        """The same with its outcome; not run where a control failed: no false safety."""
        found = replace(
            self,
            value=overall.mean,
            interval=(overall.low, overall.high),
            n=overall.cases,
            n_patients=overall.patients,
            baseline=baseline,
            positive_control=positive,
            null_control=null,
            details=details or {},
            setting=self.setting if setting is None else setting,
            occurs=occurs,
        )
        most = 100 if self.metric.startswith("%") else 1
        if null.low <= 0 and null.high >= most:
            people = f"{overall.patients} patients"
            return found.not_run(f"of {people} chance allows any value: its control cannot fail")
        return found if found.controls_passed else replace(found, status=CONTROL_FAILED)

    def not_run(self, reason: str, status: str = NotRun.status) -> "Finding":
        """The same without an outcome."""
        return replace(self, status=f"{status}: {reason}", value=None)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        controls = {"positive_control": self.positive_control, "null_control": self.null_control}
        return {
            "attack": self.attack,
            "title": self.title,
            "setting": self.setting,
            "occurs": self.occurs,
            "person": self.person,
            "status": self.status,
            "metric": self.metric,
            "direction": self.direction,
            "value": None if self.value is None else rounded(self.value),
            "interval": [rounded(end) if np.isfinite(end) else None for end in self.interval],
            "n": self.n,
            "n_patients": self.n_patients,
            "baseline": {name: rounded(value) for name, value in self.baseline.items()},
            **{name: one.document() if one else None for name, one in controls.items()},
            "controls_passed": self.controls_passed,
            "threat": asdict(self.threat),
            "details": self.details,
        }


def rounded(value: float) -> float | None:
    """Four digits behind the point; None for what is not defined."""
    return round(float(value), 4) if np.isfinite(value) else None
