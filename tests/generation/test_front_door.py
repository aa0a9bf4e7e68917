"""`import generation` offers the names of the whole flow, and loads neither torch nor FFmpeg until one is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import generation


def test_every_name_of_the_front_door_is_there() -> None:
    assert len(generation.__all__) == 10
    for name in generation.__all__:
        assert getattr(generation, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        generation.nothing  # noqa: B018


def test_importing_the_front_door_and_the_errors_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'av', 'cv2', 'numpy', 'diffusers', 'facenet_pytorch'}"
    code = f"import sys, generation.errors; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
