"""Expression driving without weights: the target's face, moved as the source moves its own.

1. `prepare` reads both clips once: a neutral crop of the source, and a few key frames of the target in which its
   mouth is closed and its eyes are open, in the poses that it takes.
2. For each target frame the key frame nearest in pose is brought to the frame's pose and light. So the target's own
   expression is gone, its head and everything around the face stay as they are.
3. The source's dense motion from its neutral crop, less that of its head, moves the key frame's pixels through the
   correspondence of the landmarks. Lips part along their seam, no farther than the source's show a
   gap, and show what is seen between them, in the target's light; each lid is unrolled from the target's own skin as
   far as the source's is closed.

Every result depends on the clips and the settings only, not on how frames are batched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.crops.align import AlignedFaces, Batching, aligned_crops
from generation.crops.clip import FaceClip
from generation.errors import GenerationError
from generation.generators.base import CropsOutput, PairPipeline
from generation.generators.weightfree.driving.driving_clip import DrivingClip, DrivingFrame
from generation.generators.weightfree.driving.key_frame import KeyPlaces, TargetKeyFrame, animate
from generation.generators.weightfree.openings import haste, measure_lids
from generation.motion.expression import (
    FEATURE_WEIGHTS,
    FEATURES,
    Neutral,
    choose_frames,
    choose_sequence,
    comparable,
    comparable_gaps,
    small_crop,
    small_grey,
)
from generation.motion.fields import GRID, hann_mean, sample, to_grid
from generation.motion.measure import measure_clip
from generation.motion.rigid import face_area, fit_rigid, rigid_basis, rigid_places
from generation.smoothing import smoothstep

NUM_INVERSIONS = 4  # rounds of the fixed point that inverts a motion field
STILL_MORE = 0.4  # than the frame that shows least
HASTE, HASTE_WEIGHT = 0.07, 12.0  # more from frame to frame is quick motion, in distances between the eyes
LID_FLUTTER = 0.15  # of lids that are open
STILL_SHARE, STILL_ENOUGH = 0.12, 0.12  # of the frames, or by features: those that may become key frames
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_POSE = [FEATURES.index(name) for name in ("yaw", "pitch")]
_EXPRESSION = [at for at, name in enumerate(FEATURES) if at not in _POSE]


@dataclass(frozen=True)
class DriveSettings:
    """Settings of the pipeline.

    Attributes:
        crop_px: side of the aligned crops; about the size of a face in a 720p interview.
        batch_frames: frames pasted at a time.
        context_frames: neighbours on either side over which the target's pose and light are averaged.
        most_key_frames: key frames of the target kept.
        switch_cost: how much nearer another key frame must be, summed over its frames, before it is taken.
        fade_frames: length of the cross-fade between two key frames; odd.
        gain: of the source's motion, which flow measures a little too small.
        widest_lids: how much wider than usual the source's eyes may open, as a share of their opening.
    """

    crop_px: int = 320
    batch_frames: int = 24
    context_frames: int = 2
    most_key_frames: int = 6
    switch_cost: float = 1.0
    fade_frames: int = 7
    gain: float = 1.3
    widest_lids: float = 0.35


@dataclass(frozen=True)
class PreparedDrive:
    """What is known of a pair of clips before the first frame is made.

    Attributes:
        brow_height: see `Neutral.brow_height`, of the target.
        keys: the target's key frames.
        choice: int (T,), which of them for each target frame.
        closure: float32 (T, 2), how far the source's lids are closed, see `animate`.
        driving: the source's frames, read as they are needed.
    """

    brow_height: float
    keys: list[TargetKeyFrame]
    choice: NDArray[np.intp]
    closure: Floats
    driving: DrivingClip


class WeightfreeDrive(PairPipeline):
    """Driving without weights; it has settings only, so one object serves any number of pairs."""

    settings_class = DriveSettings
    revision: ClassVar[int] = 3
    settings: DriveSettings
    draws: ClassVar[bool] = False
    prepares_crops: ClassVar[bool] = True

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        return Batching(self.settings.crop_px, self.settings.batch_frames, self.settings.context_frames)

    def prepare(self, target: FaceClip, source: FaceClip) -> PreparedDrive:
        """Reads both clips; memory is that of a few crops, and some numbers for each frame.

        Raises:
            FaceError, VideoError: a clip cannot be read, or does not fit its track.
            GenerationError: the source has fewer frames than the target.
        """
        if len(source) < len(target):
            raise GenerationError(
                f"{source.name}: has {len(source)} frames and {target.name}, which it is to drive, has {len(target)}; "
                "take a source at least as long"
            )
        crop_px = self.settings.crop_px
        batching = Batching(crop_px, self.settings.batch_frames)
        target, source = target.keeping(crop_px), source.keeping(crop_px)
        target_neutral, asked = measure_clip(target, batching)
        source_neutral, given, lids = measure_lids(source, batching)
        driving = _from_closed_mouth(given, DrivingClip(source, source_neutral, crop_px))
        offered, _, still = _still_frames(asked, DrivingClip(target, target_neutral, crop_px))
        requested = offered.copy()
        requested[:, _EXPRESSION] = 0
        numbers = [int(still[at]) for at in choose_frames(requested, offered[still], self.settings.most_key_frames)]
        choice = choose_sequence(requested, offered[numbers], self.settings.switch_cost)
        keys = _collect(target, numbers, target_neutral, driving)
        return PreparedDrive(
            target_neutral.brow_height, keys, choice, _lid_closure(given, lids, self.settings.widest_lids), driving
        )

    def replace(self, faces: AlignedFaces, prepared: PreparedDrive, *, seed: int = 0) -> CropsOutput:
        """Drives a batch of aligned crops; nothing is drawn, so the seed is not used."""
        batch = _Batch(faces, prepared, self.settings)
        made = [batch.drive(number) for number in range(*faces.requested.indices(len(faces.crops)))]
        return CropsOutput(np.stack([crop for crop, _ in made]), np.stack([mask for _, mask in made]))


def _still_frames(features: Floats, clip: DrivingClip) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Features made comparable, how much expression each frame shows, and the numbers of those that show least."""
    result = comparable(features)
    opening, gap, closure = (FEATURES.index(name) for name in ("mouth_opening", "mouth_gap", "eye_closure"))
    openings, gaps = clip.openings_and_gaps()
    result[:, opening] = openings - np.quantile(openings, 0.1)
    result[:, gap] = comparable_gaps(gaps)
    result[:, closure] = np.sign(result[:, closure]) * np.maximum(np.abs(result[:, closure]) - LID_FLUTTER, 0)
    shown = np.abs(result[:, _EXPRESSION] * FEATURE_WEIGHTS[_EXPRESSION]).sum(1)
    # A frame in quick motion is blurred, and its landmarks lag.
    shown += HASTE_WEIGHT * np.maximum(haste(clip.clip) - HASTE, 0)
    enough = max(min(float(np.quantile(shown, STILL_SHARE)), float(shown.min()) + STILL_MORE), STILL_ENOUGH)
    return result, shown, np.flatnonzero(shown <= enough)


