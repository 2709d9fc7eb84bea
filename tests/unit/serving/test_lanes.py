"""What becomes of a model that is hosted no more."""

import threading

import numpy as np
import pytest
from running import until

from veilseg.serving.errors import ModelNotReady
from veilseg.serving.lanes import Lanes
from veilseg.serving.metrics import Metrics
from veilseg.serving.models import ServedModel
from veilseg.serving.settings import Settings


def test_a_retired_model_gives_back_what_it_took(model: ServedModel, runtime):
    lanes = Lanes(Settings(), Metrics())
    lanes.of(model)
    lanes.retire([model])
    assert runtime.closed
    # Whoever found it just before its successor came must not wake it again.
    with pytest.raises(ModelNotReady, match="is being unloaded"):
        lanes.of(model)


def test_who_is_inside_is_answered_before_it_goes(model: ServedModel):
    """A body may still be on its way when the model's successor comes."""
    lanes = Lanes(Settings(), Metrics())
    lane = lanes.of(model)
    with lane.places.place("north", 1.0):
        retiring = threading.Thread(target=lanes.retire, args=([model],))
        retiring.start()
        until(lambda: is_retired(lanes, model))
        assert lanes.running == 1
        (channels, *tile) = model.manifest.proxy.shape[1:]
        job = lane.batcher.submit(np.zeros((1, channels, *tile), np.float16), "north", 60)
        assert job.answers.result(60).shape[0] == 1
        assert retiring.is_alive()
    retiring.join(60)
    assert not retiring.is_alive()
    assert lanes.running == 0


def is_retired(lanes: Lanes, model: ServedModel) -> bool:
    try:
        lanes.of(model)
    except ModelNotReady:
        return True
    return False


def test_who_never_sends_all_of_a_body_holds_no_model_for_ever(model: ServedModel, runtime):
    lanes = Lanes(Settings(body_timeout_s=0.1), Metrics())
    with lanes.of(model).places.place("north", 1.0):
        lanes.retire([model])
    assert runtime.closed


def test_also_if_nobody_ever_asked_for_it(model: ServedModel, runtime):
    Lanes(Settings(), Metrics()).retire([model])
    assert runtime.closed
