"""Expression driving and face swap with Wan-Animate: a still of one person, the motion of another.

Cheng et al. 2025, "Wan-Animate: Unified Character Animation and Replacement with Holistic Replication". "animate"
moves the target's still with the source's motion; "replace" paints the source's person over the target's.

The network is given what its preprocessing would make, as far as five landmarks and the crops allow: a skeleton of
the head in OpenPose's colours, the face itself, and a mask. Clips are made in segments of 4 k + 1 frames, each going
on from the last frames of the one before, so that memory does not grow with the clip's length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.crops.align import (
    AlignedFaces,
    Batching,
    align,
    aligned_batches,
    similarity,
    smooth_landmarks,
    transform,
)
from generation.crops.clip import FaceClip
from generation.crops.templates import TEMPLATES
from generation.errors import GenerationError
from generation.generators.base import CropsOutput, PairPipeline, frame_generator
from generation.generators.diffusers.wrapping import WrappedPipeline, as_pil, border_fade, resized

Frames = NDArray[np.uint8]

# OpenPose's limbs of the head, from and to as places in `_joints`, and their colours.
LIMBS = (
    (0, 1, (0, 0, 255)),  # neck to nose
    (1, 2, (85, 0, 255)),  # nose to the person's right eye, left in the picture
    (2, 4, (170, 0, 255)),  # and on to the ear
    (1, 3, (255, 0, 255)),
    (3, 5, (255, 0, 170)),
)
JOINT_COLOURS = ((255, 85, 0), (255, 0, 0), (255, 0, 255), (255, 0, 170), (170, 0, 255), (255, 0, 85))
GREY = 128  # of places that are left to the network: zero after normalisation, to half a level
HEAD_BROW_HEIGHT = 0.9  # above the eyes, in distances from eyes to mouth: the replaced area takes in the forehead
HEAD_GROWTH = 1.25


@dataclass
class PreparedMotion:
    """A pair of clips on the way through the network; segments must be requested in order.

    Attributes:
        still: RGB uint8 (S, S, 3), the person who is seen.
        driving: crops and landmarks (S px) of the source, frame by frame; None where the target itself drives.
        last: RGB uint8 (P, S, S, 3), the last frames of the segment before.
        next_start: number of the frame that comes next.
    """

    still: Frame
    driving: Iterator[tuple[Frame, Floats]] | None
    last: Frames | None = field(default=None)
    next_start: int = 0


class DiffusersAnimate(WrappedPipeline, PairPipeline):
    """Animation by Wan-Animate; its segments are settings of the method, so they fix the batch size."""

    @property
    def batching(self) -> Batching:
        """One segment at a time, less the frames that it shares with the one before."""
        entry = self.entry
        return Batching(entry.size_px, entry.segment_frames - entry.previous_frames, template=entry.template)

    def prepare(self, target: FaceClip, source: FaceClip) -> PreparedMotion:
        """Chooses the still: the frame whose landmarks are nearest to a frontal face.

        Raises:
            FaceError, VideoError: a clip cannot be read, or does not fit its track.
        """
        batching = self.batching
        if self.entry.mode == "replace":
            return PreparedMotion(_most_frontal(source, batching), None)
        return PreparedMotion(_most_frontal(target, batching), _driving_crops(source, self._small(batching)))

    def _small(self, batching: Batching) -> Batching:
        """The driving clip is needed crop by crop."""
        return Batching(batching.crop_px, 4, template=batching.template)

    def replace(self, faces: AlignedFaces, prepared: PreparedMotion, *, seed: int = 0) -> CropsOutput:
        """Makes one segment.

        Raises:
            GenerationError: the segments come in another order than the clip's; see also `WrappedPipeline.call`.
        """
        if faces.start != prepared.next_start:
            raise GenerationError(f"frame {faces.start} comes after {prepared.next_start - 1}; start the clip again")
        crops, landmarks = faces.crops[faces.requested], faces.landmarks[faces.requested]
        masks = np.stack([self._mask(points) for points in landmarks])
        moves, poses = crops, landmarks
        if prepared.driving is not None:
            drawn = [next(prepared.driving) for _ in crops]
            moves, poses = (np.stack(part) for part in zip(*drawn, strict=True))
        number = frame_generator(seed, faces.start).initial_seed()
        made = self._segment(_Segment(crops, moves, poses, masks), prepared, number)
        prepared.last = made[-self.entry.previous_frames :]
        prepared.next_start = faces.start + len(crops)
        return CropsOutput(made, masks)

    def _mask(self, landmarks: Floats) -> Floats:
        side = self.entry.size_px
        outline = blending.face_outline(landmarks / np.float32(side), HEAD_BROW_HEIGHT, shrink=HEAD_GROWTH)
        return np.asarray(blending.enlarge(outline, side) * border_fade(side, 0.05), np.float32)

    def _segment(self, segment: _Segment, prepared: PreparedMotion, seed: int) -> Frames:
        """The frames of one segment, RGB uint8 (T, S, S, 3), after those that it goes on from."""
        entry = self.entry
        before = 0 if prepared.last is None else entry.previous_frames
        requested = len(segment.crops)
        shortest = max(before + requested, 2 * entry.previous_frames + 1)
        num_frames = shortest + (1 - shortest) % 4  # of a last segment fewer than of the others
        # What comes before the first new frame and after the last repeats its neighbour.
        order = np.clip(np.arange(num_frames) - before, 0, requested - 1)
        face_px = self.inner.transformer.config.motion_encoder_size
        arguments: dict[str, Any] = {
            "image": as_pil(prepared.still),
            "pose_video": [as_pil(draw_skeleton(segment.poses[at], entry.size_px)) for at in order],
            "face_video": [as_pil(resized(_face_of(segment.moves[at], segment.poses[at]), face_px)) for at in order],
            "segment_frame_length": num_frames,
            "prev_segment_conditioning_frames": entry.previous_frames,
            "mode": "animate",
        }
        if entry.mode == "replace" or before:
            # Frames to go on from are background that is kept: just what the pipeline does inside one call.
            arguments |= self._background(segment, order, prepared.last)
        made = self.call(entry.prompt, seed, **arguments)
        return np.stack([resized(frame, entry.size_px) for frame in made[before : before + requested]])

    def _background(self, segment: _Segment, order: NDArray[np.intp], last: Frames | None) -> dict[str, Any]:
        """Background and mask, white where the network paints."""
        if self.entry.mode == "replace":
            background = list(segment.crops[order])
            masks = [((mask > 0) * 255).astype(np.uint8) for mask in segment.masks[order]]
        else:
            background = [np.full_like(segment.crops[0], GREY)] * len(order)
            masks = [np.full(segment.crops.shape[1:3], 255, np.uint8)] * len(order)
        if last is not None:
            background[: len(last)] = list(last)
            masks[: len(last)] = [np.zeros_like(masks[0])] * len(last)
        return {
            "background_video": [as_pil(frame) for frame in background],
            "mask_video": [as_pil(mask) for mask in masks],
            "mode": "replace",
        }


@dataclass(frozen=True)
class _Segment:
    """Crops of the target, crops and landmarks of who drives, and the places to replace; T of each, S px."""

    crops: Frames
    moves: Frames
    poses: Floats
    masks: Floats


def draw_skeleton(landmarks: Floats, side_px: int) -> Frame:
    """A head of OpenPose's skeleton on black, RGB uint8 (S, S, 3), from five landmarks; ears and neck are guessed."""
    joints = _joints(landmarks)
    drawn = np.zeros((side_px, side_px, 3), np.uint8)
    width = max(round(side_px / 128), 1)
    whole = np.rint(joints * 16).astype(int)
    for start, end, colour in LIMBS:
        dim = tuple(round(0.6 * value) for value in colour)
        cv2.line(drawn, whole[start].tolist(), whole[end].tolist(), dim, 2 * width, cv2.LINE_AA, 4)
    for joint, colour in zip(whole, JOINT_COLOURS, strict=True):
        cv2.circle(drawn, joint.tolist(), 16 * width, colour, -1, cv2.LINE_AA, 4)
    return drawn


