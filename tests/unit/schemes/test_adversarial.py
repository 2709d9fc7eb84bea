"""Trainings against an identity discriminator: what moves which way, and what a run draws again."""

import numpy as np
import pytest
import torch

from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.deformation.training import DeformationTraining
from veilseg.schemes.population import population_template
from veilseg.schemes.privacy_net.training import PrivacyNetTraining
from veilseg.training.run import Run

SHAPE = (32, 32)
KINDS = {"deformation": DeformationTraining, "privacy_net": PrivacyNetTraining}
PROTECTION = {"deformation": "generator", "privacy_net": "encoder"}
EVERY_KIND = pytest.mark.parametrize("name", KINDS)


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    found = []
    for number in range(4):
        labels = np.zeros(SHAPE, np.uint8)
        labels[8:20, 10 : 18 + 3 * number] = 1
        image = (0.2 + 0.5 * labels + 0.2 * rng.random(SHAPE)).astype(np.float32)[None]
        found.append(PreparedCase(f"case{number}", f"person{number}", image, labels))
    return found


@pytest.fixture
def scheme(cases):
    def build(name):
        torch.manual_seed(0)
        return KINDS[name](2, 1, 2, population_template(cases, SHAPE, 2, 0), cases)

    return build


def stage_of(scheme, cases, batch=2):
    run = Run(scheme.name, 4, 3, batch, SHAPE, "0" * 64)
    (stage,) = scheme.stages(cases, run, None)
    return stage


def batch_of(stage, step=0, rank=0):
    examples = [stage.examples[number] for number in range(stage.batch)]
    batch = torch.utils.data.default_collate(examples)
    return stage.prepare(batch, step, steps=stage.steps, rank=rank)


def gradients(network):
    return torch.cat([weight.grad.flatten() for weight in network.parameters()])


@EVERY_KIND
def test_protection_climbs_where_the_discriminator_descends(scheme, cases, name):
    built = scheme(name)
    batch = batch_of(stage_of(built, cases))
    protection = getattr(built, PROTECTION[name])
    found = {}
    for weight in (1.0, -1.0):  # turned round twice is as it was
        built.adversarial_weight = weight
        built.zero_grad()
        shown = [built.shown(batch, again) for again in (False, True)]
        built.identity_loss(batch, *shown).backward()
        found[weight] = gradients(protection), gradients(built.discriminator)
    torch.testing.assert_close(found[1.0][0], -found[-1.0][0])
    torch.testing.assert_close(found[1.0][1], found[-1.0][1])
    assert found[1.0][0].abs().max() > 0


def test_adversarial_loss_moves(scheme, cases):
    """A discriminator learns; an encoder that goes against it, left as it is, makes it worse."""
    built = scheme("privacy_net")
    batch = batch_of(stage_of(built, cases, batch=4))

    def loss():
        return built.identity_loss(batch, *(built.shown(batch, again) for again in (False, True)))

    sides = {
        "discriminator": torch.optim.Adam(built.discriminator.parameters(), 1e-3),
        "encoder": torch.optim.Adam(built.encoder.parameters(), 1e-3),
    }
    losses = [float(loss().detach())]
    for side in ("discriminator", "encoder"):
        for _ in range(20):
            built.zero_grad()
            loss().backward()
            sides[side].step()
        losses.append(float(loss().detach()))
    before, learned, fooled = losses
    assert learned < before
    assert fooled > learned


@EVERY_KIND
def test_one_loss_reaches_all_networks(scheme, cases, name):
    built = scheme(name)
    built(batch_of(stage_of(built, cases))).backward()
    for network in ("segmenter", "discriminator", PROTECTION[name]):
        assert gradients(getattr(built, network)).abs().max() > 0


@EVERY_KIND
def test_there_are_two_people_in_a_step_even_of_large_tiles(scheme, cases, name):
    stage = stage_of(scheme(name), cases, batch=1)
    assert (stage.batch, len(stage.examples)) == (2, 2 * stage.steps)
    assert len(set(batch_of(stage)["person"].tolist())) == 2


def test_second_image_is_of_the_same_person_and_another(scheme, cases):
    built = scheme("privacy_net")
    rng = np.random.default_rng(0)
    found = built.example(cases[1], rng)
    assert found["person"] == 1
    first, again = found["image"].ravel(), found["image_again"].ravel()
    assert 0.5 < np.corrcoef(first, again)[0, 1] < 0.999
    stranger = PreparedCase("x", "stranger", cases[0].image, cases[0].labels)
    assert built.example(stranger, rng)["person"] == -1


def test_secrets_of_a_step_are_those_of_the_run(scheme, cases):
    stage = stage_of(scheme("deformation"), cases)
    first, again = batch_of(stage, 2), batch_of(stage, 2)
    assert torch.equal(first["code"], again["code"])
    codes = [first["code"], first["code_again"], batch_of(stage, 3)["code"]]
    codes.append(batch_of(stage, 2, rank=1)["code"])
    flat = torch.cat([code.flatten(1) for code in codes])
    others = torch.corrcoef(flat) - torch.eye(len(flat))
    # 256 independent normal numbers each: a deviation of 1/16.
    assert others.abs().max() < 0.35


def test_encoder_keeps_the_target_and_a_deformation_moves_it(scheme, cases):
    for name, kept in (("privacy_net", True), ("deformation", False)):
        built = scheme(name)
        batch = batch_of(stage_of(built, cases))
        with torch.no_grad():
            shown = built.shown(batch)
        assert torch.equal(shown.target, batch["target"]) == kept
        torch.testing.assert_close(shown.target.sum(dim=1), torch.ones(2, *SHAPE))


@EVERY_KIND
def test_recovered_lies_where_the_image_does(scheme, cases, name):
    built = scheme(name).eval()
    batch = batch_of(stage_of(built, cases))
    with torch.no_grad():
        found = built.predict(batch)
        torch.testing.assert_close(found.sum(dim=1), torch.ones(2, *SHAPE))
        if name == "deformation":
            built.answered = lambda proxy: built.shown(batch).target  # an ideal server
            ideal = built.predict(batch)
            wrong = (ideal.argmax(dim=1) != batch["target"].argmax(dim=1)).float().mean()
            assert wrong < 0.02
