"""The training of one site, in the project's environment: a round for each number that it reads."""

import sys
from pathlib import Path

from safetensors.numpy import load_file, save_file

from federated.federation import DONE, RECEIVED, TRAINED, Federation
from federated.site import Site


def main() -> None:
    """Be asked until nobody is there who could."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    own = folder / "sites" / name
    site = Site(Federation.read(folder), name, own)
    print(DONE, *site.names, flush=True)
    for line in sys.stdin:
        save_file(site.take(int(line), load_file(own / RECEIVED)), own / TRAINED)
        print(DONE, flush=True)


if __name__ == "__main__":
    main()
