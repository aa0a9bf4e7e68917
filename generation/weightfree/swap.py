"""Face swap without weights: the source's face, re-posed by the target's motion, in the target's light.

1. `prepare` looks at both clips once: a neutral crop of each, pose and expression of every frame, and a handful of
   source frames that together come nearest to what the target does (blinks and open mouths among them).
2. For each target frame the chosen source frame is warped through both people's neutral faces:
   target frame -> target's neutral -> source's neutral -> source frame. The two outer steps are dense optical flow
   between crops of one person, the middle one follows the landmarks.
3. Its light is exchanged for the target's, grain is matched, and a soft mask that knows hair, turned cheeks and
   background from skin decides what is pasted.

Every result depends on the clips, the settings and the seed only, not on how frames are batched.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from generation import blending
from generation.blending import GRID_PX
from generation.clip_pipeline import CropsOutput, PairPipeline
from generation.errors import FaceError
from generation.video import Frame
from generation.warp import (
    AlignedFaces,
    Batching,
    FaceClip,
    Floats,
    align,
    aligned_batches,
    smooth_landmarks,
)
from generation.weightfree.expression import (
    ANALYSIS_PX,
    FEATURES,
    LID_HEIGHT,
    Grey,
    MotionMeter,
    Neutral,
    choose_frames,
    choose_neutral,
    choose_sequence,
    comparable,
    displacement,
    small_grey,
)

NUM_NEUTRAL_CANDIDATES = 48
NEUTRAL_SPAN_FRAMES = 300  # the neutral crop is looked for at the clip's beginning
SHAPE_SHARE = 0.3  # of the source's proportions that are bent to the target's
LANDMARK_SHARE = 0.5
GRAIN_PX = 0.7
LARGEST_GRAIN = 0.06  # of white


@dataclass(frozen=True)
class SwapSettings:
    """What can be chosen.

    Attributes:
        crop_px: side of the aligned crops; about the size of a face in a 720p interview.
        batch_frames: frames pasted at a time.
        context_frames: neighbours on either side over which motion, light and mask are averaged.
        most_source_frames: source frames kept.
        switch_cost: how much nearer another source frame must be, summed over its frames, before it is taken.
        fade_frames: length of the cross-fade between two source frames; odd.
    """

    crop_px: int = 320
    batch_frames: int = 8
    context_frames: int = 3
    most_source_frames: int = 24
    switch_cost: float = 0.35
    fade_frames: int = 3


@dataclass(frozen=True)
class SourceFrame:
    """One source crop, ready to be warped.

    Attributes:
        crop: RGB uint8 (S, S, 3).
        landmarks: float32 (5, 2), shares of the side.
        motion: float32 (ANALYSIS_PX, ANALYSIS_PX, 2), from the source's neutral crop to this one.
        usable: float32 (GRID_PX, GRID_PX), 1 where there is face, 0 on hair, background and the far side.
        features: float32 (GRID_PX, GRID_PX), 1 from the brows down, whether it looks like skin or not.
    """

    crop: Frame
    landmarks: Floats
    motion: Floats
    usable: Floats
    features: Floats


@dataclass(frozen=True)
class PreparedSwap:
    """What is known of a pair of clips before the first frame is made.

    Attributes:
        target_neutral, source_neutral: where the motions are measured from.
        source_frames: the K frames that are shown.
        choice: int (T,), which of them for each target frame.
        missing_blink, missing_opening: float32 (T,), by how much the target's eyes are more closed, its mouth more
            open (share of the crop's side) than in the chosen source frame.
    """

    target_neutral: Neutral
    source_neutral: Neutral
    source_frames: list[SourceFrame]
    choice: NDArray[np.intp]
    missing_blink: Floats
    missing_opening: Floats


class WeightfreeSwap(PairPipeline):
    """The pipeline. It holds settings only, so one object serves any number of pairs."""

    def __init__(
        self,
        crop_px: int = 320,
        batch_frames: int = 8,
        context_frames: int = 3,
        most_source_frames: int = 24,
        switch_cost: float = 0.35,
        fade_frames: int = 3,
    ) -> None:
        super().__init__()
        settings = SwapSettings(crop_px, batch_frames, context_frames, most_source_frames, switch_cost, fade_frames)
        self.register_to_config(**asdict(settings))

    @property
    def settings(self) -> SwapSettings:
        """The config values by name."""
        return SwapSettings(**{field.name: self.config[field.name] for field in fields(SwapSettings)})

    @property
    def batching(self) -> Batching:
        """The batches that `replace` wants."""
        return Batching(self.settings.crop_px, self.settings.batch_frames, self.settings.context_frames)

    def prepare(self, target: FaceClip, source: FaceClip) -> PreparedSwap:
        """Looks through both clips; memory is that of a few crops, and some numbers for each frame.

        Raises:
            FaceError, VideoError: a clip cannot be read, or does not fit its track.
        """
        batching = Batching(self.settings.crop_px, self.settings.batch_frames)
        target_neutral, asked = _measure(target, batching)
        source_neutral, given = _measure(source, batching)
        wanted, offered = comparable(asked), comparable(given)
        numbers = choose_frames(wanted, offered, self.settings.most_source_frames)
        choice = choose_sequence(wanted, offered[numbers], self.settings.switch_cost)
        frames = _collect(source, numbers, source_neutral, self.settings.crop_px)
        lacking = wanted - offered[numbers][choice]
        return PreparedSwap(
            target_neutral,
            source_neutral,
            frames,
            choice,
            lacking[:, FEATURES.index("eye_closure")],
            lacking[:, FEATURES.index("mouth_opening")],
        )

    def replace(self, faces: AlignedFaces, prepared: PreparedSwap, *, seed: int = 0) -> CropsOutput:
        """Swaps a batch of aligned crops; the seed is that of the grain."""
        batch = _Batch(faces, prepared, self.settings)
        made = [batch.swap(number, seed) for number in range(*faces.wanted.indices(len(faces.crops)))]
        return CropsOutput(np.stack([crop for crop, _ in made]), np.stack([mask for _, mask in made]))


def _measure(clip: FaceClip, batching: Batching) -> tuple[Neutral, Floats]:
    """One pass over a clip: its neutral crop, and pose and expression of every frame, float32 (T, F)."""
    span = min(len(clip), NEUTRAL_SPAN_FRAMES)
    # In one piece: small arrays kept between large short-lived ones would leave the memory in holes.
    greys, points = np.empty((span, ANALYSIS_PX, ANALYSIS_PX), np.uint8), np.empty((span, 5, 2), np.float32)
    features = np.empty((len(clip), len(FEATURES)), np.float32)
    meter: MotionMeter | None = None
    for faces in aligned_batches(clip, batching):
        for number, (crop, landmarks) in enumerate(zip(faces.crops, faces.landmarks, strict=True), faces.start):
            grey, where = small_grey(crop), landmarks / np.float32(batching.crop_px)
            if meter is not None:
                features[number] = meter.features(grey, where)
                continue
            greys[number], points[number] = grey, where
            if number + 1 == span:
                meter = MotionMeter(_neutral_of(greys, points))
                features[:span] = [meter.features(*known) for known in zip(greys, points, strict=True)]
    if meter is None:
        raise FaceError(f"{clip.name}: holds no frame; make the clip again")
    return meter.neutral, features


def _neutral_of(greys: Grey, points: Floats) -> Neutral:
    chosen = np.linspace(0, len(greys) - 1, min(NUM_NEUTRAL_CANDIDATES, len(greys))).astype(int)
    return choose_neutral([greys[number].copy() for number in chosen], points[chosen])


def _collect(clip: FaceClip, numbers: list[int], neutral: Neutral, crop_px: int) -> list[SourceFrame]:
    meter, brow_height = MotionMeter(neutral), neutral.brow_height
    smoothed = smooth_landmarks(clip.landmarks)
    found = []
    for number, frame in zip(range(numbers[-1] + 1), clip.frames(), strict=False):
        if number in numbers:
            crop, landmarks, _ = align(frame, smoothed[number], crop_px)
            found.append(
                _source_frame(crop, landmarks / np.float32(crop_px), meter.from_neutral(small_grey(crop)), brow_height)
            )
    return found


def _source_frame(crop: Frame, landmarks: Floats, motion: Floats, brow_height: float) -> SourceFrame:
    skin = blending.skin(blending.shrink_to_grid(crop), landmarks)
    usable = skin * blending.face_outline(landmarks, brow_height + 0.15, shrink=1.12)
    features = blending.face_outline(landmarks, brow_height - 0.04, shrink=0.85)
    return SourceFrame(crop, landmarks, motion, usable, features)


class _Batch:
    """One batch in work: what is measured once for all its crops, context included."""

    def __init__(self, target: AlignedFaces, source: PreparedSwap, settings: SwapSettings) -> None:
        self.target, self.source, self.settings = target, source, settings
        side = settings.crop_px
        self.landmarks = target.landmarks / side
        heights = (source.target_neutral.brow_height, source.source_neutral.brow_height)
        self.brows = LID_HEIGHT if LID_HEIGHT in heights else max(heights)
        meter = MotionMeter(source.target_neutral)
        self.motion = np.stack([_to_grid(meter.to_neutral(small_grey(crop))) for crop in target.crops])
        self.small = np.stack([blending.shrink_to_grid(crop) for crop in target.crops])
        self.skin = np.stack([blending.skin(s, p) for s, p in zip(self.small, self.landmarks, strict=True)])

    def swap(self, number: int, seed: int) -> tuple[Frame, Floats]:
        """One crop and its mask."""
        side = self.settings.crop_px
        time = self.target.start + number - self.target.num_before
        landmarks = self.landmarks[number]
        face, usable, features = self._warped_source(number, self._weights(time))
        skin, small = self._average(self.skin, number), self._average(self.small, number)

        outline = blending.face_outline(landmarks, self.brows)
        core = blending.face_outline(landmarks, self.brows, shrink=0.78)
        # A rim of glasses inside the face belongs to it, a lock of hair at its edge does not.
        inner = blending.face_outline(landmarks, self.brows, shrink=0.88)
        shown = np.maximum(usable, inner * blending.fill_thin(usable))
        mask = outline * (core + (1 - core) * np.minimum(blending.fill_thin(skin), shown))
        mask = mask * (1 - self._kept(landmarks, time))
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.0), np.float32)

        light = np.minimum(skin, usable) * (1 - blending.feature_areas(landmarks)) * (outline > 0.3)
        wanted = blending.low_band(small, light)
        face = blending.relight(face, blending.low_band(blending.shrink(face), light), wanted, usable)
        # Where the source has a fringe and the target a brow there is bare skin.
        bare = blending.enlarge(1 - np.maximum(shown, features), side)[..., None]
        face += bare * (blending.enlarge(wanted, side) - face)
        face += self._grain(number, face, np.random.default_rng([seed, time]))

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

    def _average(self, values: Floats, number: int) -> Floats:
        """Hann-weighted mean of values (N, ...) around one crop."""
        reach = self.settings.context_frames
        numbers = np.clip(np.arange(number - reach, number + reach + 1), 0, len(values) - 1)
        window = np.hanning(2 * reach + 3)[1:-1].astype(np.float32)
        return np.asarray(np.tensordot(window / window.sum(), values[numbers], 1), np.float32)

    def _warped_source(self, number: int, weights: dict[int, float]) -> tuple[Floats, Floats, Floats]:
        """The cross-faded source crop in the target's pose, RGB float32 [0, 1]; its usable places and features."""
        side = self.settings.crop_px
        motion = self._average(self.motion, number)
        face = np.zeros((side, side, 3), np.float32)
        areas = np.zeros((GRID_PX, GRID_PX, 2), np.float32)
        for chosen, weight in sorted(weights.items()):
            frame = self.source.source_frames[chosen]
            places = self._places(self.landmarks[number], motion, frame)
            full = blending.enlarge(places - _GRID, side) * side + _pixels(side)
            warped = cv2.remap(frame.crop, full, _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            # uint8 [0, 255] -> float32 [0, 1]
            face += np.float32(weight / 255) * warped
            areas += weight * _sample(np.dstack([frame.usable, frame.features]), places)
        return face, areas[..., 0], areas[..., 1]

    def _places(self, landmarks: Floats, motion: Floats, frame: SourceFrame) -> Floats:
        """Where in the source crop each grid place of the target crop is seen: float32 (GRID_PX, GRID_PX, 2)."""
        still, source_still = self.source.target_neutral.landmarks, self.source.source_neutral.landmarks
        shape = _shape_offset(still, source_still)
        places = _GRID + motion
        places = places + displacement(still, still + shape, places)
        places = places + _sample(frame.motion, places)
        # Where flow lost a quick movement of the head, the landmarks still have it.
        missed = still + shape + (frame.landmarks - source_still) - _at(places, landmarks)
        return places + displacement(landmarks, landmarks + LANDMARK_SHARE * missed, _GRID)

    def _grain(self, number: int, face: Floats, random: np.random.Generator) -> Floats:
        """Noise that the target's skin has and the warped source's has not: float32 (S, S, 1), RGB in [0, 1]."""
        # uint8 [0, 255] -> float32 [0, 1]
        crop = self.target.crops[number].astype(np.float32) / 255
        landmarks, side = self.landmarks[number], self.settings.crop_px
        lacking = blending.grain(crop, landmarks) ** 2 - blending.grain(face, landmarks) ** 2
        noise = cv2.GaussianBlur(random.standard_normal((side, side), np.float32), (0, 0), GRAIN_PX)
        level = min(max(lacking, 0.0) ** 0.5 / float(noise.std()), LARGEST_GRAIN)
        return np.asarray(level * noise[..., None], np.float32)

    def _kept(self, landmarks: Floats, time: int) -> Floats:
        """Where the target's own pixels stay because no source frame closes its eyes or opens its mouth so far."""
        blink = _ramp(float(self.source.missing_blink[time]), 0.35, 0.70)
        opening = _ramp(float(self.source.missing_opening[time]), 0.02, 0.04)
        kept = np.zeros((GRID_PX, GRID_PX), np.float32)
        if blink > 0:
            kept = np.maximum(kept, blink * blending.eye_areas(landmarks))
        if opening > 0:
            kept = np.maximum(kept, opening * blending.mouth_area(landmarks))
        return kept


_NO_MAP: Floats = np.zeros(0, np.float32)  # the map has both coordinates in one array
_CENTRES = (np.arange(GRID_PX, dtype=np.float32) + 0.5) / GRID_PX
_GRID: Floats = np.stack(np.meshgrid(_CENTRES, _CENTRES), -1)


def _shape_offset(still: Floats, source_still: Floats) -> Floats:
    """From the target's neutral landmarks to where the source's features are looked for: float32 (5, 2).

    The proportions are the source's identity and are mostly kept; the nose's sideways place is pose and is not.
    """
    offset = SHAPE_SHARE * (source_still - still)
    offset[2, 0] = source_still[2, 0] - still[2, 0]
    return np.asarray(offset, np.float32)


def _to_grid(flow: Floats) -> Floats:
    return np.asarray(cv2.resize(flow, (GRID_PX, GRID_PX), interpolation=cv2.INTER_AREA), np.float32)


def _pixels(side: int) -> Floats:
    return np.stack(np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32)), -1)


def _sample(image: Floats, places: Floats) -> Floats:
    """Bilinear values of an image (G, G, ...) at places given as shares of its side."""
    at = np.asarray(places * image.shape[0] - 0.5, np.float32)
    return np.asarray(cv2.remap(image, at, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _at(grid: Floats, points: Floats) -> Floats:
    """Bilinear values of a grid (G, G, 2) at points (5, 2)."""
    return np.asarray(_sample(grid, points[None])[0], np.float32)


def _ramp(value: float, low: float, high: float) -> float:
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return share * share * (3 - 2 * share)
