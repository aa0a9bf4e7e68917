"""Whether a driven face's mouth moves as its source's does, in step, and not as another person's.

How far a mouth is open shows in the spread of levels between its corners: lips and teeth are light, the gap is dark.
Measured on driven clips of rendered people, 90 frames: the correlation with the source's is 0.89 and 0.91, with the
source's three frames away at most 0.47, with the target's own and other people's at most 0.19. On seven real people,
100 frames, it is -0.36 to 0.80 with the source's and up to 0.48 with another's, by up to 0.69 more than with the
source's: that another's mouth is followed is an error only where it is clear by far.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from generation.faces.track import FaceTrack
from generation.quality.change import Luma
from homologous_deepfake import SUBSETS, people_of
from tooling.stages.verify.file_check import FileCheck, is_imported
from tooling.stages.verify.meters.in_step import REACH
from tooling.stages.verify.meters.meter import DecodedFrame, Meter
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.verification_file import Finding

FEWEST_FRAMES = 45
SMALLEST_SPREAD = 1.0  # levels; a signal that varies less is not compared
CLEAR = 0.75  # correlation from which another clip, or another moment, is the one that is followed
MUCH_CLEARER = 0.3  # by which it must be above that with the source in step,
FAR_CLEARER = 0.6  # and from which another clip is an error, not only a note
LEFT, RIGHT = 3, 4  # corners of the mouth, of the landmarks

Signal = NDArray[np.float32]  # (T,)


class MouthMeter(Meter):
    """Measures how far the mouth of a video is open, by the track of its target's face."""

    needs_whole_file: ClassVar[bool] = False

    def __init__(self, check: FileCheck, track: FaceTrack) -> None:
        self.check = check
        self._corners = track.landmarks[:, LEFT : RIGHT + 1]
        self._values: list[float] = []

    def wants(self, number: int) -> bool:
        """Every frame that is tracked."""
        return number < len(self._corners)

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes the next frame."""
        self.add_luma(frame.number, frame.luma)

    def add_luma(self, number: int, luma: Luma) -> None:
        """Takes frame `number`, which is tracked."""
        left, right = self._corners[number]
        width, (x, y) = max(float(np.linalg.norm(right - left)), 1.0), (left + right) / 2
        columns = slice(max(int(x - 0.35 * width), 0), max(int(x + 0.35 * width) + 1, 0))
        rows = slice(max(int(y - 0.15 * width), 0), max(int(y + 0.45 * width) + 1, 0))
        mouth = luma[rows, columns]
        self._values.append(float(mouth.std()) if mouth.size else 0.0)

    def finish(self) -> None:
        """Leaves the signal as text."""
        self.check.mouth = base64.b64encode(np.array(self._values, np.float16).tobytes()).decode("ascii")


def check_motion(checks: Mapping[str, FileCheck], records: Mapping[str, FileRecord]) -> list[Finding]:
    """Driven fakes whose mouth follows another clip than their source's, or their source's out of step."""
    clips = {path: _signal(found) for path, found in checks.items() if path.startswith("raw_video/")}
    findings = []
    for path, check in checks.items():
        record = records.get(path)
        if record is None or SUBSETS[record.subset].method != "expression_driven" or not check.mouth:
            continue
        signal, source = _signal(check), f"raw_video/{people_of(record.sample_id)[1]}.mp4"
        if source in clips and (found := _problem(signal, source, clips)):
            problem, is_sure = found
            is_error = is_sure and not is_imported(record)
            findings.append(Finding("error" if is_error else "note", "content", path, problem))
    return findings


def _problem(signal: Signal, source: str, clips: Mapping[str, Signal]) -> tuple[str, bool] | None:
    """What is wrong, and whether that is sure; None if nothing is."""
    own = _correlation(signal, clips[source], 0)
    if own is None:
        return None
    needed = max(CLEAR, own + MUCH_CLEARER)
    found = {offset: _correlation(signal, clips[source], offset) for offset in range(-REACH, REACH + 1)}
    offsets = {offset: value for offset, value in found.items() if value is not None}
    best = max(offsets, key=lambda offset: (offsets[offset], -abs(offset)))
    if best and offsets[best] >= needed:
        shift = f"{abs(best)} {'frame' if abs(best) == 1 else 'frames'} {'ahead of' if best > 0 else 'behind'}"
        return f"is out of step: its mouth is {shift} {source}'s; make it again", True
    others = {clip: _correlation(signal, other, 0) for clip, other in clips.items() if clip != source}
    clearer = {clip: value for clip, value in others.items() if value is not None and value >= needed}
    if clearer:
        clip = max(sorted(clearer, key=natural_key), key=lambda name: clearer[name])
        is_sure = clearer[clip] >= own + FAR_CLEARER
        advice = "make it again" if is_sure else "look at both"
        return f"its mouth moves as that of {clip} does, not as that of {source}; {advice}", is_sure
    return None


def _signal(check: FileCheck) -> Signal:
    return np.frombuffer(base64.b64decode(check.mouth), np.float16).astype(np.float32)


def _correlation(film: Signal, clip: Signal, offset: int) -> float | None:
    """Of a film's frames with a clip's that are `offset` later; None if one of them hardly varies."""
    length = min(len(film), len(clip))
    first, second = film[max(-offset, 0) : length - max(offset, 0)], clip[max(offset, 0) : length - max(-offset, 0)]
    if length < FEWEST_FRAMES or min(first.std(), second.std()) < SMALLEST_SPREAD:
        return None
    return float(np.corrcoef(first, second)[0, 1])
