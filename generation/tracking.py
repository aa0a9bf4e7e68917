"""Following one face through a clip: seldom and small detection, cheap checks between, smoothing without lag.

Every few frames MTCNN looks at a reduced frame; on every frame its last network looks where the face is expected
between two detections, so that each frame has a measurement of its own. A face that is lost is searched in the whole
frame at full size, and followed forwards from where it was last seen and backwards from where it is seen again.

All faces are followed, each told from the others by position, size and appearance (no recognition network); at the
end the one that is shown largest, most frontal and most central for longest is chosen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from generation.errors import FaceError
from generation.faces import (
    DetectedFaces,
    FaceTrack,
    crop_squares,
    detect_faces,
    fill_gaps,
    load_detector,
    refine_faces,
    round_px,
    smooth_over_time,
)
from generation.video import Frame

MIN_SCORE = 0.7  # MTCNN's own threshold of its last network
SURE_SCORE = 0.9  # below it, a face is looked for again at full size
NEW_SCORE = 0.95  # needed to start following another face
MIN_SAMPLES = 3  # a face seen in fewer sampled frames is taken for a false alarm
SEARCH_FRAMES = 60  # so long a lost face is searched at full size
COARSE_MIN_FACE_PX = 40  # on the reduced frame
MIN_FACE_PX = 40
MIN_COVERAGE = 0.6  # of the frames, with a detection
MAX_GAP_FRAMES = 60
LOOK_ALIKE = 16.0  # RMS difference of two appearances of one person, in 8-bit levels
VELOCITY_FRAMES = 5
GALLERY_SIZE = 12
MAX_DEVIATION = 0.15  # sides, of one measurement from those around it, and of a face at a cut
GALLERY_STEP = 6.0  # a look that differs more from all that are kept is kept too
TRACK_WINDOW = 9  # frames
OFFSET_WINDOW = 5  # sampled frames

Values = NDArray[np.float64]


@dataclass(frozen=True)
class TrackSettings:
    """How a face is followed.

    Attributes:
        detect_every_frames: distance of the frames on which the whole of MTCNN runs.
        detect_scale: size of the picture it sees there, relative to the frame.
        margin: side of the crop is the longer side of the box times 1 + margin.
    """

    detect_every_frames: int = 5
    detect_scale: float = 0.5
    margin: float = 0.4


@dataclass(frozen=True)
class Detectors:
    """MTCNN for reduced frames, and for the search of small and lost faces."""

    coarse: MTCNN
    fine: MTCNN


def load_detectors(device: str = "cpu") -> Detectors:
    """Loads both detectors; they are the same networks with different smallest faces."""
    return Detectors(load_detector(device, min_face_px=COARSE_MIN_FACE_PX), load_detector(device))


def follow_face(
    detectors: Detectors, frames: Iterable[Frame], settings: TrackSettings | None = None, *, name: str = "clip"
) -> FaceTrack:
    """Follows all faces of a clip and returns the track of the main one. Keeps only a few frames in memory.

    Args:
        detectors: from `load_detectors`.
        frames: RGB uint8 (H, W, 3), in order.
        settings: see `TrackSettings`.
        name: of the clip, for the errors.

    Raises:
        FaceError: no face, one seen too seldom, too small, or one that jumps because the picture is cut.
    """
    follower = _Follower(detectors, settings or TrackSettings())
    for frame in frames:
        follower.push(frame)
    follower.finish()
    if not follower.num_frames:
        raise FaceError(f"{name}: has no frames; make the clip again")
    return _finished_track(follower, name)


@dataclass
class _Path:
    """One face so far. Measurements are 14 numbers: box and landmarks.

    Attributes:
        seen: frame -> what the last network measured there.
        offsets: sampled frame -> the whole cascade's measurement minus the last network's.
        looks: different appearances.
        weights: side, frontality and nearness to the middle, multiplied, of each sampled frame.
    """

    seen: dict[int, Values] = field(default_factory=dict)
    offsets: dict[int, Values] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    looks: deque[Values] = field(default_factory=lambda: deque(maxlen=GALLERY_SIZE))
    weights: list[float] = field(default_factory=list)
    last: int = -1

    @property
    def offset(self) -> Values:
        return next(reversed(self.offsets.values()))

    def at(self, number: int) -> Values:
        """Where the face was on a frame on which it was seen, with the offset taken out."""
        return self.seen[number] + self.offset

    def expected(self, number: int) -> Values:
        """Where the face should be on a later frame, moving on as it did for a short time."""
        here = self.at(self.last)
        before = self.last - VELOCITY_FRAMES
        if before not in self.seen or number - self.last > 2 * VELOCITY_FRAMES:
            return here
        centre_step = (_centre(here) - _centre(self.at(before))) * (number - self.last) / (self.last - before)
        return here + np.tile(centre_step, 7)

    def add_look(self, look: Values) -> None:
        if not self.looks or self.unlikeness(look) > GALLERY_STEP:
            self.looks.append(look)

    def unlikeness(self, look: Values) -> float:
        return min(float(np.sqrt(np.mean((look - known) ** 2))) for known in self.looks)


class _Follower:
    """Holds the frames since the last sampled one, and the faces so far."""

    def __init__(self, detectors: Detectors, settings: TrackSettings) -> None:
        self.detectors = detectors
        self.settings = settings
        self.paths: list[_Path] = []
        self.cuts: list[int] = []
        self.num_frames = 0
        self.shape = (0, 0)
        self._buffer: list[Frame] = []
        self._thumbnail: NDArray[np.int16] | None = None
        self._changes: deque[float] = deque(maxlen=15)

    def push(self, frame: Frame) -> None:
        self.shape = frame.shape[:2]
        self._buffer.append(frame)
        self._note_cut(frame)
        self.num_frames += 1
        if (self.num_frames - 1) % self.settings.detect_every_frames == 0:
            self._sample()

    def finish(self) -> None:
        if self._buffer:
            self._sample()

    def _note_cut(self, frame: Frame) -> None:
        thumbnail = frame[::12, ::12].astype(np.int16)
        if self._thumbnail is not None:
            change = float(np.abs(thumbnail - self._thumbnail).mean())
            if change > max(6.0, 5 * float(np.median(self._changes)) if self._changes else 0):
                self.cuts.append(self.num_frames)
            self._changes.append(change)
        self._thumbnail = thumbnail

    def _sample(self) -> None:
        """Detects on the newest frame, joins what is found to the faces so far, and measures the frames between."""
        now, frame = self.num_frames - 1, self._buffer[-1]
        found = _Candidates.of(self._detect_coarse(frame), frame)
        matches = self._match(found, now)
        if self._needs_search(found, matches, now):
            found = _Candidates.of(detect_faces(self.detectors.fine, [frame])[0], frame)
            matches = self._match(found, now)
        matched = {id(path): path for path, _ in matches}
        for path in self.paths:
            if id(path) not in matched:
                self._follow_forwards(path, now)
        taken = {at for _, at in matches}
        for at in range(len(found.faces)):
            if at not in taken and found.faces.probabilities[at] >= NEW_SCORE:
                matches.append((_Path(), at))
                self.paths.append(matches[-1][0])
        for path, at in matches:
            self._join(path, found, at, now)
        self._buffer = []

    def _detect_coarse(self, frame: Frame) -> DetectedFaces:
        scale = self.settings.detect_scale
        if scale >= 1:
            return detect_faces(self.detectors.coarse, [frame])[0]
        small = np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        faces = detect_faces(self.detectors.coarse, [small])[0]
        # MTCNN's boxes count pixels from 1.
        return DetectedFaces((faces.boxes - 1) / scale + 1, faces.probabilities, faces.landmarks / scale)

    def _needs_search(self, found: _Candidates, matches: Sequence[tuple[_Path, int]], now: int) -> bool:
        sure = {id(path) for path, at in matches if found.faces.probabilities[at] >= SURE_SCORE}
        known = [path for path in self.paths if len(path.weights) >= MIN_SAMPLES]
        if not any(id(path) in sure for path in known):
            return not (sure and now < MIN_SAMPLES * self.settings.detect_every_frames)
        return any(id(path) not in sure and now - path.last <= SEARCH_FRAMES for path in known)

    def _match(self, found: _Candidates, now: int) -> list[tuple[_Path, int]]:
        """Pairs of a face so far and a detection, by position, size and appearance."""
        if not self.paths or not len(found.faces):
            return []
        impossible = 1e6
        costs = np.array(
            [[self._cost(path, found, at, now) or impossible for at in range(len(found.faces))] for path in self.paths]
        )
        rows, columns = linear_sum_assignment(costs)
        return [
            (self.paths[row], int(at)) for row, at in zip(rows, columns, strict=True) if costs[row, at] < impossible
        ]

    def _cost(self, path: _Path, found: _Candidates, at: int, now: int) -> float | None:
        expected, measured = path.expected(now), found.values[at]
        side = _side(expected)
        distance = float(np.linalg.norm(_centre(expected) - _centre(measured))) / side
        growth = abs(float(np.log(_side(measured) / side)))
        unlikeness = path.unlikeness(found.looks[at])
        gap = now - path.last
        is_cut = any(path.last < cut <= now for cut in self.cuts)
        # Close in time and place a face may change its look (turning, light); far from it, it must look the same.
        is_near = distance < 0.35 and gap <= 2 * self.settings.detect_every_frames and not is_cut
        if distance > min(0.6 + 0.05 * gap, 2.0) or growth > 0.5:
            return None
        if unlikeness > (2 * LOOK_ALIKE if is_near else LOOK_ALIKE):
            return None
        return distance + growth + unlikeness / LOOK_ALIKE

    def _join(self, path: _Path, found: _Candidates, at: int, now: int) -> None:
        detected, before = found.values[at], path.last
        known = path.at(before) if path.seen else None
        refined = refine_faces(self.detectors.fine, self._buffer[-1:], detected[None, :4].astype(np.float32))
        measured = _as_values(refined)[0]
        if refined.probabilities[0] < MIN_SCORE:
            measured = detected - path.offset if path.offsets else detected
        path.offsets[now] = detected - measured
        path.seen[now] = measured
        path.last = now
        path.scores.append(float(found.faces.probabilities[at]))
        path.weights.append(_weight(detected, self.shape))
        path.add_look(found.looks[at])
        first = now - len(self._buffer) + 1
        is_cut = any(first <= cut <= now for cut in self.cuts)
        if known is not None and before == first - 1 and not is_cut:
            self._measure_between(path, known, detected, first, now)
            return
        if known is not None and before == first - 1:
            path.last = before
            self._follow_forwards(path, now)
            path.last = now
        self._follow_backwards(path, detected, first, now)

    def _measure_between(self, path: _Path, known: Values, detected: Values, first: int, now: int) -> None:
        steps = np.arange(1, now - first + 1)[:, None] / (now - first + 1)
        if not len(steps):
            return
        expected = known + steps * (detected - known)
        faces = refine_faces(self.detectors.fine, self._buffer[:-1], expected[:, :4].astype(np.float32))
        for at, measured in enumerate(_as_values(faces)):
            is_there = _overlap(measured + path.offset, expected[at]) > 0.5
            if faces.probabilities[at] >= MIN_SCORE and is_there:
                path.seen[first + at] = measured

    def _follow_forwards(self, path: _Path, now: int) -> None:
        first = now - len(self._buffer) + 1
        if path.last != first - 1:
            return
        here = path.at(path.last)
        for number in range(first, now + 1):
            if number in self.cuts:
                return
            measured = self._step(path, here, number - first)
            if measured is None:
                return
            path.seen[number], here = measured, measured + path.offset
            path.last = number

    def _follow_backwards(self, path: _Path, detected: Values, first: int, now: int) -> None:
        here = detected
        for number in range(now - 1, first - 1, -1):
            if number + 1 in self.cuts or number in path.seen:
                return
            measured = self._step(path, here, number - first)
            if measured is None:
                return
            path.seen[number], here = measured, measured + path.offset

    def _step(self, path: _Path, here: Values, at: int) -> Values | None:
        """Looks for the face in one frame where it was in the frame beside it."""
        face = refine_faces(self.detectors.fine, [self._buffer[at]], here[None, :4].astype(np.float32))
        measured = _as_values(face)[0]
        if face.probabilities[0] < SURE_SCORE or _overlap(measured + path.offset, here) < 0.5:
            return None
        look = _look(self._buffer[at], measured[4:])
        return measured if path.unlikeness(look) <= LOOK_ALIKE else None


@dataclass(frozen=True)
class _Candidates:
    faces: DetectedFaces
    values: Values  # (N, 14)
    looks: list[Values]

    @classmethod
    def of(cls, faces: DetectedFaces, frame: Frame) -> _Candidates:
        values = _as_values(faces)
        return cls(faces, values, [_look(frame, row[4:]) for row in values])


def _as_values(faces: DetectedFaces) -> Values:
    return np.concatenate([faces.boxes, faces.landmarks.reshape(-1, 10)], axis=1).astype(np.float64)


def _centre(values: Values) -> Values:
    return np.asarray((values[:2] + values[2:4]) / 2)


def _side(values: Values) -> float:
    return max(1.0, float(max(values[2] - values[0], values[3] - values[1])))


def _overlap(one: Values, other: Values) -> float:
    """Intersection over union of two boxes."""
    sizes = np.minimum(one[2:4], other[2:4]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.clip(sizes, 0, None)))
    areas = [float(np.prod(np.clip(box[2:4] - box[:2], 0, None))) for box in (one, other)]
    return common / max(sum(areas) - common, 1e-9)


def _look(frame: Frame, points: Values) -> Values:
    """Appearance: 12x12 Lab picture of face and hair, upright and of one size, with its brightness taken out."""
    eyes, mouth = (points[0:2] + points[2:4]) / 2, (points[6:8] + points[8:10]) / 2
    down = mouth - eyes
    length = max(float(np.linalg.norm(down)), 1.0)
    size, reach = 12, 2.0  # the picture spans 2 eye-mouth distances to each side of the point between eyes and mouth
    step = down / length * (2 * reach * length / size)
    # Rows run along the face's own down, columns across it.
    matrix = np.array([[step[1], step[0], 0], [-step[0], step[1], 0]], dtype=np.float64)
    matrix[:, 2] = (eyes + mouth) / 2 - matrix[:, :2] @ np.full(2, size / 2 - 0.5)
    radius = max(1, round(float(np.linalg.norm(step)) / 2))
    x0, y0 = np.floor(matrix @ [size / 2, size / 2, 1] - 1.5 * reach * length - radius).astype(int)
    x1, y1 = np.ceil(matrix @ [size / 2, size / 2, 1] + 1.5 * reach * length + radius).astype(int)
    x0, y0 = (max(0, min(int(x0), frame.shape[1] - 1)), max(0, min(int(y0), frame.shape[0] - 1)))
    region = cv2.blur(frame[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], (2 * radius + 1, 2 * radius + 1))
    matrix[:, 2] -= (x0, y0)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    small = cv2.warpAffine(region, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float64)
    lab[..., 0] -= lab[..., 0].mean()
    return np.asarray(lab)


def _weight(values: Values, shape: tuple[int, int]) -> float:
    """How much a face is the subject of a frame: its side, less if turned away, less if near the border."""
    left, right, nose = values[4], values[6], values[8]
    turn = abs(2 * nose - left - right) / max(abs(right - left), 1.0)
    off_centre = abs(float(_centre(values)[0]) / shape[1] * 2 - 1)
    return _side(values) * (1 - 0.7 * min(1.0, float(turn))) * (1 - 0.5 * min(1.0, off_centre))


def _finished_track(follower: _Follower, name: str) -> FaceTrack:
    paths = [path for path in follower.paths if len(path.weights) >= min(MIN_SAMPLES, follower.num_frames)]
    if not paths:
        raise FaceError(f"{name}: no face was found; choose another start_seconds or another source video")
    totals = [sum(path.weights) for path in paths]
    path = paths[int(np.argmax(totals))]
    values = _corrected(path, follower.num_frames)
    is_detected = np.isfinite(values[:, 0])
    _refuse_unusable(values, is_detected, follower.cuts, name)
    filled = fill_gaps(values)
    smooth = smooth_over_time(filled, TRACK_WINDOW)
    height, width = follower.shape
    shares = sorted((round(total / sum(totals), 3) for total in totals), reverse=True)
    choice: dict[str, Any] = {
        "rule": "largest sum of side x frontality x nearness to the middle over the sampled frames",
        "num_faces": len(paths),
        "shares": shares[:5],
        "num_sampled_frames": len(path.weights),
        "mean_probability": round(float(np.mean(path.scores)), 4),
        "num_detected_frames": int(is_detected.sum()),
    }
    return FaceTrack(
        boxes=round_px(smooth[:, :4]).astype(np.float32),
        landmarks=round_px(smooth[:, 4:].reshape(-1, 5, 2)).astype(np.float32),
        is_detected=is_detected,
        crop=round_px(crop_squares(smooth[:, :4], follower.settings.margin)).astype(np.float32),
        width=width,
        height=height,
        choice=choice,
    )


def _corrected(path: _Path, num_frames: int) -> Values:
    """All measurements as the whole cascade would have made them: (T, 14), NaN where there is none."""
    sampled = np.array(list(path.offsets))
    offsets = smooth_over_time(np.stack(list(path.offsets.values())), OFFSET_WINDOW)
    numbers = np.array(sorted(path.seen))
    values = np.full((num_frames, 14), np.nan)
    for column in range(14):
        measured = np.array([path.seen[number][column] for number in numbers])
        values[numbers, column] = measured + np.interp(numbers, sampled, offsets[:, column])
    for at in range(len(numbers)):
        around = values[numbers[max(0, at - 3) : at + 4]]
        deviation = np.abs(values[numbers[at]] - np.median(around, axis=0)).max()
        if deviation > MAX_DEVIATION * _side(values[numbers[at]]):
            values[numbers[at]] = np.nan
    return values


def _refuse_unusable(values: Values, is_detected: NDArray[np.bool_], cuts: Sequence[int], name: str) -> None:
    advice = "choose another start_seconds or another source video"
    numbers = np.flatnonzero(is_detected)
    coverage = len(numbers) / len(is_detected)
    if coverage < MIN_COVERAGE:
        raise FaceError(f"{name}: the main face is found in only {coverage:.0%} of the frames; {advice}")
    gaps = np.diff(np.concatenate([[-1], numbers, [len(is_detected)]])) - 1
    if gaps.max() > MAX_GAP_FRAMES:
        start = np.concatenate([[-1], numbers])[gaps.argmax()] + 1
        raise FaceError(f"{name}: the main face is lost for {gaps.max()} frames from frame {start}; {advice}")
    side = float(np.median([_side(values[number]) for number in numbers]))
    if side < MIN_FACE_PX:
        raise FaceError(f"{name}: the main face is only {side:.0f} px high, {MIN_FACE_PX} are needed; {advice}")
    for cut in cuts:
        before, after = numbers[numbers < cut][-1:], numbers[numbers >= cut][:1]
        if len(before) and len(after) and _is_jump(values, int(before[0]), int(after[0])):
            raise FaceError(f"{name}: the picture is cut at frame {cut}, where the face jumps; {advice}")


def _is_jump(values: Values, before: int, after: int) -> bool:
    if after - before > 2:
        return _overlap(values[before], values[after]) < 0.4
    distance = float(np.linalg.norm(_centre(values[before]) - _centre(values[after])))
    return distance > MAX_DEVIATION * _side(values[before])
