"""What attacks share: observations of the audited, and networks that are trained once.

Both are kept in a folder, so that an audit that was broken off goes on where it was.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from veilseg.audit.fitting import fit
from veilseg.audit.grids import fitted
from veilseg.audit.laws import Law
from veilseg.audit.scene import Observation, Scene, evenly
from veilseg.audit.similarity import ssim
from veilseg.datasets.cases import PreparedCase
from veilseg.files import written_whole
from veilseg.payload import Float32Array
from veilseg.training.batches import Examples
from veilseg.training.loader import Batch
from veilseg.training.run import VOXELS_PER_STEP, batch_size

Report = Callable[[int, int, str], None]

# Of a network that only shows that an attack works where it must: that is soon learned.
MOST_CONTROL_STEPS = 500


def attack_batch_size(tile_shape: Sequence[int]) -> int:
    """Examples per step of an attack: an attacker's steps are counted, so none is a small one."""
    return batch_size(tile_shape, VOXELS_PER_STEP)


@dataclass(frozen=True)
class Effort:
    """How much an attacker spends.

    Attributes
    ----------
    name : str
    steps : int
        Of a network that is trained.
    audited : int
        Images attacked, at the most.
    fitted : int
        Those by attacks that fit a network to each image; 0: such attacks are left out.
    iterations : int
        Of a network that is fitted to one image.
    proxies : int
        Of one image, at the most, where several are averaged.
    people_per_step : int
        That a network is to tell apart in one step.
    thorough : bool
        Whether networks are trained that only add strength: one that takes means of proxies apart
        (A2), and one that compares proxies with images (A15).
    galleries : tuple of int
        Numbers of candidates, rising.
    shadow_steps : int
        Of a network that is to be what the server's would be without a person (A14).
    registration : int
        Steps by which candidates are registered, at half the resolution.
    """

    name: str
    steps: int
    audited: int
    fitted: int
    iterations: int = 60
    proxies: int = 16
    people_per_step: int = 8
    thorough: bool = False
    galleries: tuple[int, ...] = (3,)
    shadow_steps: int = 60
    registration: int = 60


QUICK = Effort("quick", steps=180, audited=12, fitted=0, registration=40)
FULL = Effort(
    *("full", 2000, 60, 6),
    iterations=500,
    thorough=True,
    galleries=(3, 10, 30),
    shadow_steps=2000,
    registration=120,
)


@dataclass
class Workshop:
    """Scene, effort and what was made so far.

    Attributes
    ----------
    scene : Scene
    effort : Effort
    folder : Path
        Where trained networks are kept.
    report : callable
        Called with (done, total, what).
    """

    scene: Scene
    effort: Effort
    folder: Path
    report: Report
    _seen: dict[float, list[Observation]] = field(default_factory=dict)
    _networks: dict[str, nn.Module] = field(default_factory=dict)
    _nobody: float | None = None

    @property
    def audited(self) -> list[PreparedCase]:
        """Whom the attacks are run on: as many as the effort allows, spread over all."""
        return evenly(self.scene.audited, self.effort.audited)

    def observed(self, coefficient: float | None = None) -> list[Observation]:
        """The proxies of the audited, and the server's answers."""
        key = self.scene.coefficient if coefficient is None else coefficient
        if key not in self._seen:
            self._seen[key] = self.scene.observe(self.audited, coefficient=coefficient)
        return self._seen[key]

    def ssim_of_nobody(self) -> float:
        """SSIM of the mean of the attacker's images: what is known of a patient beforehand."""
        if self._nobody is None:
            mean = mean_image(self.scene.auxiliary, self.scene.manifest.tile_shape)
            self._nobody = float(np.mean([ssim(mean, one.image) for one in self.observed()]))
        return self._nobody

    def trained(
        self,
        name: str,
        build: Callable[[], nn.Module],
        law: Law,
        loss: Callable[[nn.Module, Batch], Tensor],
        steps: int | None = None,
        cases: Sequence[PreparedCase] | None = None,
        batch: int | None = None,
        augment: bool = True,
    ) -> nn.Module:
        """A network by name, trained on the attacker's own cases unless it is there already."""
        scene = self.scene
        steps = self.effort.steps if steps is None else steps
        tile = scene.manifest.tile_shape
        own = scene.auxiliary if cases is None else cases
        size = attack_batch_size(tile) if batch is None else batch
        examples = Examples(law, own, tile, steps * size, scene.seed, augment)
        return self.fitted(name, build, examples, loss, steps, size)

    def fitted(
        self,
        name: str,
        build: Callable[[], nn.Module],
        examples: Dataset[Batch],
        loss: Callable[[nn.Module, Batch], Tensor],
        steps: int,
        batch: int,
    ) -> nn.Module:
        """A network by name, fitted to examples unless it is there already."""
        if name in self._networks:
            return self._networks[name]
        scene = self.scene
        torch.manual_seed(scene.seed)
        network = build()
        file = self.folder / f"{name.replace(' ', '-')}-{self._key(name, steps)}.safetensors"
        if file.is_file():
            stored = load_file(file)
            with torch.no_grad():
                for key, weight in network.named_parameters():
                    weight.copy_(stored[key])
        else:
            report, dims = partial(self._reported, name), len(scene.manifest.tile_shape)
            self.folder.mkdir(parents=True, exist_ok=True)
            half_way = file.with_suffix(".checkpoint")
            fit(network, examples, dims, loss, steps, batch, scene.seed, report, half_way)
            # By parameter: MONAI's U-Net lists its blocks under two names in its state dict.
            weights = {
                key: weight.detach().contiguous() for key, weight in network.named_parameters()
            }
            with written_whole(file) as temporary:
                save_file(weights, temporary)
            half_way.unlink(missing_ok=True)
        self._networks[name] = network.eval()
        return network

    def _reported(self, name: str, done: int, total: int) -> None:
        self.report(done, total, name)

    def with_answers(self, batch: Batch) -> Batch:
        """A batch, and what the server answers to its proxies."""
        if "answer" not in batch:
            wire = batch["proxy"].half().float().numpy()
            answers = np.stack([self.scene.server(proxy) for proxy in wire])
            batch["answer"] = torch.from_numpy(answers)
        return batch

    def _key(self, name: str, steps: int) -> str:
        """Another bundle, other people or another effort need another network."""
        scene = self.scene
        digest = hashlib.sha256(
            json.dumps(
                [
                    *(name, steps, scene.seed, scene.fingerprint()),
                    asdict(self.effort),
                ]
            ).encode()
        )
        return digest.hexdigest()[:12]


def mean_image(cases: Sequence[PreparedCase], tile: tuple[int, ...]) -> Float32Array:
    """The mean of the attacker's images, each cut or padded to the tile."""
    images = np.stack([fitted(case, tile).image for case in cases])
    return np.asarray(images.mean(axis=0), dtype=np.float32)
