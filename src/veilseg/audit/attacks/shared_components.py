"""A8: many proxies, few references: which proxies share one is learned, and then they are unmixed.

After Chen et al. 2021 (arXiv:2011.05315), who took apart encodings that shared images: a network is
taught to say whether two proxies share a component, proxies are grouped by what it says, and least
squares over a group gives the component.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from veilseg.audit.attacks.reidentification import TEMPERATURE
from veilseg.audit.attacks.shared_reference import OneReferenceLaw, unmixed
from veilseg.audit.findings import Control, DoesNotApply, Finding, NotRun, Threat, rounded
from veilseg.audit.fitting import run
from veilseg.audit.grids import fitted
from veilseg.audit.laws import MixtureLaw
from veilseg.audit.nulls import null_of_images, proxies_of_nobody
from veilseg.audit.scene import Observation
from veilseg.audit.similarity import ssim
from veilseg.audit.workshop import Workshop, mean_image
from veilseg.datasets.cases import PreparedCase
from veilseg.evaluation.bootstrap import bootstrap_mean
from veilseg.networks.identity import Embedding
from veilseg.payload import Float32Array
from veilseg.training.examples import Arrays
from veilseg.training.loader import Batch

FINDING = Finding("A8", "Few references for many people", "image", Threat(), "SSIM")
REFERENCES = 3
# The reference is most of the mixture: then it has to be seen who shares one.
CONTROL_COEFFICIENT, CONTROL_GROUPED = 0.2, 0.8
DEFAULT = "a reference for each"

Numbers = NDArray[np.intp]


class Sharing(nn.Module):
    """Proxies to a space in which those that share a reference lie close together.

    Parameters
    ----------
    spatial_dims, channels : int
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.of_proxy = Embedding(spatial_dims, channels)

    def loss(self, batch: Batch) -> Tensor:
        """Each proxy is to find the one of the batch that shares its reference."""
        one, other = self.of_proxy(batch["proxy"]), self.of_proxy(batch["sibling"])
        scores = (one @ other.T / TEMPERATURE).float()
        own = torch.arange(len(scores))
        return cross_entropy(scores, own) + cross_entropy(scores.T, own)


@dataclass(frozen=True)
class SiblingLaw:
    """Two proxies that share a reference, of two people; ``laws`` are taken in turn by chance."""

    laws: Sequence[MixtureLaw]
    people: Sequence[PreparedCase]

    def example(self, case: PreparedCase, rng: Generator) -> Arrays:
        law = self.laws[int(rng.integers(len(self.laws)))]
        others = [one for one in self.people if one.patient != case.patient]
        other = fitted(others[int(rng.integers(len(others)))], case.labels.shape)
        reference = law.reference(case, rng)
        sibling = law.mixed(other, reference, rng)["proxy"]
        return law.mixed(case, reference, rng) | {"sibling": sibling}


