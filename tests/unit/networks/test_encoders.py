"""Shapes and compute of Privacy-SF's networks."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from veilseg.networks.encoders import ClientAlone, Decoder, Encoder, SiteDecoder, measure_units
from veilseg.networks.mapping import LinearMapping, Mapping
from veilseg.schemes.encoding.training import IMAGE_CHANNELS, MASK_CHANNELS
from veilseg.training.convolution import right_gradients


def operations(network, *inputs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops()


def latents(dims, channels, size):
    return [torch.rand(1, c, *[size // s] * dims) for c, s in zip(channels, (4, 8), strict=True)]


@pytest.mark.parametrize(("dims", "size"), [(3, 32), (2, 64)])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (1, 5), (3, 2)])
def test_clients_half_takes_a_quarter_of_the_servers_compute(dims, size, channels, classes):
    image = torch.rand(1, channels, *[size] * dims)
    network = Encoder(dims, channels, IMAGE_CHANNELS, norm=True)
    encoder = operations(network, image)
    answer = latents(dims, MASK_CHANNELS, size)
    decoder = operations(
        SiteDecoder(dims, channels, MASK_CHANNELS, classes), answer, image, network.features(image)
    )
    server = operations(
        Mapping(dims, IMAGE_CHANNELS, MASK_CHANNELS), latents(dims, IMAGE_CHANNELS, size)
    )
    assert encoder + decoder <= 0.25 * server
    alone = operations(ClientAlone(dims, channels, MASK_CHANNELS, classes), image)
    assert alone == pytest.approx(encoder + decoder, rel=0.05)


@pytest.mark.parametrize("network", [Mapping, LinearMapping])
@pytest.mark.parametrize("size", [(16, 24, 40), (16, 40)])
def test_maps_of_a_mask_lie_where_those_of_the_image_do(network, size):
    dims = len(size)
    given = [torch.rand(2, c, *[n // s for n in size]) for c, s in zip((3, 5), (4, 8), strict=True)]
    found = network(dims, (3, 5), (4, 6))(given)
    for maps, channels, one in zip(found, (4, 6), given, strict=True):
        assert maps.shape == (2, channels, *one.shape[2:])


@pytest.mark.parametrize("dims", [2, 3])
def test_decoder_is_on_the_grid_of_the_encoder(dims):
    image = torch.rand(1, 2, *(16, 24, 32)[:dims])
    encoded = Encoder(dims, 2, (3, 5), norm=False)(image)
    assert Decoder(dims, (3, 5), 4)(encoded).shape == (1, 4, *image.shape[2:])


@pytest.mark.parametrize("dims", [2, 3])
def test_answer_changes_nothing_until_it_is_fitted(dims):
    image = torch.rand(2, 3, *(16, 24, 32)[:dims])
    encoder, decoder = Encoder(dims, 3, (3, 5), norm=True), SiteDecoder(dims, 3, (3, 5), 4)
    features = encoder.features(image)
    answer = encoder.encoded(features)
    nothing = [torch.zeros_like(one) for one in answer]
    without = decoder(nothing, image, features)
    assert without.shape == (2, 4, *image.shape[2:])
    assert torch.equal(decoder(answer, image, features), without)
    decoder(answer, image, features).square().mean().backward()
    for weight in decoder.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().max() > 0
        weight.data.add_(torch.rand_like(weight))
    fitted = decoder(answer, image, features)
    assert not torch.allclose(decoder(nothing, image, features), fitted, atol=1e-2)
    # Everything that stays is looked at.
    others = [torch.rand_like(one) for one in features]
    for seen in ((torch.rand_like(image), features), (image, others)):
        assert not torch.allclose(decoder(answer, *seen), fitted, atol=1e-2)


@pytest.mark.parametrize("side", [16, 24])
@pytest.mark.parametrize("dims", [2, 3])
def test_thin_tiles_do_not_read_what_nobody_wrote(dims, side):
    """In bf16 and the memory layout of training, with NaN in all memory that was freed before."""
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    space = (*[24] * (dims - 1), side)
    channels = IMAGE_CHANNELS, MASK_CHANNELS
    image = torch.rand(8, 1, *space).to(memory_format=layout)
    encoder = Encoder(dims, 1, IMAGE_CHANNELS, norm=True).to(memory_format=layout)
    mapping = Mapping(dims, *channels).to(memory_format=layout)
    decoder = Decoder(dims, MASK_CHANNELS, 3).to(memory_format=layout)
    networks = torch.nn.ModuleList([encoder, mapping, decoder])
    sizes = torch.randint(1, 400_000, (10, 10), generator=torch.Generator().manual_seed(0))
    with right_gradients(networks):
        for some in sizes.tolist():
            freed = [torch.full((size,), float("nan")) for size in some]
            del freed
            with torch.autocast("cpu", dtype=torch.bfloat16):
                answer = mapping(encoder(image))
                found = decoder(answer)
            assert all(torch.isfinite(one).all() for one in (*answer, found))
            found.float().square().mean().backward()
            for weight in networks.parameters():
                assert weight.grad is not None
                assert torch.isfinite(weight.grad).all()
            networks.zero_grad()


@pytest.mark.parametrize("dims", [2, 3])
def test_units_make_encodings_standard_and_decode_to_the_same(dims):
    torch.manual_seed(0)
    encoder = Encoder(dims, 1, (3, 5), norm=False)
    decoder = Decoder(dims, (3, 5), 2)
    for level in (encoder.fine, encoder.coarse):
        torch.nn.init.normal_(level.weight, 0, 1000)
        torch.nn.init.normal_(level.bias, 0, 1000)
    given = [torch.rand(1, 1, *[16] * dims) for _ in range(6)]
    with torch.no_grad():
        before = [decoder(encoder(maps)) for maps in given]
        for _ in range(2):  # measured anew, they stay
            measure_units(encoder, [decoder], given)
            for level in range(2):
                values = torch.cat([encoder(maps)[level] for maps in given])
                deviation, mean = torch.std_mean(values, [0, *range(2, values.ndim)], correction=0)
                torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-2, rtol=0)
                torch.testing.assert_close(deviation, torch.ones_like(mean), atol=1e-2, rtol=0)
        after = [decoder(encoder(maps)) for maps in given]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2 * float(one.abs().max()))
