"""Training of Privacy-SF: noise that a resumed run draws again, and a key that is nowhere kept."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.encoding import stages
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.training import EncodingTraining
from veilseg.schemes.population import population_template
from veilseg.training.run import Run

SHAPE = (32, 32)
RUN = Run("encoding", steps=20, seed=3, batch=2, tile_shape=SHAPE, data_sha256="0" * 64)


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    found = []
    for number in range(4):
        labels = np.zeros(SHAPE, np.uint8)
        labels[8:20, 10 : 20 + number] = 1
        image = (0.2 + 0.5 * labels + 0.05 * rng.random(SHAPE)).astype(np.float32)[None]
        found.append(PreparedCase(f"case{number}", f"person{number}", image, labels))
    return found


@pytest.fixture
def scheme(cases):
    def build(key=None):
        torch.manual_seed(0)
        template = population_template(cases, SHAPE, 2, 0)
        return EncodingTraining(2, 1, 2, SHAPE, template, key)

    return build


@pytest.fixture
def batch(cases):
    images = torch.stack([torch.from_numpy(case.image) for case in cases[:2]])
    labels = torch.stack([torch.from_numpy(case.labels) for case in cases[:2]]).long()
    return {"image": images, "target": torch.nn.functional.one_hot(labels).movedim(-1, 1).float()}


def test_noise_of_a_step_is_that_of_the_run_whenever_it_is_drawn(scheme, cases, batch):
    stage = next(scheme().stages(cases, RUN, None))

    def loss(step, rank=0):
        return float(
            stage.module(stage.prepare(batch, step, steps=stage.steps, rank=rank)).detach()
        )

    first = loss(4)
    torch.manual_seed(99)  # a resumed run starts from another state of torch's generator
    assert loss(4) == first
    assert loss(5) != first
    assert loss(4, rank=1) != first


def test_noise_of_an_example_is_the_same_whichever_process_has_it(scheme, cases, batch):
    stage = next(scheme().stages(cases, RUN, None))
    whole = stage.prepare(batch, 4, steps=stage.steps, rank=0)["noise"]
    shares = [{name: maps[place : place + 1] for name, maps in batch.items()} for place in range(2)]
    parts = [stage.prepare(one, 4, steps=stage.steps, rank=rank) for rank, one in enumerate(shares)]
    assert torch.equal(torch.cat([one["noise"] for one in parts]), whole)
    assert len(set(whole.tolist())) == len(whole)
    maps = torch.arange(64.0).reshape(2, 2, 4, 4)
    generators = [[torch.Generator().manual_seed(int(s)) for s in whole] for _ in range(2)]
    together = stages._noisy(maps, generators[0])
    apart = [stages._noisy(maps[n : n + 1], generators[1][n : n + 1]) for n in range(2)]
    assert torch.equal(torch.cat(apart), together)


def test_filler_of_a_batch_does_not_count(scheme, cases, batch):
    stage = next(scheme().stages(cases, RUN, None))
    alone = {name: values[:1] for name, values in batch.items()} | {"counted": torch.ones(1)}
    filled = batch | {"counted": torch.tensor([1.0, 0.0])}
    halves = stage.module
    decoders = halves.image_decoder, halves.hint
    losses = [
        stages.image_loss(halves.image_encoder(given["image"]), *decoders, given)
        for given in (alone, filled)
    ]
    torch.testing.assert_close(*losses)


def test_key_is_not_kept_in_what_is_copied_and_sent_to_other_processes(scheme):
    key = ConsortiumKey.new()
    built = scheme(key)
    assert deepcopy(built).settings()["key"] == key.fingerprint()
    assert not any(isinstance(value, ConsortiumKey) for value in vars(built).values())


def test_stages_are_fitted_to_pairs_of_finite_sixteen_bit_numbers(scheme, cases):
    built = scheme(ConsortiumKey.new())
    with torch.no_grad():
        for weight in built.mask_encoder.fine.parameters():
            weight.mul_(1e6)  # an autoencoder may grow as it likes
    stages = built.stages(cases, RUN, None)
    next(stages)
    pairs = next(stages).examples.pairs
    assert all(np.isfinite(pair.answer.astype(float)).all() for pair in pairs)


def test_features_count_beside_answers_however_large_encodings_are(scheme, cases, batch):
    built = scheme()
    with torch.no_grad():
        for weight in (
            *built.mask_encoder.fine.parameters(),
            *built.mask_encoder.coarse.parameters(),
        ):
            weight.mul_(1e6)
    stages = built.stages(cases, RUN, None)
    next(stages)
    next(stages)
    with torch.no_grad():
        for weight in built.site_decoder.parameters():  # as if it were fitted to answers
            weight.copy_(
                0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
            )
        answer, features = built.answered(batch["image"])
        found = built.site_decoder(answer, batch["image"], features)
        for place in range(3):
            others = list(features)
            others[place] = torch.flip(features[place], [2, 3])
            changed = built.site_decoder(answer, batch["image"], others)
            assert (changed - found).abs().max() > 1e-3 * found.abs().max()


def test_what_a_server_checks_itself_with_tells_nothing_of_the_key(scheme):
    """Of an image that can be made again, it would be the pair that gives the key away."""
    given = [
        scheme(ConsortiumKey(bytes([number]) * 32)).selftest_image(np.random.default_rng(1))
        for number in range(2)
    ]
    assert given[0].shape == scheme().selftest_image(np.random.default_rng(1)).shape
    assert np.array_equal(*given)
