"""The deformation while it is learned: generator, flow and warp in torch (``field`` at sites)."""

from collections.abc import Sequence
from functools import reduce

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, grid_sample, interpolate, leaky_relu

from veilseg.schemes.deformation.field import CODE_CHANNELS, FINE_NODES, NODES, SQUARINGS

WIDTH = 16
SMOOTHINGS = 3
# Of the velocity along each axis: beyond, the discrete flow would be hard to invert.
STEEPEST = 1.0
SMALLEST = 1e-6


class VelocityGenerator(nn.Module):
    """Secret numbers to the velocity of a deformation.

    It starts as smoothed noise and learns what to change. Whatever it learns, the velocity has the
    same root mean square, unless that would be too steep to be inverted well; and it is an odd
    function of the numbers, so that its mean over subjects is 0: what all fields had in common
    would be no secret.

    Parameters
    ----------
    spatial_dims : int
    strength : float
        The root mean square, as a share of a side.
    """

    kernel: Tensor
    within: Tensor

    def __init__(self, spatial_dims: int, strength: float) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.spatial_dims, self.strength = spatial_dims, strength
        self.embed = conv(CODE_CHANNELS, WIDTH, 3, padding=1)
        self.weigh = conv(WIDTH, WIDTH, 3, padding=1)
        self.decide = conv(WIDTH, spatial_dims, 1)
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = reduce(lambda some, one: some[..., None] * one, [line] * spatial_dims)
        self.register_buffer("kernel", kernel.repeat(spatial_dims, 1, *[1] * spatial_dims))
        within = torch.ones(spatial_dims, *[NODES] * spatial_dims)
        for axis, component in enumerate(within):
            component.index_fill_(axis, torch.tensor([0, NODES - 1]), 0.0)
        self.register_buffer("within", within[None])

    def forward(self, code: Tensor) -> Tensor:
        """(N, code channels, *nodes) of normal numbers to (N, D, *nodes)."""
        learned = self._learned(code) - self._learned(-code)
        velocity = code[:, : self.spatial_dims] + learned
        smooth = conv3d if self.spatial_dims == 3 else conv2d
        for _ in range(SMOOTHINGS):
            velocity = smooth(velocity, self.kernel, padding=1, groups=self.spatial_dims).float()
        velocity = velocity * self.within
        axes = tuple(range(1, velocity.ndim))
        size = velocity.square().mean(dim=axes, keepdim=True).sqrt()
        slopes = [
            velocity.diff(dim=axis).abs().amax(dim=axes, keepdim=True)
            for axis in range(2, velocity.ndim)
        ]
        steepest = (NODES - 1) * torch.cat(slopes, dim=1).amax(dim=1, keepdim=True)
        factor = torch.minimum(
            self.strength / size.clamp(min=SMALLEST), STEEPEST / steepest.clamp(min=SMALLEST)
        )
        return velocity * factor

    def _learned(self, code: Tensor) -> Tensor:
        found: Tensor = self.decide(leaky_relu(self.weigh(leaky_relu(self.embed(code)))))
        return found.float()


def displacement(velocity: Tensor, shape: Sequence[int]) -> Tensor:
    """The flow of velocities (N, D, *nodes) as :func:`~.field.flow` has it, less where it starts.

    Returns
    -------
    Tensor, shape (N, D, *shape)
        As a share of the side.
    """
    fine = [FINE_NODES] * len(shape)
    step = _resized(velocity, fine) / 2**SQUARINGS
    for _ in range(SQUARINGS):
        step = step + warped(step, step)
    return _resized(step, shape)


def warped(maps: Tensor, moved: Tensor) -> Tensor:
    """Maps (N, C, *shape), looked up linearly where displacements (N, D, *shape) say."""
    shape = moved.shape[2:]
    axes = [torch.linspace(0, 1, size, device=moved.device) for size in shape]
    places = moved + torch.stack(torch.meshgrid(*axes, indexing="ij"))
    # torch counts from -1 to 1 along each axis, the last axis first.
    grid = (2 * places - 1).movedim(1, -1).flip(-1)
    return grid_sample(maps.float(), grid, padding_mode="border", align_corners=True)


def _resized(maps: Tensor, shape: Sequence[int]) -> Tensor:
    mode = "trilinear" if maps.ndim == 5 else "bilinear"
    return interpolate(maps, list(shape), mode=mode, align_corners=True)
