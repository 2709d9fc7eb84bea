"""Checkpoints in safetensors: weights, optimiser state and step, without pickle."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from veilseg.errors import BundleIntegrity, OutputNotWritable
from veilseg.files import written_whole

Precision = Literal["bf16-mixed", "32-true"]


def save_checkpoint(
    path: Path, model: nn.Module, optimizers: Sequence[Optimizer], step: int, run: str
) -> None:
    """Write whole or not at all; ``run`` is a fingerprint of what defines the run.

    Raises
    ------
    OutputNotWritable
        If the disk is full, say. The checkpoint before is still there.
    """
    tensors = {f"model/{name}": tensor for name, tensor in _weights(model).items()}
    for name, _, state in _moved(model, optimizers):
        for key, value in state.items():
            tensors[f"optimizer/{name}/{key}"] = value.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"step": str(step), "run": run})
        except SafetensorError as error:
            # Not an OSError, though it is one: a full disk, mostly.
            raise OutputNotWritable(f"{path}: cannot be written: {error}") from error


def load_checkpoint(path: Path, model: nn.Module, optimizers: Sequence[Optimizer], run: str) -> int:
    """Restore model and optimiser; returns the number of steps done.

    Raises
    ------
    BundleIntegrity
        If the file is damaged or was written by a run with other settings.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata()
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:
        raise BundleIntegrity(f"{path}: not a checkpoint, or damaged: {error}") from error
    fits = (metadata or {}).get("run") == run and all(
        f"model/{name}" in tensors and tensors[f"model/{name}"].shape == parameter.shape
        for name, parameter in model.named_parameters()
    )
    if not fits:
        raise BundleIntegrity(f"{path}: written by a run with other data, steps, seed or networks")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model/{name}"])
    for name, tensor, state in _moved(model, optimizers):
        prefix = f"optimizer/{name}/"
        stored_state = {
            n.removeprefix(prefix): t.to(tensor.device)
            for n, t in tensors.items()
            if n.startswith(prefix)
        }
        state.update(stored_state)
    return int(metadata["step"])


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Each parameter once: MONAI's U-Net lists its blocks under two names in its state dict."""
    return {name: tensor.detach().contiguous() for name, tensor in model.named_parameters()}


def _moved(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
    """Name, tensor and optimiser state of each weight.

    By address: what an optimiser moves may be another view of a parameter.
    """
    names = {parameter.data_ptr(): name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                yield names[tensor.data_ptr()], tensor, optimizer.state[tensor]


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 natively (elsewhere bf16 is slower than fp32)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def training_precision() -> Precision:
    """Lightning Fabric's name of the precision that is fastest here."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if cpu_has_bf16() else "32-true"
