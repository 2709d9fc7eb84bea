"""The server of a federation: Flower's own FedAvg, which goes on after the last round it kept.

Flower calls this way to start a server deprecated. The newer one starts a process for each message
to a site, which would have to read and prepare all its cases in every round.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerConfig, start_server
from flwr.server.strategy import FedAvg

from federated.federation import Federation, read_average, record_round, rounds_done


class Recorded(FedAvg):
    """Federated averaging of all sites in every round; each average and its cost are kept."""

    def __init__(self, federation: Federation, folder: Path) -> None:
        self.federation, self.folder = federation, folder
        self.done = len(rounds_done(folder))
        average = read_average(folder, self.done)
        self.names, self.began, self.sent = sorted(average), 0.0, 0
        count = len(federation.data)
        super().__init__(
            fraction_evaluate=0.0,
            min_fit_clients=count,
            min_available_clients=count,
            initial_parameters=ndarrays_to_parameters([average[name] for name in self.names]),
            on_fit_config_fn=lambda number: {"round": self.done + number},
        )

    def configure_fit(self, server_round, parameters, client_manager):  # type: ignore[no-untyped-def]
        """As Flower does, once all sites are there."""
        asked = super().configure_fit(server_round, parameters, client_manager)
        self.began, self.sent = time.monotonic(), _size(parameters)
        return asked

    def aggregate_fit(self, server_round, results, failures):  # type: ignore[no-untyped-def]
        """As Flower does; a round that a site is missing of does not count."""
        if failures or len(results) != len(self.federation.data):
            print(f"round {self.done + server_round}: a site failed: {failures}", file=sys.stderr)
            sys.stderr.flush()
            # Not by an exception: Flower's threads would wait for the sites that are left.
            os._exit(1)
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        # It may have been averaged in double precision, which nobody trains in.
        arrays = [np.asarray(one, np.float32) for one in parameters_to_ndarrays(parameters)]
        sites = {
            answer.metrics["site"]: {
                "cases": answer.num_examples,
                "received": self.sent,
                "sent": _size(answer.parameters),
            }
            for _, answer in results
        }
        entry = {"seconds": round(time.monotonic() - self.began, 3), "sites": sites}
        record_round(self.folder, dict(zip(self.names, arrays, strict=True)), entry)
        return ndarrays_to_parameters(arrays), metrics


def _size(parameters) -> int:  # type: ignore[no-untyped-def]
    """Bytes of weights as they go over the wire, without the frames around them."""
    return sum(map(len, parameters.tensors))


def main() -> None:
    """Serve the rounds that are left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the federation")
    parser.add_argument("--address", required=True, help="HOST:PORT")
    told = parser.parse_args()
    federation = Federation.read(told.folder)
    strategy = Recorded(federation, told.folder)
    left = federation.rounds - strategy.done
    start_server(
        server_address=told.address, config=ServerConfig(num_rounds=left), strategy=strategy
    )


if __name__ == "__main__":
    main()
