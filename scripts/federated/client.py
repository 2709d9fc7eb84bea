"""One site of a federation as a Flower client, in Flower's environment; see ``trainer.py``."""

import argparse
import subprocess
import sys
from pathlib import Path

from evidence.background import end_with_parent
from flwr.client import NumPyClient, start_client
from safetensors.numpy import load_file, save_file

from federated.federation import DONE, RECEIVED, TRAINED, Federation

TRAINER = Path(__file__).with_name("trainer.py")


class SiteClient(NumPyClient):
    """Passes weights between Flower and the site's trainer, a process without gRPC."""

    def __init__(self, folder: Path, site: str, python: str) -> None:
        self.cases = Federation.read(folder).cases[site]
        self.site, self.own = site, folder / "sites" / site
        self.own.mkdir(parents=True, exist_ok=True)
        pipe = subprocess.PIPE
        # Not in the middle of a round when this process is gone: another may have taken its place.
        self.trainer = subprocess.Popen(
            [python, str(TRAINER), str(folder), site],
            stdin=pipe,
            stdout=pipe,
            text=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        self.names = self._answer()

    def fit(self, parameters, config):  # type: ignore[no-untyped-def]
        """One round; Flower sends no names, so weights go in their order."""
        named = dict(zip(self.names, parameters, strict=True))
        save_file(named, self.own / RECEIVED)
        self.trainer.stdin.write(f"{int(config['round'])}\n")
        self.trainer.stdin.flush()
        self._answer()
        found = load_file(self.own / TRAINED)
        return [found[name] for name in self.names], self.cases, {"site": self.site}

    def _answer(self) -> list[str]:
        for line in self.trainer.stdout:
            if line.startswith(DONE):
                return line.split()[1:]
        raise RuntimeError(f"{self.site}: its trainer ended with {self.trainer.wait()}")


def main() -> None:
    """Take part until the server has no round left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the federation")
    parser.add_argument("site")
    parser.add_argument("--server", required=True, help="HOST:PORT")
    parser.add_argument("--python", required=True, help="of the environment that trains")
    told = parser.parse_args()
    client = SiteClient(told.folder, told.site, told.python)
    start_client(server_address=told.server, client=client.to_client(), insecure=True)


if __name__ == "__main__":
    main()
