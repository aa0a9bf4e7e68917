"""Face swap without weights: the source's face, re-posed by the target's motion, in the target's light.

1. `prepare` reads both clips once: a neutral crop of each, pose and expression of every frame, and a handful of
   source frames with open eyes that together come nearest to what the target does (open mouths among them).
2. For each target frame the chosen source frame is warped through both people's neutral faces:
   target frame -> target's neutral -> source's neutral -> source frame. The two outer steps are dense optical flow
   between crops of one person, the middle one follows the landmarks. What flow does not follow is measured and
   drawn: lids fall as far as the target's, lips part as far.
3. Its light is exchanged for the target's, grain is matched, and a soft mask that knows hair, turned cheeks and
   background from skin decides what is pasted.
4. Of a target that is stated to wear glasses the frame is laid over that; a source's are taken off its frames first.

Every result depends on the clips, the settings and the seed only, not on how frames are batched.
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
from generation.crops.blending import GRID_PX
from generation.crops.clip import FaceClip
from generation.crops.outline import is_seen
from generation.generators.base import CropsOutput, PairPipeline
from generation.generators.weightfree.driving.eyelids import Eyes, close_eyes
from generation.generators.weightfree.glasses import Glasses
from generation.generators.weightfree.openings import LipMeter, measure_lids
from generation.motion.expression import (
    FEATURES,
    LID_HEIGHT,
    MotionMeter,
    Neutral,
    choose_frames,
    choose_sequence,
    comparable,
    displacement,
    small_grey,
)
from generation.motion.fields import GRID, hann_mean, pixels, sample, sample_at, sample_sharp, to_grid
from generation.motion.measure import seen_frames
from generation.motion.rigid import smooth_inside
from generation.smoothing import smoothstep

SHAPE_SHARE = 0.3  # of the source's proportions that are bent to the target's
LANDMARK_SHARE = 0.5
LID_WEIGHT = 4.0  # of lids that are closed in a source frame
DARK_SHARE = 0.3  # of the dark between the lips, which teeth hide; it tells pursed lips from lips that are shut
WIDTH_MULTIPLE = 6.0  # of the mouth's width: a grin is none of the other mouths that open as far
# Of a neutral mouth, in distances between the eyes; what differs from it is as likely a smile as the person's own.
USUAL_WIDTH, OWN_WIDTH_SHARE = 0.79, 0.5
STRETCH_SHARE = 0.7  # of the difference in opening; flow shows the rest
MISSING_OPENING = (0.015, 0.03)  # of the crop's side, from where the target's own mouth begins to be seen, and is
EYE_SMOOTHING = 0.025  # of the crop's side
GRAIN_PX = 0.7
LARGEST_GRAIN = 0.06  # of white


@dataclass(frozen=True)
class SwapSettings:
    """Settings of the pipeline.

    Attributes:
        crop_px: side of the aligned crops; about the size of a face in a 720p interview.
        batch_frames: frames pasted at a time.
        context_frames: neighbours on either side over which motion, light and mask are averaged.
        most_source_frames: source frames kept.
        switch_cost: how much nearer another source frame must be, summed over its frames, before it is taken.
        fade_frames: length of the cross-fade between two source frames; odd.
        mouth_stretch: most that a source frame's mouth is stretched open, as a share of its opening.
    """

    crop_px: int = 320
    batch_frames: int = 24
    context_frames: int = 3
    most_source_frames: int = 24
    switch_cost: float = 0.35
    fade_frames: int = 3
    mouth_stretch: float = 0.6


@dataclass(frozen=True)
class SourceFrame:
    """One source crop, ready to be warped.

    Attributes:
        crop: RGB uint8 (S, S, 3).
        landmarks: float32 (5, 2), shares of the side.
        motion: float32 (ANALYSIS_PX, ANALYSIS_PX, 2), from the source's neutral crop to this one.
        usable: float32 (GRID_PX, GRID_PX), 1 where there is face, 0 on hair, background and the far side.
        features: float32 (GRID_PX, GRID_PX), 1 from the brows down, whether it looks like skin or not.
        eyes: where its lids are.
        closure: float32 (2,), how far they are closed, 0 to 1.
        opening: of the mouth, more than in most frames of its clip; a share of the side.
    """

    crop: Frame
    landmarks: Floats
    motion: Floats
    usable: Floats
    features: Floats
    eyes: Eyes
    closure: Floats
    opening: float


@dataclass(frozen=True)
class PreparedSwap:
    """What is known of a pair of clips before the first frame is made.

    Attributes:
        target_neutral, source_neutral: where the motions are measured from.
        source_frames: the K frames that are shown.
        choice: int (T,), which of them for each target frame.
        closure: float32 (T, 2), how far the target's lids are closed, 0 to 1.
        opening: float32 (T,), of the target's mouth, as that of `SourceFrame`.
        glasses: the target's, if it is stated to wear any.
    """

    target_neutral: Neutral
    source_neutral: Neutral
    source_frames: list[SourceFrame]
    choice: NDArray[np.intp]
    closure: Floats
    opening: Floats
    glasses: Glasses | None = None


class WeightfreeSwap(PairPipeline):
    """Swapping without weights; it has settings only, so one object serves any number of pairs."""

    settings_class = SwapSettings
    revision: ClassVar[int] = 3
    prepares_crops: ClassVar[bool] = True
    settings: SwapSettings

    @property
    def batching(self) -> Batching:
        """The batches that `replace` takes."""
        return Batching(self.settings.crop_px, self.settings.batch_frames, self.settings.context_frames)

    def prepare(self, target: FaceClip, source: FaceClip) -> PreparedSwap:
        """Reads both clips; memory is that of a few crops, and some numbers for each frame.

        Raises:
            FaceError, VideoError: a clip cannot be read, or does not fit its track.
        """
        crop_px = self.settings.crop_px
        batching = Batching(crop_px, self.settings.batch_frames)
        target, source = target.keeping(crop_px), source.keeping(crop_px)
        target_neutral, requested, closure = measure_lids(target, batching, LipMeter)
        source_neutral, offered, shown = measure_lids(source, batching, LipMeter)
        requested, offered = _compared(requested, target_neutral), _compared(offered, source_neutral)
        # Lids fall by themselves: source frames are to show open eyes.
        blink = FEATURES.index("eye_closure")
        requested[:, blink], offered[:, blink] = 0, LID_WEIGHT * shown.max(1)
        seen = seen_frames(source)
        numbers = [int(seen[at]) for at in choose_frames(requested, offered[seen], self.settings.most_source_frames)]
        choice = choose_sequence(requested, offered[numbers], self.settings.switch_cost)
        wide = FEATURES.index("mouth_opening")
        frames = _collect(source, numbers, source_neutral, crop_px, shown, offered[:, wide])
        return PreparedSwap(
            target_neutral,
            source_neutral,
            frames,
            choice,
            closure,
            requested[:, wide],
            Glasses.find(target, target_neutral, crop_px) if target.wears_glasses else None,
        )

    def replace(self, faces: AlignedFaces, prepared: PreparedSwap, *, seed: int = 0) -> CropsOutput:
        """Swaps a batch of aligned crops; the seed is that of the grain."""
        batch = _Batch(faces, prepared, self.settings)
        made = [batch.swap(number, seed) for number in range(*faces.requested.indices(len(faces.crops)))]
        return CropsOutput(np.stack([crop for crop, _ in made]), np.stack([mask for _, mask in made]))


def _compared(features: Floats, neutral: Neutral) -> Floats:
    """Features (T, F) of a clip for the choice of source frames."""
    result = comparable(features)
    result[:, FEATURES.index("mouth_gap")] *= DARK_SHARE
    width = FEATURES.index("mouth_width")
    eyes, mouth = (float(np.linalg.norm(neutral.landmarks[at + 1] - neutral.landmarks[at])) for at in (0, 3))
    result[:, width] = WIDTH_MULTIPLE * (features[:, width] + OWN_WIDTH_SHARE * (mouth - USUAL_WIDTH * eyes))
    return result


def _collect(
    clip: FaceClip, numbers: list[int], neutral: Neutral, crop_px: int, closures: Floats, openings: Floats
) -> list[SourceFrame]:
    meter, brow_height = MotionMeter(neutral), neutral.brow_height
    glasses = Glasses.find(clip, neutral, crop_px) if clip.wears_glasses else None
    found = []
    for number, (crop, landmarks) in zip(numbers, aligned_crops(clip, numbers, crop_px), strict=True):
        grey = small_grey(crop)
        motion = without_lids(meter.from_neutral(grey), neutral.landmarks)
        if glasses:
            crop = glasses.take_off(crop, to_grid(meter.to_neutral(grey)))
        lids, lips = closures[number], float(openings[number])
        found.append(_source_frame(crop, landmarks / np.float32(crop_px), motion, brow_height, lids, lips))
    return found


def without_lids(motion: Floats, landmarks: Floats) -> Floats:
    """A motion field (N, N, 2) whose eyes move as what is around them; flow cannot follow lids."""
    eyes = blending.enlarge(blending.eye_areas(landmarks), len(motion))
    around = smooth_inside(motion, 1 - eyes, EYE_SMOOTHING * len(motion))
    return np.asarray(motion + eyes[..., None] * (around - motion), np.float32)


def _source_frame(
    crop: Frame, landmarks: Floats, motion: Floats, brow_height: float, closure: Floats, opening: float
) -> SourceFrame:
    skin = blending.skin(blending.shrink_to_grid(crop), landmarks)
    usable = skin * blending.face_outline(landmarks, brow_height + 0.15, shrink=1.12)
    features = blending.face_outline(landmarks, brow_height - 0.04, shrink=0.85, brow_shrink=0.85)
    return SourceFrame(crop, landmarks, motion, usable, features, Eyes.find(crop, landmarks), closure, opening)


class _Batch:
    """One batch in work: what is measured once for all its crops, context included."""

    def __init__(self, target: AlignedFaces, source: PreparedSwap, settings: SwapSettings) -> None:
        self.target, self.source, self.settings = target, source, settings
        side = settings.crop_px
        self.landmarks = target.landmarks / side
        heights = (source.target_neutral.brow_height, source.source_neutral.brow_height)
        self.brows = LID_HEIGHT if LID_HEIGHT in heights else max(heights)
        meter = MotionMeter(source.target_neutral)
        self.motion = np.stack(
            [
                without_lids(to_grid(meter.to_neutral(small_grey(crop))), points)
                for crop, points in zip(target.crops, self.landmarks, strict=True)
            ]
        )
        self.small = np.stack([blending.shrink_to_grid(crop) for crop in target.crops])
        self.skin = np.stack([blending.skin(s, p) for s, p in zip(self.small, self.landmarks, strict=True)])

    def swap(self, number: int, seed: int) -> tuple[Frame, Floats]:
        """One crop and its mask."""
        side = self.settings.crop_px
        time = self.target.start + number - self.target.num_before
        landmarks = self.landmarks[number]
        face, usable, features = self._warped_source(number, time)
        reach = self.settings.context_frames
        skin, small = hann_mean(self.skin, number, reach), hann_mean(self.small, number, reach)

        outline = blending.face_outline(landmarks, self.brows)
        core = blending.face_outline(landmarks, self.brows, shrink=0.78, brow_shrink=0.78)
        # A rim of glasses inside the face belongs to it, a lock of hair at its edge does not.
        inner = blending.face_outline(landmarks, self.brows, shrink=0.88, brow_shrink=0.88)
        shown = np.maximum(usable, inner * blending.fill_thin(usable))
        mask = outline * (core + (1 - core) * np.minimum(blending.fill_thin(skin), shown))
        mask = mask * (1 - self._kept(landmarks, time)) * is_seen(self.target, number)
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.0), np.float32)

        light = np.minimum(skin, usable) * (1 - blending.feature_areas(landmarks)) * (outline > 0.3)
        requested = blending.low_band(small, light)
        face = blending.relight(face, blending.low_band(blending.shrink(face), light), requested, usable)
        # Where the source has a fringe and the target a brow there is bare skin.
        bare = blending.per_channel(blending.enlarge(1 - np.maximum(shown, features), side))
        face += bare * (blending.enlarge(requested, side) - face)
        face += self._grain(number, face, np.random.default_rng([seed, time]))
        if self.source.glasses:
            face = self.source.glasses.lay(face, self.target.crops[number], self.motion[number])

        # float32 [0, 1] -> uint8
        crop = np.clip(np.rint(face * 255), 0, 255).astype(np.uint8)
        return crop, np.ascontiguousarray(blending.enlarge(mask, side))

    def _weights(self, time: int) -> dict[int, float]:
        """Share of each source frame in the cross-fade at this time."""
        half = self.settings.fade_frames // 2
        window = np.hanning(self.settings.fade_frames + 2)[1:-1]
        shares: dict[int, float] = {}
        last = len(self.source.choice) - 1
        for offset, weight in zip(range(-half, half + 1), window / window.sum(), strict=True):
            chosen = int(self.source.choice[min(max(time + offset, 0), last)])
            shares[chosen] = shares.get(chosen, 0.0) + float(weight)
        return shares

    def _warped_source(self, number: int, time: int) -> tuple[Floats, Floats, Floats]:
        """The cross-faded source crop in the target's pose, RGB float32 [0, 1]; its usable places and features."""
        side = self.settings.crop_px
        motion = hann_mean(self.motion, number, self.settings.context_frames)
        face = np.zeros((side, side, 3), np.float32)
        areas = np.zeros((GRID_PX, GRID_PX, 2), np.float32)
        for chosen, weight in sorted(self._weights(time).items()):
            frame = self.source.source_frames[chosen]
            places = self._places(self.landmarks[number], motion, frame, time)
            full = blending.enlarge(places - GRID, side) * side + pixels(side)
            warped = sample_sharp(frame.crop, full)
            fall = (self.source.closure[time] - frame.closure) / np.maximum(1 - frame.closure, 0.1)
            close_eyes(warped, frame.crop, frame.eyes, (full + np.float32(0.5)) / np.float32(side), fall)
            # uint8 [0, 255] -> float32 [0, 1]
            face += np.float32(weight / 255) * warped
            areas += weight * sample(np.dstack([frame.usable, frame.features]), places)
        return face, areas[..., 0], areas[..., 1]

    def _places(self, landmarks: Floats, motion: Floats, frame: SourceFrame, time: int) -> Floats:
        """Where in the source crop each grid place of the target crop is seen: float32 (GRID_PX, GRID_PX, 2)."""
        still, source_still = self.source.target_neutral.landmarks, self.source.source_neutral.landmarks
        shape = _shape_offset(still, source_still)
        places = GRID + motion
        places = places + displacement(still, still + shape, places)
        places = places + sample(frame.motion, places)
        # Where flow lost a quick movement of the head, the landmarks still have it.
        missed = still + shape + (frame.landmarks - source_still) - sample_at(places, landmarks)
        places = places + displacement(landmarks, landmarks + LANDMARK_SHARE * missed, GRID)
        opening = float(self.source.opening[time])
        return places - lower_lip(landmarks, opening, stretch(opening, frame.opening, self.settings.mouth_stretch))

    def _grain(self, number: int, face: Floats, random: np.random.Generator) -> Floats:
        """Noise that the target's skin has and the warped source's has not: float32 (S, S, 3), RGB in [0, 1]."""
        # uint8 [0, 255] -> float32 [0, 1]
        crop = self.target.crops[number].astype(np.float32) / 255
        landmarks, side = self.landmarks[number], self.settings.crop_px
        missing = blending.grain(crop, landmarks) ** 2 - blending.grain(face, landmarks) ** 2
        noise = cv2.GaussianBlur(random.standard_normal((side, side), np.float32), (0, 0), GRAIN_PX)
        level = min(max(missing, 0.0) ** 0.5 / float(noise.std()), LARGEST_GRAIN)
        return blending.per_channel(np.asarray(level * noise, np.float32))

    def _kept(self, landmarks: Floats, time: int) -> Floats:
        """Where the target's own pixels stay because no source frame opens its mouth so far."""
        opening, requested = 0.0, float(self.source.opening[time])
        for chosen, weight in self._weights(time).items():
            shown = self.source.source_frames[chosen].opening
            missing = requested - shown - stretch(requested, shown, self.settings.mouth_stretch)
            opening += weight * float(smoothstep(*MISSING_OPENING, missing))
        if opening > 0:
            return opening * blending.mouth_area(landmarks)
        return np.zeros((GRID_PX, GRID_PX), np.float32)


