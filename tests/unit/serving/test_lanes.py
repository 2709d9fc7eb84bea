"""What becomes of a model that is hosted no more."""

from veilseg.serving.lanes import Lanes
from veilseg.serving.metrics import Metrics
from veilseg.serving.models import ServedModel
from veilseg.serving.settings import Settings


def test_a_retired_model_gives_back_what_it_took(model: ServedModel, runtime):
    lanes = Lanes(Settings(), Metrics())
    lane = lanes.of(model)
    lanes.retire([model])
    assert runtime.closed
    assert lanes.of(model) is not lane


def test_also_if_nobody_ever_asked_for_it(model: ServedModel, runtime):
    Lanes(Settings(), Metrics()).retire([model])
    assert runtime.closed
