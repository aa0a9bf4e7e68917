"""Tests that need a GPU: marked `cuda`, skipped without one, and failures instead where REQUIRE_CUDA=1 asks for one."""

from __future__ import annotations

import os

import pytest
import torch


def require_cuda() -> torch.device:
    """The GPU to test on; skips the test without one, or fails it where REQUIRE_CUDA is 1."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("REQUIRE_CUDA") == "1":
        pytest.fail("REQUIRE_CUDA is 1, and there is no GPU")
    pytest.skip("needs a GPU")
