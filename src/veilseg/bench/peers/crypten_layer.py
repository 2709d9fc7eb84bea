"""A convolution layer in CrypTen, on shares of two parties: party 0 has the image, 1 the weights.

Rank 2 is the dealer of the randomness that both use up. Each party is a process of its own.
"""

import os
import sys
import time
from importlib import import_module
from importlib.metadata import version

import numpy as np
import torch
from layer import options, read, take_turns, tell

# Where CrypTen 0.4.1 looks for it; torch has moved it since.
sys.modules["torch.onnx._internal.registration"] = import_module(
    "torch.onnx._internal.torchscript_exporter.registration"
)

import crypten  # noqa: E402 - after the alias
from crypten.config import cfg  # noqa: E402

PARTIES, DEALER = 2, 2


def main() -> None:
    """Be one of the three until nobody asks any more."""
    told = options()
    torch.set_num_threads(told.threads)
    os.environ.update(
        RANK=str(told.rank),
        WORLD_SIZE=str(PARTIES),
        RENDEZVOUS=f"tcp://127.0.0.1:{told.port}",
        DISTRIBUTED_BACKEND="gloo",
        GLOO_SOCKET_IFNAME="lo",
    )
    # By default party 0 makes the randomness itself, and could then read the other's secrets.
    cfg.mpc.provider = "TTP"
    cfg.communicator.verbose = True  # it counts what it sends
    if told.rank == DEALER:
        from crypten.mpc.provider.ttp_provider import TTPServer

        tell({"dealer": True})
        TTPServer()
        return
    crypten.init()
    image, weight = (torch.from_numpy(array) for array in read(told))
    communicator = crypten.communicator.get()

    def timed(act):  # type: ignore[no-untyped-def]
        communicator.barrier()
        communicator.reset_communication_stats()
        begun = time.perf_counter()
        found = act()
        seconds = time.perf_counter() - begun
        counted = communicator.get_communication_stats()
        # Sent and received: what a party sends, the other receives.
        figures = {"seconds": seconds, "bytes": counted["bytes"], "rounds": counted["rounds"]}
        return found, figures

    def turn():  # type: ignore[no-untyped-def]
        shared, share = timed(
            lambda: [crypten.cryptensor(image, src=0), crypten.cryptensor(weight, src=1)]
        )
        answer, convolve = timed(lambda: shared[0].conv2d(shared[1], padding=1))
        _, rectify = timed(answer.relu)
        plain, reveal = timed(answer.get_plain_text)
        if told.rank == 0:
            np.save(told.answer, plain.numpy())
        phases = {"share": share, "convolve": convolve, "rectify": rectify, "reveal": reveal}
        return {"phases": phases}

    parameters = {
        "parties": PARTIES,
        "dealer": "a third process",
        "ring_bits": 64,
        "fraction_bits": int(cfg.encoder.precision_bits),
    }
    libraries = {name: version(name) for name in ("crypten", "torch")}
    tell({"parameters": parameters, "libraries": libraries})
    take_turns(turn)


if __name__ == "__main__":
    main()