def _from_closed_mouth(features: Floats, clip: DrivingClip) -> DrivingClip:
    """The clip, measured from a neutral crop in which lips meet; flow alone, which chose the first, cannot see that."""
    measured, shown, still = _still_frames(features, clip)
    cost = shown + np.abs((measured - np.median(measured, 0)) * FEATURE_WEIGHTS)[:, _POSE].sum(1)
    best = int(still[int(cost[still].argmin())])
    frame = clip.read(best, best + 1)[0]
    neutral = Neutral(small_crop(frame.crop), frame.landmarks, clip.neutral.eye_contrast)
    return DrivingClip(clip.clip, neutral, clip.crop_px)


def _lid_closure(features: Floats, closures: Floats, widest: float) -> Floats:
    """How far the source's lids are closed in each frame, without the flutter of open eyes: float32 (T, 2).

    1 is shut, 0 as far open as they usually are; below 0 they are wider open, both of them, by this share of the
    opening.
    """
    wide = features[:, FEATURES.index("eye_closure")]
    wide = np.minimum(wide - np.quantile(wide, 0.25), 0)
    wide = np.stack([hann_mean(wide, number, 1) for number in range(len(wide))])
    wide *= smoothstep(0, LID_FLUTTER, -wide)
    return np.asarray(np.where(closures > 0, closures, np.maximum(wide, -widest)[:, None]), np.float32)


def _collect(clip: FaceClip, numbers: list[int], neutral: Neutral, driving: DrivingClip) -> list[TargetKeyFrame]:
    return [
        TargetKeyFrame.of(crop, landmarks / np.float32(driving.crop_px), neutral, driving)
        for crop, landmarks in aligned_crops(clip, numbers, driving.crop_px)
    ]


