"""Measuring a fake while it is written, so that nothing broken is accepted silently.

The change is that of `generation.quality.change`, by which a file is verified too. The other numbers are means over the
replaced pixels of every second row and column, in 8-bit levels, of green where no colour is named.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Frame, Landmarks
from generation.crops.clip import PastedFrame
from generation.errors import RejectedOutputError
from generation.quality.change import ChangeMeter
from generation.quality.reach import ReachMeter

Levels = NDArray[np.int16]

STEP_PX = 2
SEEN_BESIDE = 8  # pixels of a plane that its blur and its gradients reach, and more
INSIDE = 0.5  # weight of the mask from which a pixel counts as replaced
EDGE = 0.2, 0.8  # weights between which it is at the mask's edge
RED_PERCENTILE, BRIGHT_PERCENTILE = 90, 99
CHANGE = "cell_change"  # name of the change among the results; records from before it was one have none


@dataclass(frozen=True)
class OutputLimits:
    """Limits that every fake must keep.

    Attributes:
        smallest_change: mean difference from the target; see `ChangeMeter`.
        smallest_mask: mean share of the picture that is replaced.
        largest_likeness: mean correlation of its gradients with the target's; above it the face is still the target's.
        largest_clipping: mean share of the replaced pixels that are black or white and were not in the target.
        largest_reddening: by how much red exceeds green, at its 90th percentile, more than in the target.
        largest_glow: by how much the 99th percentile exceeds the target's.
        largest_edge: mean difference from the target at the mask's edge, of the colour that differs most; hair or
            background that is pasted over skin is seen there.
        largest_away: mean share of what is replaced that lies farther from the head than hair reaches.
        smallest_motion: mean difference between successive frames, as a share of the target's.
        largest_flicker: mean second difference over time, as a multiple of the target's, beyond `flicker_allowance`.
        largest_flash: the same for the single worst frame, beyond `flash_allowance`.
        flicker_allowance: levels of flicker that grain and rounding may cause by themselves.
        flash_allowance: levels of the worst frame that a blink or an opening mouth may cause in a still target.
    """

    smallest_change: float = 1.2
    smallest_mask: float = 0.002
    largest_likeness: float = 1.0
    largest_clipping: float = 0.2
    largest_reddening: float = 255.0
    largest_glow: float = 255.0
    largest_edge: float = 255.0
    largest_away: float = 1.0
    smallest_motion: float = 0.25
    largest_flicker: float = 1.8
    largest_flash: float = 4.0
    flicker_allowance: float = 1.5
    flash_allowance: float = 1.5


def limits_of(family: str, factor: float | None = None) -> OutputLimits:
    """The limits of a family; an edit with factor 0 may change nothing.

    Args:
        family: one of `generation.generators.registry.Family`.
        factor: strength of an edit.
    """
    if factor == 0:
        return OutputLimits(smallest_change=0.0, smallest_mask=0.0)
    if family == "attribute_editing":
        return OutputLimits(smallest_change=0.6 * min(1.0, abs(factor or 1.0)), largest_away=0.05)
    if family == "face_swap":
        return OutputLimits(largest_likeness=0.97, largest_reddening=12.0, largest_glow=30.0, largest_edge=27.0)
    if family == "expression_driven":
        return OutputLimits(flash_allowance=4.0)
    return OutputLimits()


class OutputMeter:
    """Measures one fake, frame by frame; the last three are in memory.

    Args:
        limits: None takes the defaults.
        may_stay: bool (T,), frames that may stay as they are: those in which the target's face is not seen.
        landmarks: float32 (T, 5, 2) of the target, px; None does not measure what lies away from the head.
    """

    def __init__(
        self,
        limits: OutputLimits | None = None,
        may_stay: NDArray[np.bool_] | None = None,
        landmarks: Landmarks | None = None,
    ) -> None:
        self.limits = limits or OutputLimits()
        self.num_frames = 0
        self._may_stay = may_stay
        self._landmarks = landmarks
        self._num_outside = 0
        self._num_left = 0
        self._num_passed = 0
        self._shares: list[float] = []
        self._change = ChangeMeter()
        self._reach = ReachMeter()
        self._likenesses: list[float] = []
        self._clippings: list[float] = []
        self._tails: list[tuple[float, float]] = []
        self._edges: list[float] = []
        self._motions: list[tuple[float, float]] = []
        self._flickers: list[tuple[float, float]] = []
        self._recent: deque[PastedFrame] = deque(maxlen=3)

    def add(self, pasted: PastedFrame) -> None:
        """Takes the next frame."""
        self.num_frames += 1
        self._num_outside += _count_changed_outside(pasted)
        area = _Area.of(pasted)
        height, width = (-(-size // STEP_PX) for size in pasted.frame.shape[:2])
        self._shares.append(np.count_nonzero(area.inside) / (height * width))
        if not area.inside.any():
            is_allowed = self._may_stay is not None and bool(
                self._may_stay[self.num_frames - 1 : self.num_frames].any()
            )
            self._num_passed += is_allowed
            self._num_left += not is_allowed
            self._recent.clear()
            return
        mask = self._change.add_pasted(pasted)
        if self._landmarks is not None and self.num_frames <= len(self._landmarks):
            self._reach.add(mask, self._landmarks[self.num_frames - 1])
        self._likenesses.append(_likeness(pasted, area))
        before, after = (area.green(image) for image in (pasted.original, pasted.frame))
        clipped = ((after <= 0) | (after >= 255)) & (before > 0) & (before < 255)
        self._clippings.append(float(clipped.sum() / before.size))
        self._add_colours(pasted)
        self._recent.append(pasted)
        recent = list(self._recent)
        if len(recent) >= 2:
            old = recent[-2]
            moved = (_mean(before - area.green(old.original)), _mean(after - area.green(old.frame)))
            self._motions.append(moved)
        if len(recent) == 3:
            middle = _Area.of(recent[1])
            pairs = ([middle.green(one.original) for one in recent], [middle.green(one.frame) for one in recent])
            flicker, own = (_mean(2 * b - a - c) / 2 for a, b, c in pairs)
            self._flickers.append((flicker, own))

    def _add_colours(self, pasted: PastedFrame) -> None:
        thin = slice(None, None, STEP_PX), slice(None, None, STEP_PX)
        before, after = (image[pasted.region][thin] for image in (pasted.original, pasted.frame))
        mask = pasted.mask[thin]
        inside, edge = mask > INSIDE, (mask > EDGE[0]) & (mask < EDGE[1])
        if inside.any():
            (red, bright), (old_red, old_bright) = (_tails(image[inside].astype(np.int16)) for image in (after, before))
            self._tails.append((red - old_red, bright - old_bright))
        if edge.any():
            self._edges.append(float(cv2.absdiff(after[edge], before[edge]).max(1).mean()))

    def results(self) -> dict[str, float]:
        """The measurements so far, rounded."""
        motions, flickers = (np.array(pairs or [(0.0, 0.0)]) for pairs in (self._motions, self._flickers))
        values = {
            "mask_share": float(np.mean(self._shares or [0.0])),
            CHANGE: self._change.mean or 0.0,
            "likeness": float(np.mean(self._likenesses or [0.0])),
            "clipping": float(np.mean(self._clippings or [0.0])),
            "reddening": float(np.mean([red for red, _ in self._tails] or [0.0])),
            "glow": float(np.mean([bright for _, bright in self._tails] or [0.0])),
            "edge": float(np.mean(self._edges or [0.0])),
            "away": self._reach.mean,
            "frames_passed_through": float(self._num_passed),
            "target_motion": float(motions[:, 0].mean()),
            "motion": float(motions[:, 1].mean()),
            "target_flicker": float(flickers[:, 0].mean()),
            "flicker": float(flickers[:, 1].mean()),
            "target_flash": float(flickers[:, 0].max()),
            "flash": float(flickers[:, 1].max()),
        }
        return {name: round(value, 4) for name, value in values.items()}

    def raise_if_rejected(self, name: str, num_frames: int) -> None:
        """Compares the measurements with the limits.

        Args:
            name: of the fake, for the message.
            num_frames: of its target.

        Raises:
            RejectedOutputError: names the limit that is broken, with the numbers.
        """
        reason = self._reason(num_frames)
        if reason:
            raise RejectedOutputError(f"{name}: rejected, {reason}")

    def _reason(self, num_frames: int) -> str:
        limits, got = self.limits, self.results()
        flicker = limits.largest_flicker * got["target_flicker"] + limits.flicker_allowance
        flash = limits.largest_flash * got["target_flash"] + limits.flash_allowance
        failed = (
            (self.num_frames != num_frames, f"it has {self.num_frames} frames and its target {num_frames}"),
            (self._num_outside > 0, f"{self._num_outside} pixels outside the mask changed"),
            (self._num_left > 0 and limits.smallest_mask > 0, f"{self._num_left} frames were left as they are"),
            (got["mask_share"] < limits.smallest_mask, f"only {got['mask_share']:.2%} of the picture is replaced"),
            (got[CHANGE] < limits.smallest_change, f"it differs from its target by {got[CHANGE]:.2f} levels only"),
            (got["likeness"] > limits.largest_likeness, f"the face is still the target's ({got['likeness']:.3f})"),
            (got["clipping"] > limits.largest_clipping, f"{got['clipping']:.0%} of it is clipped to black or white"),
            (got["reddening"] > limits.largest_reddening, f"it is reddened by {got['reddening']:.1f} levels"),
            (got["glow"] > limits.largest_glow, f"it glows, {got['glow']:.1f} levels above its target"),
            (
                got["edge"] > limits.largest_edge,
                f"its edge differs from the target by {got['edge']:.1f} levels; hair or background is pasted",
            ),
            (got["away"] > limits.largest_away, f"{got['away']:.0%} of what is replaced lies away from the head"),
            (
                got["motion"] < limits.smallest_motion * got["target_motion"],
                f"it is frozen ({got['motion']:.2f} levels)",
            ),
            (got["flicker"] > flicker, f"it flickers ({got['flicker']:.2f} levels, at most {flicker:.2f})"),
            (got["flash"] > flash, f"a frame flashes ({got['flash']:.2f} levels, at most {flash:.2f})"),
        )
        return next((reason for is_failed, reason in failed if is_failed), "")


@dataclass(frozen=True)
class _Area:
    """The replaced pixels of a frame, of every second row and column.

    Attributes:
        rows, columns: of those pixels of the frame that the region of the mask has.
        inside: bool, of their shape, which of them are replaced.
    """

    rows: slice
    columns: slice
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, pasted: PastedFrame) -> Self:
        first = [one.start % STEP_PX for one in pasted.region]
        rows, columns = (
            slice(one.start + skipped, one.stop, STEP_PX) for one, skipped in zip(pasted.region, first, strict=True)
        )
        return cls(rows, columns, pasted.mask[first[0] :: STEP_PX, first[1] :: STEP_PX] > INSIDE)

    def green(self, image: Frame) -> Levels:
        """Of the replaced pixels: (N,)."""
        return image[self.rows, self.columns, 1][self.inside].astype(np.int16)


def _likeness(pasted: PastedFrame, area: _Area) -> float:
    """Correlation of the gradients of a frame before and after, in green; 1 for a picture and itself in any light."""
    # With what the blur and the gradients of the area reach.
    top, left = (max(one.start - SEEN_BESIDE * STEP_PX, 0) for one in (area.rows, area.columns))
    bottom, right = (one.stop + SEEN_BESIDE * STEP_PX for one in (area.rows, area.columns))
    row, column = (area.rows.start - top) // STEP_PX, (area.columns.start - left) // STEP_PX
    height, width = area.inside.shape
    pairs = []
    for image in (pasted.original, pasted.frame):
        plane = image[top:bottom:STEP_PX, left:right:STEP_PX, 1].astype(np.float32)
        slopes = np.gradient(cv2.GaussianBlur(plane, (0, 0), 1.0))
        inner = [slope[row : row + height, column : column + width][area.inside] for slope in slopes]
        pairs.append(np.concatenate(inner))
    spread = float(np.linalg.norm(pairs[0]) * np.linalg.norm(pairs[1]))
    return float(pairs[0] @ pairs[1]) / spread if spread > 0 else 0.0


def _tails(colours: NDArray[np.int16]) -> tuple[float, float]:
    """Of colours (N, 3): red less green at its high percentile, and green at its highest."""
    red = np.percentile(colours[:, 0] - colours[:, 1], RED_PERCENTILE)
    return float(red), float(np.percentile(colours[:, 1], BRIGHT_PERCENTILE))


def _count_changed_outside(pasted: PastedFrame) -> int:
    frame, original, (rows, columns) = pasted.frame, pasted.original, pasted.region
    # Where the mask allows no change: around the region, and in it.
    strips = (
        (slice(0, rows.start), slice(None)),
        (slice(rows.stop, None), slice(None)),
        (rows, slice(0, columns.start)),
        (rows, slice(columns.stop, None)),
    )
    count = sum(_num_changed(frame[strip], original[strip]) for strip in strips)
    if not pasted.mask.size:
        return count
    red, green, blue = cv2.split(np.asarray(cv2.absdiff(frame[pasted.region], original[pasted.region]), np.uint8))
    differs = cv2.bitwise_or(cv2.bitwise_or(red, green), blue)
    return count + int(np.count_nonzero(differs[pasted.mask <= 0]))


def _num_changed(first: Frame, second: Frame) -> int:
    """Number of pixels that differ."""
    if not first.size or cv2.norm(first, second, cv2.NORM_INF) == 0:
        return 0
    return int((first != second).any(2).sum())


def _mean(differences: Levels) -> float:
    return float(np.abs(differences).mean())
