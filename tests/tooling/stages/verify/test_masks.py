"""A fake's mask that is not one picture for each of its frames is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from generation.crops.clip import PastedFrame
from generation.crops.masks import MaskWriter
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.masks import MaskMeter
from tooling.stages.verify.meters.meter import DecodedFrame
from tooling.work.tasks import planned_record

NAME, WIDTH, HEIGHT, NUM_FRAMES = "edit_video/age/1.mp4", 96, 64, 20


def write_mask(
    path: Path, *, value: float = 1.0, num_frames: int = NUM_FRAMES, width: int = WIDTH, fps: int = 30
) -> None:
    frame, whole = np.zeros((HEIGHT, width, 3), np.uint8), (slice(0, HEIGHT), slice(0, width))
    with MaskWriter(path, width=width, height=HEIGHT, fps=fps) as writer:
        for _ in range(num_frames):
            writer.write(PastedFrame(frame, frame, whole, np.full((HEIGHT, width), value, np.float32)))


def torn(path: Path) -> None:
    write_mask(path)
    path.write_bytes(path.read_bytes()[:-100])


def findings(path: Path, factor: float) -> list[str]:
    """What is found of a mask of an edit of NUM_FRAMES frames."""
    planned = planned_record(NAME[:-4], NAME, {}, "test", {"factor": factor})
    record, check = dataclasses.replace(planned, fps=30.0), FileCheck(NAME)
    meter = MaskMeter(record, check, path, f"masks/{NAME}")
    for number in range(NUM_FRAMES):
        if meter.wants(number):
            meter.add(DecodedFrame(number, VideoFrame(WIDTH, HEIGHT, "yuv420p")), None)
            assert (meter.picture is None) == bool(check.findings)
    meter.finish()
    assert all((found.severity, found.path) == ("error", f"masks/{NAME}") for found in check.findings)
    return [found.message.removesuffix("; make its fake again") for found in check.findings]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (write_mask, []),
        (torn, ["does not decode ("]),
        (lambda path: path.write_bytes(b"no video"), ["does not decode ("]),
        (lambda path: write_mask(path, value=0.0), ["is black all through: nothing of its target was replaced"]),
        (lambda path: write_mask(path, num_frames=NUM_FRAMES - 1), ["ends before its fake"]),
        (lambda path: write_mask(path, num_frames=NUM_FRAMES + 1), ["goes on after the end of its fake"]),
        (lambda path: write_mask(path, width=64), ["is 64x64, its fake 96x64"]),
        (lambda path: write_mask(path, fps=25), ["has 25 frames per second, its fake 30"]),
    ],
    ids=["sound", "torn", "no video", "black", "short", "long", "size", "rate"],
)
def test_masks_are_checked(write: Callable[[Path], object], expected: list[str], tmp_path: Path) -> None:
    write(tmp_path / "mask.mp4")
    found = findings(tmp_path / "mask.mp4", factor=2.0)
    assert len(found) == len(expected)
    assert all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found


def test_mask_of_an_edit_that_changes_nothing_is_black(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.mp4", value=0.0)
    assert findings(tmp_path / "mask.mp4", factor=0) == []