def attack(workshop: Workshop) -> list[Finding]:
    """SSIM after each group's reference is estimated and subtracted; the attacker is told how many
    references there are.

    Raises
    ------
    NotRun
        If nothing is mixed, or in a quick audit.
    """
    scene = workshop.scene
    law, easy = scene.law(), scene.law(CONTROL_COEFFICIENT)
    if not (isinstance(law, MixtureLaw) and isinstance(easy, MixtureLaw)):
        raise DoesNotApply("nothing is mixed")
    if not workshop.effort.thorough:
        raise NotRun(f"left out of a {workshop.effort.name} audit: it trains a network of its own")
    network = _network(workshop, SiblingLaw((law, easy), scene.auxiliary))
    mean = mean_image(scene.auxiliary, scene.manifest.tile_shape)

    def found(seen: Sequence[Observation]) -> list[Float32Array]:
        return _unmixed_by_group(seen, grouped(network, seen), mean, law.coefficient)

    few, whose = _few_references(workshop, law)
    default = workshop.observed()
    patients = [one.patient for one in few]
    values = [ssim(image, one.image) for image, one in zip(found(few), few, strict=True)]
    known = _unmixed_by_group(few, whose, mean, law.coefficient)
    one_each = [ssim(image, one.image) for image, one in zip(found(default), default, strict=True)]
    controlled, owners = _few_references(workshop, easy)
    positive = Control(
        f"proxies put with those of their reference at a = {CONTROL_COEFFICIENT:g}",
        rightly_grouped(grouped(network, controlled), owners),
        low=CONTROL_GROUPED,
    )
    rng = np.random.default_rng([scene.seed, 9])
    shared = OneReferenceLaw(law, law.reference(fitted_people(workshop)[0], rng), scene.seed)
    null = null_of_images(workshop, found(proxies_of_nobody(workshop, shared)))
    baseline = {
        "mean image": workshop.ssim_of_nobody(),
        "the proxy itself": float(np.mean([ssim(one.proxy, one.image) for one in few])),
    }
    details = {
        "rightly_grouped": rounded(rightly_grouped(grouped(network, few), whose)),
        "ssim_if_told_the_groups": rounded(
            float(np.mean([ssim(x, one.image) for x, one in zip(known, few, strict=True)]))
        ),
    }
    finding = replace(FINDING, threat=replace(FINDING.threat, subjects=len(few)))
    setting = f"{REFERENCES} references for all, without a warp of their own"
    of_few, of_default = (bootstrap_mean(some, patients) for some in (values, one_each))
    return [
        finding.measured(of_few, baseline, positive, null, details, setting, "never"),
        finding.measured(of_default, baseline, positive, null, setting=DEFAULT),
    ]


def fitted_people(workshop: Workshop) -> list[PreparedCase]:
    """Whom the attack is run on, each cut or padded to the tile."""
    tile = workshop.scene.manifest.tile_shape
    return [fitted(case, tile) for case in workshop.audited]


def grouped(network: Sharing, seen: Sequence[Observation]) -> Numbers:
    """A group for each proxy, by average linkage of what the network makes of them: (n,)."""
    places = np.stack([run(network.of_proxy, one.proxy) for one in seen])
    tree = linkage(places, method="average", metric="cosine")
    return np.asarray(fcluster(tree, REFERENCES, criterion="maxclust"), dtype=np.intp)


def rightly_grouped(groups: Numbers, owners: Numbers) -> float:
    """Share of proxies in the group of their reference, groups named as fits best.

    Parameters
    ----------
    groups, owners : ndarray, shape (n,), int
        What was found, and which reference each was mixed with.
    """
    table = np.array(
        [[(groups[owners == own] == one).sum() for one in np.unique(groups)] for own in set(owners)]
    )
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(groups))


def _few_references(workshop: Workshop, law: MixtureLaw) -> tuple[list[Observation], Numbers]:
    """Proxies of all who are audited, and the number of the reference of each."""
    scene, people = workshop.scene, fitted_people(workshop)
    owners = np.arange(len(people)) % REFERENCES
    # Bases of labelled references are of other people than the first of each group.
    laws = [
        OneReferenceLaw(
            law,
            law.reference(people[number], np.random.default_rng([scene.seed, 10, number])),
            scene.seed + number,
        )
        for number in range(REFERENCES)
    ]
    seen = [
        scene.simulate(laws[owner], [case], answered=False, first=number)[0]
        for number, (owner, case) in enumerate(zip(owners, people, strict=True))
    ]
    return seen, owners


def _unmixed_by_group(
    seen: Sequence[Observation], groups: Numbers, mean: Float32Array, coefficient: float
) -> list[Float32Array]:
    found: dict[int, Float32Array] = {}
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group).tolist()
        images = unmixed([seen[member] for member in members], mean, coefficient)
        found |= zip(members, images, strict=True)
    return [found[number] for number in range(len(seen))]


def _network(workshop: Workshop, law: SiblingLaw) -> Sharing:
    manifest = workshop.scene.manifest
    found = workshop.trained(
        "sharing",
        lambda: Sharing(len(manifest.tile_shape), len(manifest.channels)),
        law,
        lambda network, batch: network.loss(batch),  # type: ignore[operator]  # it is a Sharing
        batch=workshop.effort.people_per_step,
    )
    assert isinstance(found, Sharing)
    return found
