"""A driven mouth follows its source's, in step; another's mouth, or another moment, is found."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from generation.faces.track import FaceTrack
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.mouths import FEWEST_FRAMES, MouthMeter, check_motion
from tooling.work.tasks import planned_record
from tooling.workspace.records import Origin

NUM_FRAMES = 90


def speech(seed: int) -> NDArray[np.float64]:
    """How far a mouth is open, 0 to 1: syllables of its own for each seed."""
    noise = np.random.default_rng(seed).normal(size=NUM_FRAMES + 40)
    smooth = np.convolve(noise, np.hanning(9), "same")[20:-20]
    return np.asarray((smooth - smooth.min()) / np.ptp(smooth))


def film(openness: NDArray[np.float64], skin: int) -> FileCheck:
    """A face whose mouth opens: light lips around a dark gap, on skin."""
    landmarks = np.tile(
        np.array([[60, 50], [100, 50], [80, 75], [62, 100], [98, 100]], np.float32), (len(openness), 1, 1)
    )
    boxes = np.tile(np.array([40, 20, 120, 130], np.float32), (len(openness), 1))
    squares = np.tile(np.array([20, 10, 120], np.float32), (len(openness), 1))
    check = FileCheck("")
    meter = MouthMeter(check, FaceTrack(boxes, landmarks, np.ones(len(openness), bool), squares, 160, 160))
    random = np.random.default_rng(skin)
    for number, opened in enumerate(openness):
        picture = np.full((160, 160), skin, np.uint8)
        cv2.ellipse(picture, (80, 102), (18, 5 + int(8 * opened)), 0, 0, 360, skin - 20, -1)
        cv2.ellipse(picture, (80, 102), (14, max(int(8 * opened), 1)), 0, 0, 360, 25, -1)
        meter.add_luma(number, np.clip(picture + random.normal(0, 2, picture.shape), 0, 255).astype(np.uint8))
    meter.finish()
    return check


CLIPS = {f"raw_video/{person}.mp4": film(speech(person), 120 + 10 * person) for person in (1, 2, 3)}


@pytest.mark.parametrize(
    ("openness", "severity", "message"),
    [
        (speech(2), "", ""),
        (0.6 * speech(2) + 0.2, "", ""),
        (
            np.roll(speech(2), -3),
            "error",
            "is out of step: its mouth is 3 frames ahead of raw_video/2.mp4's; make it again",
        ),
        (
            speech(3),
            "error",
            "its mouth moves as that of raw_video/3.mp4 does, not as that of raw_video/2.mp4; make it again",
        ),
        (
            0.75 * speech(3) + 0.25 * speech(2),
            "note",
            "its mouth moves as that of raw_video/3.mp4 does, not as that of raw_video/2.mp4; look at both",
        ),
        (np.full(NUM_FRAMES, 0.3), "", ""),  # says nothing
        (speech(3)[: FEWEST_FRAMES - 1], "", ""),  # too short
    ],
)
@pytest.mark.parametrize("origin", ["made", "imported"])
def test_driven_mouth(openness: NDArray[np.float64], severity: str, message: str, origin: Origin) -> None:
    path = "avatarify_video/1_2.mp4"
    checks = {**CLIPS, path: film(openness, 130)}
    record = planned_record(path[:-4], path, {}, "test", {}, origin=origin)
    findings = check_motion(checks, {path: record})
    assert [(found.severity, found.message) for found in findings] == (
        [(severity if origin == "made" else "note", message)] if message else []
    )