def stretch(requested: float, shown: float, limit: float) -> float:
    """By how much a mouth is stretched open, or shut, beyond what its frame and flow show; a share of the side."""
    return float(np.clip(STRETCH_SHARE * (requested - shown), -max(shown, 0), max(limit * shown, 0)))


def lower_lip(landmarks: Floats, opening: float, more: float) -> Floats:
    """Motion of lower lip and chin that opens a mouth by more: float32 (GRID_PX, GRID_PX, 2), shares of the side.

    Args:
        landmarks: float32 (5, 2), shares of the side.
        opening: of the mouth after that, within which the motion rises.
        more: the motion of the lip's middle.
    """
    across = landmarks[4] - landmarks[3]
    gap = float(np.linalg.norm(across))
    down = np.array([-across[1], across[0]], np.float32) / gap
    offset = (GRID - landmarks[3:].mean(0)) / gap
    along, below = offset @ across / gap, offset @ down
    width = 0.55 + 0.5 * np.clip(below, 0, 1)
    rise = np.clip(below * gap / max(opening, 2 / GRID_PX), 0, 1)
    share = np.maximum(1 - np.square(along / width), 0) ** 0.7 * rise * smoothstep(1.3, 0.4, below)
    return np.asarray(more * share[..., None] * down, np.float32)


def _shape_offset(still: Floats, source_still: Floats) -> Floats:
    """From the target's neutral landmarks to where the source's features are looked for: float32 (5, 2).

    The proportions are the source's identity and are mostly kept; the nose's sideways place is pose and is not.
    """
    offset = SHAPE_SHARE * (source_still - still)
    offset[2, 0] = source_still[2, 0] - still[2, 0]
    return np.asarray(offset, np.float32)
