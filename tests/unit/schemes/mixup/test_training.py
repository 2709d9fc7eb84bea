"""What training feeds the two networks, and how the exported client half behaves."""

import numpy as np
import onnxruntime
import pytest
import torch

from veilseg.datasets.cases import PreparedCase
from veilseg.schemes.mixup.mixing import unmix_algebraically
from veilseg.schemes.mixup.training import COEFFICIENT_RANGE, MixupTraining
from veilseg.schemes.references import TEMPLATE_FILE, UNMIXER_FILE, Template

SHAPE = (16, 16, 16)


@pytest.fixture
def scheme(template, make_case):
    torch.manual_seed(0)
    return MixupTraining(3, 1, 3, template, [make_case(seed, SHAPE) for seed in range(4)])


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
        assert COEFFICIENT_RANGE[0] <= a <= COEFFICIENT_RANGE[1]
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


def test_reference_is_never_of_the_same_patient(template, make_case):
    # Two scans of one patient: no labelled reference is left, so every one is synthetic.
    first = make_case(0, SHAPE)
    second = PreparedCase("again", first.patient, first.image, np.full(SHAPE, 2, np.uint8))
    template = Template(
        template.tissues, np.zeros_like(template.label_of_tissue), template.mean, template.spread
    )
    scheme = MixupTraining(3, 1, 3, template, [first, second])
    for seed in range(20):
        example = scheme.example(first, np.random.default_rng(seed))
        assert not example["reference_labels"][1:].any()


def test_half_of_the_references_are_labelled_cases(template, make_case):
    template = Template(
        template.tissues, np.zeros_like(template.label_of_tissue), template.mean, template.spread
    )
    cases = [make_case(seed, SHAPE) for seed in range(4)]
    scheme = MixupTraining(3, 1, 3, template, cases)
    labelled = [
        scheme.example(cases[0], np.random.default_rng(seed))["reference_labels"][1:].any()
        for seed in range(100)
    ]
    assert 35 <= sum(labelled) <= 65  # 3 sd of a fair coin


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
    scheme.unmixer.network = torch.nn.Conv3d(3 * 3 + 1 + 1, 3, 1)
    torch.nn.init.zeros_(scheme.unmixer.network.weight)
    torch.nn.init.zeros_(scheme.unmixer.network.bias)
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
