"""Training of Privacy-SF (method.md §2): autoencoders at a site, mapping at the server.

Three stages: the autoencoders of images and masks, and the site's decoder as long as there is no
server; the mapping network, from encoded pairs alone; and the site's decoder, on its answers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from veilseg.contribution import ProtectedPair
from veilseg.datasets.cases import PreparedCase
from veilseg.networks.encoders import Decoder, Encoder, SiteDecoder, measure_units
from veilseg.networks.encodings import Maps
from veilseg.payload import WIRE_DTYPE, Float32Array
from veilseg.schemes.encoding.client import (
    DECODER_FILE,
    ENCODER_FILE,
    FEATURES,
    MASK_ENCODER_FILE,
    SELFTEST_FILE,
    strided,
)
from veilseg.schemes.encoding.key import ConsortiumKey
from veilseg.schemes.encoding.mapping import MappingFit, as_maps, as_sequence
from veilseg.schemes.encoding.sequence import Layout
from veilseg.schemes.encoding.stages import Adaptation, Autoencoders, WithNoise
from veilseg.schemes.references import Template, synthetic_reference
from veilseg.training.batches import Examples
from veilseg.training.examples import Arrays, one_hot
from veilseg.training.export import export_onnx
from veilseg.training.interface import Progress, SchemeTraining, no_progress
from veilseg.training.loader import batches
from veilseg.training.run import Run
from veilseg.training.stage import Stage

# Channels of the encodings at a quarter and an eighth of the resolution. Those of images are few:
# more of them show more of the image.
IMAGE_CHANNELS, MASK_CHANNELS = (2, 8), (16, 32)
# Of the steps; the last stage has the rest.
AUTOENCODER_SHARE, MAPPING_SHARE = 0.35, 0.4
# Augmented tiles of each case that are encoded for the fit of the mapping network: the more, the
# better it is (docs/experiments.md), and the more of each patient has left.
MOST_VIEWS, MOST_BYTES = 32, 1_500_000_000
MEASURED = 32  # tiles from which the units of encodings are taken


class EncodingTraining(SchemeTraining):
    """Encoders, decoders and mapping network.

    Parameters
    ----------
    spatial_dims, channels, classes : int
    tile_shape : tuple of int
    template : Template
        For a self-test image that is nobody's.
    key : ConsortiumKey or None
        Of the consortium; the mapping network is fitted in its basis.
    linear : bool
        The control: a linear map instead of the mapping network.
    """

    name = "encoding"

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        classes: int,
        tile_shape: tuple[int, ...],
        template: Template,
        key: ConsortiumKey | None = None,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.classes, self.template = classes, template
        self.image = Layout.of(tile_shape, IMAGE_CHANNELS)
        self.mask = Layout.of(tile_shape, MASK_CHANNELS)
        self.image_encoder = Encoder(spatial_dims, channels, IMAGE_CHANNELS, norm=True)
        self.image_decoder = Decoder(spatial_dims, IMAGE_CHANNELS, channels)
        self.hint = Decoder(spatial_dims, IMAGE_CHANNELS, classes)
        self.mask_encoder = Encoder(spatial_dims, classes, MASK_CHANNELS, norm=False)
        self.mask_decoder = Decoder(spatial_dims, MASK_CHANNELS, classes)
        self.site_decoder = SiteDecoder(spatial_dims, channels, MASK_CHANNELS, classes)
        self._fit = MappingFit(self.image, self.mask, 0, 0, 0, linear=linear)
        self.mapping = self._fit.mapping()
        # The key itself is not kept: a trial copies the scheme, and a key has no copies.
        self._fingerprint = None if key is None else key.fingerprint()
        parts = ["" if key is None else f"key {self._fingerprint}", "linear" if linear else ""]
        self.variant = " ".join(part for part in parts if part)
        self._transforms = None
        if key is not None:
            self._transforms = (
                key.transform(self.image, "image"),
                key.transform(self.mask, "mask"),
            )

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:  # noqa: ARG002 - nothing random
        return {"image": case.image, "target": one_hot(case.labels, self.classes)}

    def stages(
        self,
        cases: Sequence[PreparedCase],
        run: Run,
        spacing: Sequence[float] | None,
        progress: Progress = no_progress,
    ) -> Iterator[Stage]:
        rate = run.recipe.learning_rate
        first, second = (max(1, round(s * run.steps)) for s in (AUTOENCODER_SHARE, MAPPING_SHARE))
        last = max(1, run.steps - first - second)
        tile, size = run.tile_shape, run.batch

        def of_cases(steps: int, seed: int) -> Examples:
            return Examples(self, cases, tile, steps * size, seed, spacing=spacing)

        dims = len(tile)
        examples = of_cases(first, run.seed)
        halves = Autoencoders(
            *(self.image_encoder, self.image_decoder, self.hint, self.site_decoder),
            *(self.mask_encoder, self.mask_decoder),
        )
        yield Stage("", halves, examples, dims, first, size, rate, WithNoise(run))
        fit = replace(self._fit, steps=second, seed=run.seed, learning_rate=rate)
        sent = Examples(
            *(self, cases, tile, self._views(fit, len(cases)) * len(cases), run.seed + 2),
            spacing=spacing,
        )
        self.cpu()  # examples are there
        some = [sent[number] for number in range(min(MEASURED, len(sent)))]
        image, mask = ([example[name][None] for example in some] for name in ("image", "target"))
        measure_units(self.image_encoder, [self.image_decoder, self.hint], image)
        # The site's decoder takes answers in these units: out of them, they are as large as an
        # encoder without norms likes, and the features beside them would count for nothing.
        measure_units(self.mask_encoder, [self.mask_decoder], mask)
        yield fit.stage(self.mapping, self.pairs(sent, progress))
        examples = of_cases(last, run.seed + 1)
        adapted = Adaptation(self.site_decoder, self)
        yield Stage("decoder", adapted, examples, dims, last, size, rate)

    def _views(self, fit: MappingFit, cases: int) -> int:
        """Pairs of each case: no more than are drawn, or than memory holds beside the networks."""
        room = MOST_BYTES // ((self.image.values + self.mask.values) * WIRE_DTYPE.itemsize)
        return min(MOST_VIEWS, *(max(1, most // cases) for most in (room, fit.steps * fit.batch)))

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        image = batch["image"]
        answer, features = self.answered(image)
        return torch.softmax(self.site_decoder(answer, image, features).float(), dim=1)

    @torch.no_grad()
    def answered(self, image: Tensor) -> tuple[Maps, Maps]:
        """What the server's network makes of images, without the key, and what stays of them."""
        features = self.image_encoder.features(image)
        return self._mapped(self.image_encoder.encoded(features)), features

    def _mapped(self, encoded: Maps) -> Maps:
        sequence = as_sequence(encoded).float()
        if self._transforms is None:
            return as_maps(self.mapping(sequence).float(), self.mask)
        of_images, of_masks = self._transforms
        keyed = torch.from_numpy(of_images.apply(sequence.cpu().numpy())).to(sequence)
        found = of_masks.revert(self.mapping(keyed).float().cpu().numpy())
        return as_maps(torch.from_numpy(found).to(sequence), self.mask)

    @torch.no_grad()
    def pairs(self, examples: Examples, progress: Progress) -> list[ProtectedPair]:
        """What leaves the site: tiles, augmented there, encoded and keyed.

        Parameters
        ----------
        examples : Examples
            Of images and masks.
        progress : callable
            Called with (pairs done, pairs).

        Leaks
        -----
        Several encodings of each patient, which :func:`veilseg.audit.attacks.layout.linkage` puts
        together.
        """
        found = []
        for number, example in enumerate(batches(examples, 1), start=1):
            sequences = [
                as_sequence(encoder(example[name])).float().numpy()[0]
                for name, encoder in (("image", self.image_encoder), ("target", self.mask_encoder))
            ]
            if self._transforms is not None:
                sequences = [
                    transform.apply(one)
                    for transform, one in zip(self._transforms, sequences, strict=True)
                ]
            found.append(ProtectedPair(*(one.astype(WIRE_DTYPE) for one in sequences)))
            progress(number, len(examples))
        return found

    @property
    def server_network(self) -> nn.Module:
        return self.mapping

    def write_client_files(self, folder: Path, tile_shape: tuple[int, ...]) -> None:
        rng = torch.Generator().manual_seed(0)
        channels = self.template.mean.shape[1]
        image = torch.rand((1, channels, *tile_shape), generator=rng)
        encoder = _ToSequence(self.image_encoder, features=True)
        export_onnx(encoder, folder / ENCODER_FILE, {"image": image}, "encoded", *FEATURES)
        noise = torch.rand((1, self.classes, *tile_shape), generator=rng)
        mask = noise / noise.sum(dim=1, keepdim=True)
        export_onnx(
            _ToSequence(self.mask_encoder), folder / MASK_ENCODER_FILE, {"mask": mask}, "encoded"
        )
        with torch.no_grad():
            kept = self.image_encoder.features(image)
        given = {
            "encoded": torch.randn((1, self.mask.values), generator=rng),
            "image": image,
            **dict(zip(FEATURES, kept, strict=True)),
        }
        decoder = _FromSequence(self.site_decoder, self.mask)
        export_onnx(decoder, folder / DECODER_FILE, given, "probabilities")
        nobody = synthetic_reference(self.template, tile_shape, np.random.default_rng(0)).image
        stored = nobody.astype(np.float16)
        known = torch.from_numpy(stored.astype(np.float32))[None]
        with torch.no_grad():
            features = self.image_encoder.features(known)
            nothing = torch.zeros(1, self.mask.values)
            recovered = decoder(nothing, known, *features).numpy()[0]
        np.savez_compressed(
            folder / SELFTEST_FILE,
            image=stored,
            # Without the key: with it, image and encoding would be the pair that gives it away.
            encoded=self._encoded(known.numpy()[0]),
            recovered=strided(recovered),
        )

    def selftest_image(self, rng: Generator) -> Float32Array:
        if self._transforms is not None:
            # Whoever rebuilds a known image would have the pair that gives the key away.
            return rng.standard_normal(self.image.values, dtype=np.float32)
        shape = self.template.tissues.shape
        return self._encoded(synthetic_reference(self.template, shape, rng).image)

    def wire_shapes(
        self,
        channels: int,  # noqa: ARG002 - one interface
        classes: int,  # noqa: ARG002
        tile_shape: tuple[int, ...],  # noqa: ARG002
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.image.values,), (self.mask.values,)

    def settings(self) -> dict[str, Any]:
        return self._levels() | {"key": self._fingerprint}

    def fitting(self) -> dict[str, Any]:
        return {"scheme": self.name} | self._levels()

    def _levels(self) -> dict[str, Any]:
        return {
            f"{name}_levels": layout.to_json()
            for name, layout in (("image", self.image), ("mask", self.mask))
        }

    @torch.no_grad()
    def _encoded(self, image: Float32Array) -> Float32Array:
        sequence = as_sequence(self.image_encoder(torch.from_numpy(image)[None]))
        found: Float32Array = sequence.float().numpy()[0]
        return found


class _ToSequence(nn.Module):
    """An encoder as it is exported, with its features where they are of use."""

    def __init__(self, encoder: Encoder, features: bool = False) -> None:
        super().__init__()
        self.encoder, self.features = encoder, features

    def forward(self, maps: Tensor) -> Tensor | tuple[Tensor, ...]:
        features = self.encoder.features(maps)
        encoded = as_sequence(self.encoder.encoded(features))
        return (encoded, *features) if self.features else encoded


class _FromSequence(nn.Module):
    """The site's decoder as it is exported."""

    def __init__(self, decoder: SiteDecoder, layout: Layout) -> None:
        super().__init__()
        self.decoder, self.layout = decoder, layout

    def forward(self, encoded: Tensor, image: Tensor, *features: Tensor) -> Tensor:
        logits = self.decoder(as_maps(encoded, self.layout), image, list(features))
        return torch.softmax(logits, dim=1)
