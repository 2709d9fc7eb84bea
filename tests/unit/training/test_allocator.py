"""The allocator's settings are a hint: harmless twice, and absent where there is no glibc."""

import ctypes
import sys

import pytest
import torch

from veilseg.training import allocator
from veilseg.training.allocator import keep_freed_memory


def test_twice_is_harmless():
    for _ in range(2):
        keep_freed_memory()
        assert float(torch.ones(2**22).sum()) == 2**22


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_nothing_is_loaded_off_linux(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail(f"loads {name}"))
    keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_freed_memory()
    # musl's libc has no mallopt.
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
