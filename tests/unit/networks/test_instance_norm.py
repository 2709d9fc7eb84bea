"""Normalisation of each example: its gradients are right in the memory layout of training."""

import pytest
import torch
from torch.nn.functional import instance_norm

from veilseg.networks.instance_norm import InstanceNorm

LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


def result_and_gradients(norm, maps, gradient):
    maps = maps.detach().requires_grad_()
    found = norm(maps)
    return found, torch.autograd.grad(found, [maps, norm.weight, norm.bias], gradient)


@pytest.mark.parametrize("examples", [1, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_are_those_in_double_precision(dims, examples):
    generator = torch.Generator().manual_seed(0)
    shape = (examples, 6, *(5, 7, 4)[:dims])
    maps, gradient = (
        torch.randn(shape, generator=generator).contiguous(memory_format=LAYOUTS[dims])
        for _ in range(2)
    )
    norm = InstanceNorm(6)
    torch.nn.init.uniform_(norm.weight, 0.5, 2, generator=generator)
    found, gradients = result_and_gradients(norm, maps, gradient)

    # By its definition, without a normalisation of torch's.
    axes = tuple(range(2, 2 + dims))
    double = norm.double()
    exact_maps = maps.double().requires_grad_()
    variance, mean = torch.var_mean(exact_maps, axes, correction=0, keepdim=True)
    wide = (1, -1, *[1] * dims)
    exact = (exact_maps - mean) / torch.sqrt(variance + 1e-5)
    exact = exact * double.weight.view(wide) + double.bias.view(wide)
    wanted = torch.autograd.grad(exact, [exact_maps, double.weight, double.bias], gradient.double())

    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_fitted_and_used_alike(dims):
    maps = torch.rand(2, 6, *(5, 7, 4)[:dims])
    norm = InstanceNorm(6)
    fitted = norm(maps.requires_grad_())
    with torch.no_grad():
        torch.testing.assert_close(norm(maps), fitted, atol=1e-5, rtol=1e-5)


def test_layout_is_kept_while_fitting():
    maps = torch.rand(2, 6, 4, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    assert InstanceNorm(6)(maps.requires_grad_()).is_contiguous(
        memory_format=torch.channels_last_3d
    )


def test_torch_is_still_wrong_for_one_example():
    """Why there is a norm of our own: when this fails, torch is right and decision 0017 can go."""
    generator = torch.Generator().manual_seed(0)
    maps, gradient = (
        torch.randn(1, 6, 4, 5, 6, generator=generator).contiguous(
            memory_format=torch.channels_last_3d
        )
        for _ in range(2)
    )
    found, wanted = (
        torch.autograd.grad(instance_norm(given), given, how(gradient))[0]
        for how in (lambda g: g, torch.Tensor.contiguous)
        for given in [maps.clone(memory_format=torch.preserve_format).requires_grad_()]
    )
    assert (found - wanted).abs().max() > 1
