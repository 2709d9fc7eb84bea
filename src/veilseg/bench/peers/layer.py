"""One convolution layer, as every family computes it: what it is told, and how it is asked."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def options() -> Any:
    """What every program is told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layer", required=True, help="image (N, C, X, Y), weight (O, C, 3, 3)")
    parser.add_argument("--answer", required=True, help="npy that each turn writes: (N, O, X, Y)")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    return parser.parse_args()


def read(told: Any) -> tuple[Any, Any]:
    """Image and weights, float64."""
    with np.load(told.layer, allow_pickle=False) as arrays:
        return arrays["image"], arrays["weight"]


def tell(fields: dict[str, Any]) -> None:
    """One line for whoever asks."""
    print(json.dumps(fields), flush=True)


def take_turns(turn: Callable[[], dict[str, Any]]) -> None:
    """A turn for each line, until there is none."""
    for _ in sys.stdin:
        tell(turn())
