"""What each model's requests go through: places, then a queue to its network."""

import threading
import time
from dataclasses import dataclass
from typing import Final
from weakref import WeakSet

from veilseg.serving.admission import Places
from veilseg.serving.batching import Batcher
from veilseg.serving.errors import ModelNotReady
from veilseg.serving.metrics import Metrics
from veilseg.serving.models import ServedModel
from veilseg.serving.settings import Settings

SECONDS_BETWEEN_LOOKS: Final = 0.02


@dataclass(frozen=True)
class Lane:
    """One model with its places and its queue."""

    model: ServedModel
    places: Places
    batcher: Batcher


class Lanes:
    """A lane for each model that was asked for. Safe to use from any thread.

    Parameters
    ----------
    settings : Settings
    metrics : Metrics
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._lanes: dict[ServedModel, Lane] = {}
        self._retired: WeakSet[ServedModel] = WeakSet()
        self._changing = threading.Lock()

    @property
    def running(self) -> int:
        """Requests that are read, wait or run."""
        return sum(len(lane.places) for lane in list(self._lanes.values()))

    def of(self, model: ServedModel) -> Lane:
        """The lane of a model; made when it is first asked for.

        Raises
        ------
        ModelNotReady
            If the model is being unloaded.
        """
        with self._changing:
            if model in self._retired:
                raise ModelNotReady("this model is being unloaded")
            if model not in self._lanes:
                settings = self._settings
                self._lanes[model] = Lane(
                    model,
                    Places(settings.queue_places, settings.queue_places_per_site),
                    Batcher(
                        model.answers,
                        model.batch_size,
                        settings.batch_wait_s,
                        self._metrics.of_model(model.name, model.version),
                        workers=model.streams,
                    ),
                )
            return self._lanes[model]

    def load_of(self, model: ServedModel) -> tuple[int, int]:
        """Tiles that wait for a model, and requests inside."""
        lane = self._lanes.get(model)
        return (len(lane.batcher), len(lane.places)) if lane else (0, 0)

    def retire(self, models: list[ServedModel] | None = None) -> None:
        """Compute what waits for these models, or for all, and end their threads.

        Of some models, requests that were let in are waited for, as long as a body may take: they
        are answered by the version that they found.
        """
        for model in list(self._lanes) if models is None else models:
            with self._changing:
                self._retired.add(model)
                lane = self._lanes.get(model)
            if lane is not None:
                if models is not None:
                    self._let_out(lane)
                lane.batcher.close()
                self._lanes.pop(model, None)
            model.close()

    def _let_out(self, lane: Lane) -> None:
        latest = time.monotonic() + self._settings.body_timeout_s
        while len(lane.places) and time.monotonic() < latest:
            time.sleep(SECONDS_BETWEEN_LOOKS)
