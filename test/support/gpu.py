"""Marks of tests that need a CUDA device: skipped by name without one, run by `make gpu` with one."""

from __future__ import annotations

import pytest
import torch

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def needs_gpu(test):  # type: ignore[no-untyped-def]
    """Mark a test as one that needs a CUDA device."""
    return pytest.mark.gpu(NO_GPU(test))