class _Batch:
    """One batch in work: what is measured once for all its crops, context included."""

    def __init__(self, target: AlignedFaces, prepared: PreparedDrive, settings: DriveSettings) -> None:
        self.target, self.prepared, self.settings = target, prepared, settings
        self.landmarks = target.landmarks / np.float32(settings.crop_px)
        self.small = np.stack([blending.shrink_to_grid(crop) for crop in target.crops])
        self.greys = [small_grey(crop) for crop in target.crops]
        self._poses: dict[tuple[int, int], tuple[Floats, Floats]] = {}
        first = target.start
        num_wanted = len(target.crops) - target.num_before - target.num_after
        self.driving = prepared.driving.read(first, first + num_wanted)

    def drive(self, number: int) -> tuple[Frame, Floats]:
        """One crop and its mask."""
        time = self.target.start + number - self.target.num_before
        driving, closure = self.driving[time - self.target.start], self.prepared.closure[time]
        landmarks, brows = self.landmarks[number], self.prepared.brow_height
        face = np.zeros((self.settings.crop_px, self.settings.crop_px, 3), np.float32)
        for chosen, weight in sorted(self._weights(time).items()):
            key = self.prepared.keys[chosen]
            places = self._places(number, chosen, driving)
            # uint8 [0, 255] -> float32 [0, 1]
            face += np.float32(weight / 255) * animate(key, places, landmarks, driving, closure)

        small = hann_mean(self.small, number, self.settings.context_frames)
        made = blending.shrink(face)
        there, shown = blending.skin(small, landmarks), blending.skin(made, landmarks)
        skin = np.minimum(there, shown)
        light = skin * (1 - blending.feature_areas(landmarks)) * blending.face_outline(landmarks, brows)
        face = blending.relight(face, blending.low_band(made, light), blending.low_band(small, light), skin)
        mask = self._mask(landmarks, there, shown)
        # float32 [0, 1] -> uint8
        crop = np.clip(np.rint(face * 255), 0, 255).astype(np.uint8)
        return crop, np.ascontiguousarray(blending.enlarge(mask, self.settings.crop_px))

    def _mask(self, landmarks: Floats, there: Floats, shown: Floats) -> Floats:
        """At its edge only skin is laid over skin: no background over a cheek, no cheek over the background.

        Args:
            landmarks: float32 (5, 2), shares of the side.
            there, shown: float32 (GRID_PX, GRID_PX), how much is skin in the target and in what replaces it.
        """
        face, core = (face_area(landmarks, self.prepared.brow_height, *reach) for reach in ((0.88, 1.10), (0.50, 0.80)))
        # A key frame that is turned farther has hair or background where this face has a cheek, if only a strand.
        skin = np.minimum(blending.fill_thin(there), cv2.erode(shown, _NEIGHBOURS))
        soft = cv2.GaussianBlur(face * (core + (1 - core) * skin), (0, 0), 1.0)
        return np.asarray(np.maximum(soft, core * face), np.float32)

    def _weights(self, time: int) -> dict[int, float]:
        """Share of each key frame in the cross-fade at this time."""
        half = self.settings.fade_frames // 2
        window = np.hanning(self.settings.fade_frames + 2)[1:-1]
        shares: dict[int, float] = {}
        last = len(self.prepared.choice) - 1
        for offset, weight in zip(range(-half, half + 1), window / window.sum(), strict=True):
            chosen = int(self.prepared.choice[min(max(time + offset, 0), last)])
            shares[chosen] = shares.get(chosen, 0.0) + float(weight)
        return shares

    def _pose(self, number: int, chosen: int) -> tuple[Floats, Floats]:
        """Motion from a target crop to a key frame on the grid, and the coefficients of the head's part of it."""
        if (number, chosen) not in self._poses:
            motion = to_grid(self.prepared.keys[chosen].meter.to_neutral(self.greys[number]))
            landmarks = self.landmarks[number]
            fit = fit_rigid(motion, rigid_basis(landmarks), rigid_places(landmarks, self.prepared.brow_height))
            self._poses[number, chosen] = motion, fit
        return self._poses[number, chosen]

    def _places(self, number: int, chosen: int, driving: DrivingFrame) -> KeyPlaces:
        reach, key = self.settings.context_frames, self.prepared.keys[chosen]
        near = np.clip(np.arange(number - reach, number + reach + 1), 0, len(self.greys) - 1)
        poses = [self._pose(int(other), chosen) for other in near]
        motion = hann_mean(np.stack([motion for motion, _ in poses]), reach, reach)
        fit = hann_mean(np.stack([fit for _, fit in poses]), reach, reach)
        inner = face_area(self.landmarks[number], self.prepared.brow_height, 0.80, 1.05)[..., None]
        posed = GRID + inner * (rigid_basis(self.landmarks[number]) @ fit) + (1 - inner) * motion

        strength = (self.settings.gain * key.moved)[..., None]
        whole, above, below = (strength * sample(part, key.to_source) for part in driving.motion.parts)
        parting = key.seam.parting(GRID)[..., None]
        above, below = whole + parting * (above - whole), whole + parting * (below - whole)
        return KeyPlaces(*(_inverse(posed, part) for part in (whole, above, below)))


def _inverse(places: Floats, motion: Floats) -> Floats:
    """Where that lies which the motion brings to these places: x with x + motion(x) = places."""
    found = places
    for _ in range(NUM_INVERSIONS):
        found = places - sample(motion, found)
    return found
