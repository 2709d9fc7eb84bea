"""The model card that every bundle gets."""

from typing import Any

from veilseg.bundle import ClientManifest

FIGURES_START, FIGURES_END = "<!-- figures -->", "<!-- /figures -->"

PROTECTION = {
    "plain": "None. The server sees the image, cropped and scaled, and the segmentation. This "
    "bundle is the accuracy ceiling and the audit's positive control; run it at the site "
    "(`--local`) where the provider allows it.",
    "mixup": "Obfuscation by mixing with a secret reference, not encryption. Much of the patient "
    "can still be seen in the mixture, the answer shows the union of the patient's and the "
    "reference's mask, and where that was measured in full, on the hippocampus, a network trained "
    "on other people's mixtures found most of the image and of the mask. The figures are in "
    "docs/privacy.md of the project. {published} published with this bundle; its protection rests "
    "on the site's {secret}.",
    "noise": "Little: a comparator, not a protection to rely on. The server sees the image under "
    "noise of standard deviation {strength:g} (intensities in [0, 1]): coarse anatomy is in full "
    "view, a trained network removes much of the noise, and the answer is the segmentation itself. "
    "As local differential privacy of one tile, this noise would be ε = {epsilon:g} at "
    "δ = {delta:g}, which promises nothing.",
    "deformation": "Little: a comparator, not a protection to rely on. The server sees every "
    "detail of the image, off its place by a secret smooth deformation (strength {strength:g} of a "
    "side), and the mask under the same deformation. Intensities, textures and neighbourhoods are "
    "not hidden. The generator of deformations is published with this bundle; what shape there was "
    "rests on the site's key.",
    "privacy_net": "Obfuscation by an encoder: a comparator. The server sees an encoded image in "
    "which the discriminator that it was trained against (weight {strength:g}) is not to recognise "
    "people; another network may. There is no secret: whoever has the encoder, as every site does, "
    "trains a network that undoes it. The mask is not protected: the answer is the segmentation "
    "itself, in its place. Where the client half is published with the bundle, this is a white-box "
    "demonstration.",
    "encoding": "Obfuscation by encoding, not encryption. The server sees encodings of images and "
    "masks{keyed}; whoever has the encoder, as every site does, or enough images with their "
    "encodings, trains a network that undoes it. The site decodes the answer beside its own "
    "image, by networks that were trained on raw images and may remember them. What is known is in "
    "docs/privacy.md of the project. Where the client half is published with the bundle, this is a "
    "white-box demonstration: a provider must never get it.",
}

CARD = """# {name}

Segments {labels} in {channels}, {dims}D, scheme `{scheme}`. Bundle `{bundle_id}`.

Research use only: no medical device, no diagnosis.

## Data

Trained on `{dataset}` (SHA-256 `{data}`): {train} training, {validation} validation and {test} test
images, split by patient{fold}. {steps} steps of {batch} tiles of {tile}{spacing}, seed {seed},
commit `{commit}`{init}.

## Licence

{licence}

## Figures

{start}
Not evaluated yet: run `veilseg evaluate`.
{end}

## What it protects

{protection}

## Limits

- Images must look like the training data (region, contrast, preprocessing); `veilseg segment`
  warns where they do not, as far as it can tell.
- Nothing proves that a server ran this network or answered truthfully.
- Accuracy was measured on the data set named above, from few people and few scanners.
"""


def model_card(manifest: ClientManifest, bundle_id: str) -> str:
    """Render the card of a bundle from its manifest."""
    source = manifest.provenance
    return CARD.format(
        name=manifest.name,
        labels=", ".join(label.name for label in manifest.labels if label.value),
        channels=", ".join(manifest.channels),
        dims=manifest.spatial_dims,
        scheme=manifest.scheme,
        bundle_id=bundle_id,
        dataset=source["dataset"],
        data=source["data_sha256"],
        **source["cases"],
        steps=source["steps"],
        batch=source["batch"],
        tile="×".join(map(str, manifest.tile_shape)),
        spacing=_spacing(manifest),
        fold="" if source.get("fold") is None else f", fold {source['fold']}",
        seed=source["seed"],
        commit=source["commit"],
        init=_init(source.get("init")),
        licence=manifest.licence,
        start=FIGURES_START,
        end=FIGURES_END,
        protection=PROTECTION[manifest.scheme].format(**_held(manifest)),
    )


def _spacing(manifest: ClientManifest) -> str:
    if manifest.unit == "pixel":
        return " pixels"
    return f" at {'×'.join(f'{value:g}' for value in manifest.spacing_mm)} mm"


def _held(manifest: ClientManifest) -> dict[str, Any]:
    """What of a client half is public, and what a site keeps."""
    if manifest.scheme == "encoding":
        keyed = manifest.settings["key"] is not None
        return {"keyed": ", in the basis of a key that the sites share" if keyed else ""}
    if "strength" in manifest.settings:
        return manifest.settings
    learned = manifest.settings.get("unmixing") == "learned"
    synthetic = "synthetic" in manifest.settings.get("references", ())
    published = {
        (True, True): "The unmixing network and the template of synthetic references are",
        (True, False): "The unmixing network is",
        (False, True): "The template of synthetic references is",
        (False, False): "Nothing that recovers is",
    }[learned, synthetic]
    return {"published": published, "secret": "key" if synthetic else "key and labelled cases"}


def _init(start: dict[str, Any] | None) -> str:
    if start is None:
        return ""
    return (
        f", from the weights of bundle\n`{start['bundle_id']}` "
        f"({start['provenance']['steps']} steps, commit `{start['provenance']['commit']}`)"
    )
