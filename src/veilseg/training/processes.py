"""One training process, or as many as ``torchrun`` started."""

import logging
import os

from lightning_fabric import Fabric

from veilseg.training.checkpoint import training_precision


def is_first() -> bool:
    """Whether this is the process that reports and writes."""
    return os.environ.get("RANK", "0") == "0"


def launch() -> Fabric:
    """The Fabric of this process, launched; torchrun's environment says how many there are."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="auto",
        devices=local,
        num_nodes=world_size // local,
        strategy="ddp" if world_size > 1 else "auto",
        precision=training_precision(),
    )
    if world_size > 1:
        fabric.launch()
    return fabric
