"""Following one face through a clip: detection in few frames, cheap checks between them, smoothing without lag.

Every few frames MTCNN runs on a reduced frame; on every frame its last network runs on the box that is expected between
two detections, so that each frame has a measurement of its own. A face that is lost is searched in the whole frame at
full size, and followed forwards from where it was last seen and backwards from where it is seen again.

All faces are followed, and told apart by position, size and colours (no recognition network); at the end the one that
is largest, most frontal and most central for longest is chosen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame, Grey
from generation.errors import FaceError
from generation.faces.appearance import CHANGE_PX, change_between, histograms_of, is_cut
from generation.faces.crop import crop_squares
from generation.faces.detector import DetectedFaces, detect_faces, load_detector, refine_faces
from generation.faces.track import FaceTrack, round_px
from generation.faces.tracklet import (
    Candidates,
    Tracklet,
    Values,
    as_values,
    centre_of,
    overlap,
    side_of,
    subject_weight,
)
from generation.smoothing import fill_gaps, smooth_over_time, smooth_points

if TYPE_CHECKING:
    from facenet_pytorch import MTCNN

VERSION = 3  # of what a track says of the same frames; a change makes every track and crop again
MIN_SCORE = 0.7  # MTCNN's own threshold of its last network
SURE_SCORE = 0.9  # below it, a face is searched at full size
NEW_SCORE = 0.95  # from which another face is followed
MIN_SAMPLES = 3  # a face in fewer sampled frames is a false alarm
NEW_SAMPLES = 3  # sampled frames of which one is searched for faces of other sizes than those that are followed
ALL_SIDES = (0.0, math.inf)
SEARCH_FRAMES = 60  # after which a lost face is no longer searched at full size
COARSE_MIN_FACE_PX = 39  # on the reduced frame; smaller faces are found by the search at full size
MIN_FACE_PX = 40
MIN_COVERAGE = 0.6  # of the frames, with a detection
MAX_GAP_FRAMES = 60
# Largest `Tracklet.colour_distance` of one face: usually, at a cut, and where it hardly moved, may turn or be covered.
# Of seven real and two synthetic people, 98 % of the faces of one person are within 0.22 of three earlier ones, 82 %
# within 0.09; other people are at 0.21 to 0.82, the nearest two real ones at 0.36.
SAME_FACE, SAME_FACE_AT_CUT, SAME_FACE_NEARBY = 0.22, 0.11, 0.36
MAX_DEVIATION = 0.15  # sides, of one measurement from those around it, and of a face at a cut
CUT_LEVELS = 5.5  # of `change_between`: more would miss jump cuts before a still background
CHANGE_ROWS = 4  # of the frame that at least go into one of the small picture that shows cuts
CUT_NEIGHBOURS = 15  # frames before a cut, and after it, that it is compared with
TRACK_WINDOW = 11  # frames
OFFSET_WINDOW = 3  # sampled frames


@dataclass(frozen=True)
class TrackSettings:
    """How a face is followed.

    Attributes:
        detect_every_frames: distance between the frames on which the whole of MTCNN runs.
        detect_scale: size of its input there, relative to the frame.
        margin: the side of the crop is the longer side of the box times 1 + margin.
    """

    detect_every_frames: int = 5
    detect_scale: float = 0.5
    margin: float = 0.4


@dataclass(frozen=True)
class Detectors:
    """MTCNN for reduced frames, and for the search of small and lost faces."""

    coarse: MTCNN
    fine: MTCNN


def load_detectors(device: str = "cpu", *, detect_scale: float = 0.5) -> Detectors:
    """Loads both detectors: the same networks, with different smallest faces.

    Args:
        device: any torch device.
        detect_scale: as in `TrackSettings`.
    """
    fine = load_detector(device)
    # The levels of the full frame's pyramid without the lowest: with others, the boxes differ by some px.
    min_face_px = fine.min_face_size * detect_scale
    while min_face_px < COARSE_MIN_FACE_PX:
        min_face_px /= fine.factor
    return Detectors(load_detector(device, min_face_px=min_face_px), fine)


def follow_face(
    detectors: Detectors, frames: Iterable[Frame], settings: TrackSettings | None = None, *, name: str = "clip"
) -> FaceTrack:
    """Follows all faces of a clip and returns the track of the main one. Only a few frames are in memory at a time.

    Args:
        detectors: from `load_detectors`.
        frames: RGB uint8 (H, W, 3), in order.
        settings: None takes the defaults.
        name: of the clip, for error messages.

    Raises:
        FaceError: no face, one that is seen too rarely or is too small, or one that jumps at a cut.
    """
    follower = _Follower(detectors, settings or TrackSettings())
    for frame in frames:
        follower.push(frame)
    follower.finish()
    if not follower.num_frames:
        raise FaceError(f"{name}: has no frames; make the clip again")
    return _finished_track(follower, name)


class _Follower:
    """The frames since the last sampled one, and the faces so far."""

    def __init__(self, detectors: Detectors, settings: TrackSettings) -> None:
        self.detectors = detectors
        self.settings = settings
        self.tracklets: list[Tracklet] = []
        self.cuts: list[int] = []
        self.num_frames = 0
        self.num_samples = 0
        self.shape = (0, 0)
        self._buffer: list[Frame] = []
        self._small: Grey | None = None
        self._ahead: deque[Frame] = deque()  # frames that wait until those after them are known
        self._changes: list[float] = []  # of each frame from the one before, also of those that wait

    def push(self, frame: Frame) -> None:
        self.shape = frame.shape[:2]
        self._ahead.append(frame)
        self._note_change(frame)
        if len(self._ahead) > CUT_NEIGHBOURS:
            self._take()

    def finish(self) -> None:
        while self._ahead:
            self._take()
        if self._buffer:
            self._sample()

    def _note_change(self, frame: Frame) -> None:
        rows = frame[:: max(1, len(frame) // (CHANGE_ROWS * CHANGE_PX[1]))]
        grey = cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY)  # RGB uint8 -> grey uint8
        small = np.asarray(cv2.resize(grey, CHANGE_PX, interpolation=cv2.INTER_AREA), np.uint8)
        self._changes.append(0.0 if self._small is None else float(change_between(self._small, small).mean()))
        self._small = small

    def _take(self) -> None:
        """Takes the frame that has waited longest."""
        number = self.num_frames
        before = np.array(self._changes[max(1, number - CUT_NEIGHBOURS) : number])
        after = np.array(self._changes[number + 1 : number + 1 + CUT_NEIGHBOURS])
        if is_cut(self._changes[number], before, after, CUT_LEVELS):
            self.cuts.append(number)
        self._buffer.append(self._ahead.popleft())
        self.num_frames += 1
        if number % self.settings.detect_every_frames == 0:
            self._sample()

    def _sample(self) -> None:
        """Detects faces in the newest frame, joins them to those so far, and measures the frames between."""
        now, frame = self.num_frames - 1, self._buffer[-1]
        sides_px = self._known_sides(now)
        found = Candidates.of(self._detect_coarse(frame, sides_px), frame)
        matches = self._match(found, now)
        if sides_px != ALL_SIDES and self._needs_search(found, matches, now):
            found = Candidates.of(self._detect_coarse(frame, ALL_SIDES), frame)
            matches = self._match(found, now)
        if self._needs_search(found, matches, now):
            found = Candidates.of(detect_faces(self.detectors.fine, [frame])[0], frame)
            matches = self._match(found, now)
        for tracklet in self._without(tracklet for tracklet, _ in matches):
            self._follow_forwards(tracklet, now)
        for at in sorted(set(range(len(found.faces))) - {at for _, at in matches}):
            followed = self._followed_to(found.values[at], now, matches)
            if followed is None and found.faces.probabilities[at] >= NEW_SCORE:
                followed = Tracklet()
                self.tracklets.append(followed)
            if followed is not None:
                matches.append((followed, at))
        for tracklet, at in matches:
            self._join(tracklet, found, at, now)
        self._buffer, self.num_samples = [], self.num_samples + 1

    def _without(self, taken: Iterable[Tracklet]) -> list[Tracklet]:
        numbers = {id(tracklet) for tracklet in taken}
        return [tracklet for tracklet in self.tracklets if id(tracklet) not in numbers]

    def _followed_to(self, values: Values, now: int, matches: Sequence[tuple[Tracklet, int]]) -> Tracklet | None:
        """The face that was followed from frame to frame to this box, though its colours differ."""
        for tracklet in self._without(tracklet for tracklet, _ in matches):
            if tracklet.last == now and overlap(tracklet.at(now), values) > 0.5:
                return tracklet
        return None

    def _known_sides(self, now: int) -> tuple[float, float]:
        """The least and largest of the faces that are followed, px; all on every few samples, which find new ones."""
        sides = [side_of(one.at(one.last)) for one in self.tracklets if now - one.last <= SEARCH_FRAMES]
        return (min(sides), max(sides)) if sides and self.num_samples % NEW_SAMPLES else ALL_SIDES

    def _detect_coarse(self, frame: Frame, sides_px: tuple[float, float]) -> DetectedFaces:
        scale = self.settings.detect_scale
        if scale >= 1:
            return detect_faces(self.detectors.coarse, [frame], sides_px)[0]
        small = np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        faces = detect_faces(self.detectors.coarse, [small], (sides_px[0] * scale, sides_px[1] * scale))[0]
        # MTCNN's boxes count pixels from 1.
        return DetectedFaces((faces.boxes - 1) / scale + 1, faces.probabilities, faces.landmarks / scale)

    def _needs_search(self, found: Candidates, matches: Sequence[tuple[Tracklet, int]], now: int) -> bool:
        sure = {id(tracklet) for tracklet, at in matches if found.faces.probabilities[at] >= SURE_SCORE}
        known = [tracklet for tracklet in self.tracklets if len(tracklet.weights) >= MIN_SAMPLES]
        if not any(id(tracklet) in sure for tracklet in known):
            is_seen = bool(sure) or (not self.tracklets and bool((found.faces.probabilities >= NEW_SCORE).any()))
            return not (is_seen and now < MIN_SAMPLES * self.settings.detect_every_frames)
        return any(id(tracklet) not in sure and now - tracklet.last <= SEARCH_FRAMES for tracklet in known)

    def _match(self, found: Candidates, now: int) -> list[tuple[Tracklet, int]]:
        """Pairs of a face so far and a detection, by position, size and appearance."""
        if not self.tracklets or not len(found.faces):
            return []
        from scipy.optimize import linear_sum_assignment  # half a second, which a run with nothing to do need not take

        impossible = 1e6
        costs = np.array(
            [
                [self._cost(tracklet, found, at, now) or impossible for at in range(len(found.faces))]
                for tracklet in self.tracklets
            ]
        )
        rows, columns = linear_sum_assignment(costs)
        return [
            (self.tracklets[row], int(at)) for row, at in zip(rows, columns, strict=True) if costs[row, at] < impossible
        ]

    def _cost(self, tracklet: Tracklet, found: Candidates, at: int, now: int) -> float | None:
        expected, measured = tracklet.expected(now), found.values[at]
        side = side_of(expected)
        distance = float(np.linalg.norm(centre_of(expected) - centre_of(measured))) / side
        growth = abs(float(np.log(side_of(measured) / side)))
        difference = tracklet.colour_distance(found.colours[at])
        gap = now - tracklet.last
        has_cut = any(tracklet.last < cut <= now for cut in self.cuts)
        if distance > min(0.6 + 0.05 * gap, 2.0) or growth > 0.5:
            return None
        limit = SAME_FACE
        if has_cut:  # another person may be in the same place now
            limit = SAME_FACE_AT_CUT
        elif distance < 0.35 and gap <= 2 * self.settings.detect_every_frames:
            limit = SAME_FACE_NEARBY
        if difference > limit:
            return None
        return distance + growth + difference / SAME_FACE

    def _join(self, tracklet: Tracklet, found: Candidates, at: int, now: int) -> None:
        detected, before = found.values[at], tracklet.last
        known = tracklet.at(before) if tracklet.seen else None
        first = now - len(self._buffer) + 1
        has_cut = any(first <= cut <= now for cut in self.cuts)
        # Where it was seen in the frame before these, it is expected on the way from there to here.
        is_between = known is not None and before == first - 1 and not has_cut
        num_frames = len(self._buffer) if is_between else 1
        steps = np.arange(1, num_frames + 1)[:, None] / num_frames
        expected = detected + (0 if known is None else (1 - steps) * (known - detected))
        expected = expected.reshape(-1, 14)
        faces = refine_faces(self.detectors.fine, self._buffer[-num_frames:], expected[:, :4].astype(np.float32))
        *between, measured = as_values(faces)
        if faces.probabilities[-1] < MIN_SCORE:
            measured = detected - tracklet.offset if tracklet.offsets else detected
        tracklet.offsets[now] = detected - measured
        tracklet.scores.append(float(found.faces.probabilities[at]))
        tracklet.weights.append(subject_weight(detected, self.shape))
        tracklet.add_colours(found.colours[at])
        for number, there in enumerate(between):
            is_there = overlap(there + tracklet.offset, expected[number]) > 0.5
            if faces.probabilities[number] >= MIN_SCORE and is_there:
                tracklet.seen[first + number] = there
        tracklet.seen[now] = measured
        if is_between:
            tracklet.last = now
            return
        if known is not None and before == first - 1:
            self._follow_forwards(tracklet, now)
        tracklet.last = now
        self._follow_backwards(tracklet, detected, first, now)

    def _follow_forwards(self, tracklet: Tracklet, now: int) -> None:
        first = now - len(self._buffer) + 1
        if tracklet.last != first - 1:
            return
        here = tracklet.at(tracklet.last)
        for number in range(first, now + 1):
            if number in self.cuts:
                return
            measured = self._step(tracklet, here, number - first)
            if measured is None:
                return
            tracklet.seen[number], here = measured, measured + tracklet.offset
            tracklet.last = number

    def _follow_backwards(self, tracklet: Tracklet, detected: Values, first: int, now: int) -> None:
        here = detected
        for number in range(now - 1, first - 1, -1):
            if number + 1 in self.cuts or number in tracklet.seen:
                return
            measured = self._step(tracklet, here, number - first)
            if measured is None:
                return
            tracklet.seen[number], here = measured, measured + tracklet.offset

    def _step(self, tracklet: Tracklet, here: Values, at: int) -> Values | None:
        """Measures the face in one frame at the box that it had in the frame beside it."""
        face = refine_faces(self.detectors.fine, [self._buffer[at]], here[None, :4].astype(np.float32))
        measured = as_values(face)[0]
        there = measured + tracklet.offset
        if face.probabilities[0] < SURE_SCORE or overlap(there, here) < 0.5:
            return None
        colours = histograms_of(self._buffer[at], there[:4])
        return measured if tracklet.colour_distance(colours) <= SAME_FACE else None


def _finished_track(follower: _Follower, name: str) -> FaceTrack:
    tracklets = [
        tracklet for tracklet in follower.tracklets if len(tracklet.weights) >= min(MIN_SAMPLES, follower.num_samples)
    ]
    if not tracklets:
        raise FaceError(
            f"{name}: no face was found; choose another part by start_seconds in identities.csv, or another source"
        )
    totals = [sum(tracklet.weights) for tracklet in tracklets]
    tracklet = tracklets[int(np.argmax(totals))]
    values = _corrected(tracklet, follower.num_frames)
    is_detected = np.isfinite(values[:, 0])
    _refuse_unusable(values, is_detected, follower.cuts, name)
    filled = fill_gaps(values)
    smooth = smooth_points(filled.reshape(-1, 7, 2), TRACK_WINDOW).reshape(-1, 14)
    height, width = follower.shape
    shares = sorted((round(total / sum(totals), 3) for total in totals), reverse=True)
    choice: dict[str, Any] = {
        "rule": "largest sum of side x frontality x nearness to the middle over the sampled frames",
        "num_faces": len(tracklets),
        "shares": shares[:5],
        "num_sampled_frames": len(tracklet.weights),
        "mean_probability": round(float(np.mean(tracklet.scores)), 4),
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


def _corrected(tracklet: Tracklet, num_frames: int) -> Values:
    """All measurements as the whole cascade would have made them: float64 (T, 14), NaN where there is none."""
    sampled = np.array(list(tracklet.offsets))
    offsets = smooth_over_time(np.stack(list(tracklet.offsets.values())), OFFSET_WINDOW)
    numbers = np.array(sorted(tracklet.seen))
    values = np.full((num_frames, 14), np.nan)
    for column in range(14):
        measured = np.array([tracklet.seen[number][column] for number in numbers])
        values[numbers, column] = measured + np.interp(numbers, sampled, offsets[:, column])
    for at in range(len(numbers)):
        around = values[numbers[max(0, at - 3) : at + 4]]
        deviation = np.abs(values[numbers[at]] - np.median(around, axis=0)).max()
        if deviation > MAX_DEVIATION * side_of(values[numbers[at]]):
            values[numbers[at]] = np.nan
    return values


def _refuse_unusable(values: Values, is_detected: NDArray[np.bool_], cuts: Sequence[int], name: str) -> None:
    advice = "choose another part by start_seconds in identities.csv, or another source video"
    numbers = np.flatnonzero(is_detected)
    coverage = len(numbers) / len(is_detected)
    if coverage < MIN_COVERAGE:
        raise FaceError(f"{name}: the main face is found in only {coverage:.0%} of the frames; {advice}")
    gaps = np.diff(np.concatenate([[-1], numbers, [len(is_detected)]])) - 1
    if gaps.max() > MAX_GAP_FRAMES:
        start = np.concatenate([[-1], numbers])[gaps.argmax()] + 1
        raise FaceError(f"{name}: the main face is lost for {gaps.max()} frames from frame {start}; {advice}")
    side = float(np.median([side_of(values[number]) for number in numbers]))
    if side < MIN_FACE_PX:
        raise FaceError(f"{name}: the main face is only {side:.0f} px high, {MIN_FACE_PX} are needed; {advice}")
    for cut in cuts:
        before, after = numbers[numbers < cut][-1:], numbers[numbers >= cut][:1]
        if len(before) and len(after) and _is_jump(values, int(before[0]), int(after[0])):
            raise FaceError(f"{name}: the picture is cut at frame {cut}, where the face jumps; {advice}")


def _is_jump(values: Values, before: int, after: int) -> bool:
    if after - before > 2:
        return overlap(values[before], values[after]) < 0.4
    distance = float(np.linalg.norm(centre_of(values[before]) - centre_of(values[after])))
    return distance > MAX_DEVIATION * side_of(values[before])
