"""Shapes and cost of the two networks."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from veilseg.networks.image_encoder import ImageEncoder
from veilseg.networks.segmenter import DIVISOR, SMALLEST_SIDE, Segmenter
from veilseg.networks.unmixer import Unmixer


def inputs_of(dims, channels, classes, size):
    space = (size,) * dims
    maps = torch.full((1, classes, *space), 1 / classes)
    return maps, maps, torch.rand(1, channels, *space), torch.tensor([0.5])


def operations(network, *inputs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize(("dims", "size"), [(3, 16), (2, 32)])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (1, 3), (1, 5), (3, 2), (4, 4), (1, 20)])
def test_unmixer_takes_at_most_a_fifth_of_the_segmenters_compute(dims, size, channels, classes):
    # Convolutions scale with the voxels, so the ratio is that of any tile.
    server = operations(
        Segmenter(dims, channels, classes), torch.rand(1, channels, *(size,) * dims)
    )
    client = operations(Unmixer(dims, channels, classes), *inputs_of(dims, channels, classes, size))
    assert client <= 0.2 * server, f"{client / server:.3f} of the segmenter"


@pytest.mark.parametrize(("dims", "size"), [(3, 16), (2, 32)])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (1, 5), (3, 2)])
def test_encoder_of_privacy_net_takes_at_most_a_quarter(dims, size, channels, classes):
    image = torch.rand(1, channels, *(size,) * dims)
    server = operations(Segmenter(dims, channels, classes), image)
    client = operations(ImageEncoder(dims, channels), image)
    assert client <= 0.25 * server, f"{client / server:.3f} of the segmenter"


@pytest.mark.parametrize("dims", [2, 3])
def test_networks_keep_the_grid(dims):
    space = tuple(DIVISOR * (2 + axis) for axis in range(dims))
    assert Segmenter(dims, 2, 4)(torch.rand(2, 2, *space)).shape == (2, 4, *space)
    maps = torch.full((2, 4, *space), 0.25)
    found = Unmixer(dims, 2, 4)(maps, maps, torch.rand(2, 2, *space), torch.tensor([0.4, 0.6]))
    assert found.shape == (2, 4, *space)


def test_each_example_of_a_batch_has_its_own_coefficient():
    torch.manual_seed(0)
    network = Unmixer(2, 1, 3).eval()
    answer = torch.softmax(torch.randn(2, 3, 16, 16), dim=1)
    labels = (
        torch.nn.functional.one_hot(torch.randint(3, (2, 16, 16)), 3).permute(0, 3, 1, 2).float()
    )
    reference, coefficient = torch.rand(2, 1, 16, 16), torch.tensor([0.3, 0.7])
    with torch.no_grad():
        together = network(answer, labels, reference, coefficient)
        for i in range(2):
            alone = network(*(t[i : i + 1] for t in (answer, labels, reference, coefficient)))
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", [SMALLEST_SIDE, 3 * DIVISOR])
@pytest.mark.parametrize("dims", [2, 3])
def test_thin_tiles_do_not_read_what_nobody_wrote(dims, side):
    """In bf16 and the memory layout of training, with NaN in all memory that was freed before."""
    space = (24,) * (dims - 1) + (side,)
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    tile = torch.rand(16, 1, *space).to(memory_format=layout)
    segmenter = Segmenter(dims, 1, 3).to(memory_format=layout)
    unmixer = Unmixer(dims, 1, 3).to(memory_format=layout)
    sizes = torch.randint(1, 400_000, (10, 10), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for some in sizes.tolist():
            freed = [torch.full((size,), float("nan")) for size in some]
            del freed
            answer = torch.softmax(segmenter(tile).float(), dim=1)
            assert torch.isfinite(answer).all()
            assert torch.isfinite(unmixer(answer, answer, tile, torch.full((16,), 0.5))).all()
