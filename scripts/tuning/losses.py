"""What was tried of the training of a mixture, beside networks and optimizers."""

from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d

from tuning.table import Experiment
from veilseg.schemes.mixup.training import MixupTraining
from veilseg.training.losses import soft_target_loss

# A curriculum begins here and is over after this share of the steps.
FIRST_COEFFICIENT, CURRICULUM_SHARE = 0.8, 0.5


class TriedMixup(MixupTraining):
    """The package's loss, with what an experiment changes of it."""

    def __init__(self, experiment: Experiment, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.experiment = experiment
        self.step = 0

    def supervise(self, spatial_dims: int) -> None:
        """Heads for the levels of the segmenter's context, once the segmenter is in its place."""
        self.levels: list[Tensor] = []
        upsamples = self.segmenter.network.context.upsamples
        conv = Conv[Conv.CONV, spatial_dims]
        widths = [level.conv_block.conv2.conv.out_channels for level in upsamples]
        self.heads = nn.ModuleList(conv(width, self.classes, 1) for width in widths)
        for level in upsamples:
            level.register_forward_hook(self._keep)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        assert self.unmixer is not None, "the algebra alone has nothing to try"
        a = batch["coefficient"].reshape(-1, *[1] * (batch["target"].ndim - 1))
        mixture = batch["proxy"]
        patient = (mixture - (1 - a) * batch["reference"]) / a
        if self.experiment.curriculum:
            a = self._eased(a)
            mixture = a * patient + (1 - a) * batch["reference"]
        target, reference_target = self._smoothed(batch["target"], batch["reference_labels"])
        logits = self.segmenter(mixture)
        answer = torch.softmax(logits.float(), dim=1)
        labels, reference = batch["reference_labels"], batch["reference"]
        unmixed = self.unmixer(answer, labels, reference, a.flatten())
        unmixing_loss = soft_target_loss(unmixed, target)
        if self.experiment.symmetric:
            # A mixture has two sources: D recovers the reference's labels, too.
            other = self.unmixer(answer, batch["target"], patient, 1 - a.flatten())
            unmixing_loss = (unmixing_loss + soft_target_loss(other, reference_target)) / 2
        weight = self.recipe.unmixing_weight
        mixture_loss = self._of_mixture(logits, a * target + (1 - a) * reference_target)
        return (mixture_loss + weight * unmixing_loss) / (1 + weight)

    def _keep(self, _level: nn.Module, _given: object, maps: Tensor) -> None:
        if torch.is_grad_enabled():  # nothing is kept of a validation
            self.levels.append(maps)

    def _eased(self, coefficient: Tensor) -> Tensor:
        """A larger a at first, that of the law after a share of the steps."""
        self.step += 1
        passed = min(1.0, self.step / (CURRICULUM_SHARE * self.experiment.steps))
        return coefficient + (1 - passed) * (FIRST_COEFFICIENT - coefficient)

    def _smoothed(self, *targets: Tensor) -> list[Tensor]:
        share = self.experiment.label_smoothing
        return [(1 - share) * target + share / self.classes for target in targets]

    def _of_mixture(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of the mixture of maps; a level counts half of the one above it."""
        losses, weights = [soft_target_loss(logits, target)], [1.0]
        if self.experiment.deep_supervision:
            pool = adaptive_avg_pool2d if target.ndim == 4 else adaptive_avg_pool3d
            # Hooks saw the coarsest level first.
            for head, maps in zip(reversed(self.heads), reversed(self.levels), strict=True):
                coarse = pool(target, maps.shape[2:])
                losses.append(soft_target_loss(head(maps), coarse))
                weights.append(weights[-1] / 2)
            self.levels.clear()
        return sum(w * one for w, one in zip(weights, losses, strict=True)) / sum(weights)