def _joints(landmarks: Floats) -> Floats:
    """Neck, nose, eyes and ears: float32 (6, 2)."""
    left, right, nose = landmarks[:3]
    down = landmarks[3:].mean(0) - (left + right) / 2
    ears = [eye + 0.9 * (eye - nose) * [1, 0] + 0.25 * down for eye in (left, right)]
    return np.array([nose + 2.2 * down, nose, left, right, *ears], np.float32)


def _face_of(crop: Frame, landmarks: Floats) -> Frame:
    """The face alone, as the motion encoder expects it: a square from above the brows to below the chin."""
    return align(crop, landmarks, len(crop))[0]


def _most_frontal(clip: FaceClip, batching: Batching) -> Frame:
    smoothed = smooth_landmarks(clip.landmarks)
    requested = TEMPLATES[batching.template] * batching.crop_px
    fits = [np.square(transform(similarity(points, requested), points) - requested).sum() for points in smoothed]
    best = int(np.argmin(fits))
    for number, frame in enumerate(clip.frames()):
        if number == best:
            return align(frame, smoothed[number], batching.crop_px, batching.template)[0]
    raise GenerationError(f"{clip.name}: has fewer frames than its track; delete its track and run `tooling faces`")


def _driving_crops(clip: FaceClip, batching: Batching) -> Iterator[tuple[Frame, Floats]]:
    """Crops and landmarks of the driving clip; one that is shorter than the target begins again."""
    while True:
        for faces in aligned_batches(clip, batching):
            yield from zip(faces.crops, faces.landmarks, strict=True)
