"""What training feeds the two networks, and how the exported client half behaves."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.mixup.mixing import unmix_algebraically
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.schemes.references import TEMPLATE_FILE, UNMIXER_FILE, Template
from veilseg.training.losses import soft_target_loss
from veilseg.training.recipe import Recipe

SHAPE = (16, 16, 16)


@pytest.fixture
def scheme(template, make_case):
    torch.manual_seed(0)
    return MixupTraining(3, 1, 3, template, [make_case(seed, SHAPE) for seed in range(4)], Recipe())


def batch_of(*examples):
    return {
        name: torch.stack([torch.as_tensor(example[name]) for example in examples])
        for name in examples[0]
    }


def test_example_holds_what_a_site_would_have(scheme, make_case):
    case = make_case(0, SHAPE)
    for seed in range(10):
        example = scheme.example(case, np.random.default_rng(seed))
        a = float(example["coefficient"])
        assert 0.45 <= a <= 0.55
        present = case.image > 0
        expected = a * case.image + (1 - a) * example["reference"]
        np.testing.assert_allclose(example["proxy"][present], expected[present], atol=1e-6)
        np.testing.assert_array_equal(example["target"].argmax(axis=0), case.labels)
        assert example["reference_labels"].shape == (3, *SHAPE)
        np.testing.assert_array_equal(example["reference_labels"].sum(axis=0), 1)


def test_same_generator_gives_the_same_example(scheme, make_case):
    first, again, other = (
        scheme.example(make_case(0, SHAPE), np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert first["proxy"].tobytes() != other["proxy"].tobytes()


@pytest.fixture
def unlabelled(template):
    """A template without labels: a reference that has some is a labelled case."""
    return replace(template, label_of_tissue=np.zeros_like(template.label_of_tissue))


@pytest.fixture
def labelled_everywhere(make_case):
    """Cases whose labels no warp moves out of the image."""
    cases = [make_case(seed, SHAPE) for seed in range(4)]
    return [replace(case, labels=np.ones(SHAPE, np.uint8)) for case in cases]


def test_reference_is_never_of_the_same_patient(unlabelled, make_case):
    # Two scans of one patient: no labelled reference is left, so every one is synthetic.
    first = make_case(0, SHAPE)
    second = PreparedCase("again", first.patient, first.image, np.full(SHAPE, 2, np.uint8))
    scheme = MixupTraining(3, 1, 3, unlabelled, [first, second], Recipe())
    for seed in range(20):
        example = scheme.example(first, np.random.default_rng(seed))
        assert not example["reference_labels"][1:].any()


# Expected of 100, and 3 standard deviations: 3·√(100·p·(1 − p)).
@pytest.mark.parametrize(
    ("share", "expected", "slack"), [(0, 0, 0), (0.2, 20, 12), (0.5, 50, 15), (1, 100, 0)]
)
def test_share_of_references_that_are_labelled_cases(
    unlabelled, labelled_everywhere, share, expected, slack
):
    cases = labelled_everywhere
    scheme = MixupTraining(3, 1, 3, unlabelled, cases, Recipe(labelled_share=share))
    # A template that does not represent the cases is not drawn from: told to, all the same.
    scheme.synthetic = True
    assert abs(labelled_of_100(scheme, cases[0]) - expected) <= slack


def labelled_of_100(scheme, case):
    """How many references are labelled cases, where the template has no labels."""
    return sum(
        bool(scheme.example(case, np.random.default_rng(seed))["reference_labels"][1:].any())
        for seed in range(100)
    )


def test_template_without_the_labels_is_not_drawn_from(unlabelled, labelled_everywhere, tmp_path):
    cases = labelled_everywhere
    # Without an unmixing network, whose export takes a while, the template would be the only file.
    recipe = Recipe(unmixing="algebraic", labelled_share=0)
    scheme = MixupTraining(3, 1, 3, unlabelled, cases, recipe)
    assert labelled_of_100(scheme, cases[0]) == 100
    # A site is not offered what the networks have not seen.
    assert scheme.settings()["references"] == ["labelled"]
    scheme.write_client_files(tmp_path, SHAPE)
    assert not list(tmp_path.iterdir())


def test_coefficient_is_drawn_from_the_range(template, make_case):
    recipe = Recipe(coefficient_range=(0.2, 0.9))
    case = make_case(0, SHAPE)
    scheme = MixupTraining(3, 1, 3, template, [case], recipe)
    drawn = [
        float(scheme.example(case, np.random.default_rng(seed))["coefficient"])
        for seed in range(100)
    ]
    # The chance that none of 100 uniform draws falls into an outer tenth is 0.9^100 < 1e-4.
    assert 0.2 <= min(drawn) < 0.27
    assert 0.83 < max(drawn) <= 0.9
    assert scheme.settings()["coefficient_range"] == [0.2, 0.9]


@pytest.fixture
def algebraic(template, make_case):
    torch.manual_seed(0)
    cases = [make_case(seed, SHAPE) for seed in range(4)]
    return MixupTraining(3, 1, 3, template, cases, Recipe(unmixing="algebraic"))


def test_algebraic_baseline_is_trained_for_the_mixture_alone(scheme, algebraic, make_case):
    batch = batch_of(scheme.example(make_case(0, SHAPE), np.random.default_rng(0)))
    assert not any(name.startswith("unmixer") for name, _ in algebraic.named_parameters())
    a = batch["coefficient"].reshape(1, 1, 1, 1, 1)
    mixture = a * batch["target"] + (1 - a) * batch["reference_labels"]
    with torch.no_grad():
        expected = soft_target_loss(algebraic.segmenter(batch["proxy"]), mixture)
        torch.testing.assert_close(algebraic(batch), expected)


def test_algebraic_baseline_predicts_by_algebra(algebraic, make_case):
    batch = batch_of(algebraic.example(make_case(0, SHAPE), np.random.default_rng(0)))
    with torch.no_grad():
        found = algebraic.predict(batch)[0].numpy()
        answer = algebraic.server_network(batch["proxy"])[0].numpy()
    a, labels = float(batch["coefficient"]), batch["reference_labels"][0].numpy()
    np.testing.assert_allclose(found, np.clip((answer - (1 - a) * labels) / a, 0, 1), atol=1e-5)


def test_algebraic_baseline_has_no_unmixing_network(algebraic, tmp_path):
    algebraic.write_client_files(tmp_path, SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == [TEMPLATE_FILE]
    assert algebraic.settings()["unmixing"] == "algebraic"


def test_weight_of_the_unmixing_loss(template, make_case):
    case = make_case(0, SHAPE)
    losses = []
    for weight in (0, 1, 3):
        torch.manual_seed(0)
        recipe = Recipe(unmixing_weight=weight)
        scheme = MixupTraining(3, 1, 3, template, [case], recipe)
        with torch.no_grad():
            losses.append(float(scheme(batch_of(scheme.example(case, np.random.default_rng(0))))))
    mixture, mean, weighted = losses
    unmixing = 2 * mean - mixture
    assert weighted == pytest.approx((mixture + 3 * unmixing) / 4, abs=1e-5)
    assert unmixing != pytest.approx(mixture, abs=0.01)


def test_loss_reaches_both_networks(scheme, make_case):
    batch = batch_of(
        *(scheme.example(make_case(s, SHAPE), np.random.default_rng(s)) for s in (0, 1))
    )
    loss = scheme(batch)
    assert torch.isfinite(loss)
    loss.backward()
    for network in (scheme.segmenter, scheme.unmixer):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_prediction_is_probabilities(scheme, make_case):
    batch = batch_of(scheme.example(make_case(0, SHAPE), np.random.default_rng(0)))
    with torch.no_grad():
        found = scheme.predict(batch)
    assert found.shape == (1, 3, *SHAPE)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, *SHAPE))


def test_server_network_sees_the_mixture_only(scheme, make_case):
    example = scheme.example(make_case(0, SHAPE), np.random.default_rng(0))
    with torch.no_grad():
        answer = scheme.server_network(torch.as_tensor(example["proxy"])[None])
    assert answer.shape == (1, 3, *SHAPE)
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(1, *SHAPE))


def test_client_files_reproduce_torch_and_take_any_coefficient(scheme, make_case, tmp_path):
    scheme.write_client_files(tmp_path, SHAPE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [TEMPLATE_FILE, UNMIXER_FILE]
    Template.load(tmp_path / TEMPLATE_FILE)
    session = onnxruntime.InferenceSession(
        str(tmp_path / UNMIXER_FILE), providers=["CPUExecutionProvider"]
    )
    for seed in range(3):
        example = scheme.example(make_case(seed, SHAPE), np.random.default_rng(seed))
        a = np.float32([example["coefficient"]])
        answer = a * example["target"] + (1 - a) * example["reference_labels"]
        feeds = {
            "answer": answer[None],
            "reference_labels": example["reference_labels"][None],
            "reference": example["reference"][None],
            "coefficient": a,
        }
        found = session.run(["probabilities"], feeds)[0]
        with torch.no_grad():
            logits = scheme.unmixer(*(torch.from_numpy(v) for v in feeds.values()))
        expected = torch.softmax(logits, dim=1).numpy()
        # FP16 weights, as in training.export.
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_unmixer_starts_from_the_algebra(scheme, make_case):
    """With a correction of zero it decides as the algebraic baseline does."""
    example = scheme.example(make_case(0, SHAPE), np.random.default_rng(0))
    a = float(example["coefficient"])
    rng = np.random.default_rng(0)
    answer = rng.dirichlet([0.3] * 3, SHAPE).transpose(3, 0, 1, 2).astype(np.float32)
    torch.nn.init.zeros_(scheme.unmixer.decide.weight)
    torch.nn.init.zeros_(scheme.unmixer.decide.bias)
    with torch.no_grad():
        logits = scheme.unmixer(
            torch.from_numpy(answer[None]),
            torch.from_numpy(example["reference_labels"][None]),
            torch.from_numpy(example["reference"][None]),
            torch.tensor([a]),
        )[0].numpy()
    algebra = unmix_algebraically(answer, example["reference_labels"], a)
    certain = algebra.max(axis=0) > 0.6
    np.testing.assert_array_equal(logits.argmax(axis=0)[certain], algebra.argmax(axis=0)[certain])
