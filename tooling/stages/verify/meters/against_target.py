"""A fake beside its target's clip: equal outside of its mask, different inside, and in step.

Frames are compared in cells of 8 x 8 px, whose means the encoder hardly changes. Measured on 14 fakes of six
rendered people at 720p: outside of the mask a cell differs by at most 1.7 levels on average over time and 4 in a single
frame (3.0 and 5 where the fake was made from the encoded clip, not from its master), all cells together by 0.04 to 0.12
(0.9 to 1.5); inside, fakes differ by 4.9 to 70 levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.faces.track import FaceTrack
from generation.quality.change import CELL_PX, Cells, ChangeMeter, Luma, cells_of
from generation.quality.output import CHANGE, limits_of
from generation.quality.reach import ReachMeter
from homologous_deepfake import SUBSETS
from tooling.stages.verify.file_check import FileCheck, is_imported
from tooling.stages.verify.meters.in_step import StepMeter, Window
from tooling.stages.verify.meters.masks import MaskMeter
from tooling.stages.verify.meters.meter import DecodedFrame, Meter
from tooling.workspace.records import FileRecord

NOSE = 2  # of the landmarks
# Without masks: this much around the face's box is left out, in its widths and heights: hair and a hand's breadth.
BOX_REACH = (1.1, 1.2)


@dataclass(frozen=True)
class TargetLimits:
    """Limits of a fake, in levels of luma.

    Attributes:
        largest_cell: mean over time of a cell outside of the mask.
        largest_cell_of_frame: of a cell in a single frame.
        fewest_cells: cells beyond these limits that count as a difference.
        far: mean outside of the mask from which the picture is not the target's at all.
        share_of_limit: of the smallest change that `generate` accepts, by the same measure; what encoding may take,
        share_of_change: and of the change that was measured when the fake was made.
        smallest_change: of fakes of which none was, in multiples of the mean outside of the mask.
        more_away: of the largest share away from the head that `generate` accepts; as above, for rounding.
        smallest_cover: share of the frames with a face in which the mask lies on the nose; hair is another matter.
    """

    largest_cell: float = 5.0
    largest_cell_of_frame: float = 10.0
    fewest_cells: int = 2
    far: float = 6.0
    share_of_limit: float = 0.8
    share_of_change: float = 0.6
    smallest_change: float = 1.6
    more_away: float = 1.2
    smallest_cover: float = 0.8


@dataclass
class TargetMeter(Meter):
    """Compares a fake with its target's clip, outside and inside of its masks.

    Attributes:
        record, check: of the fake.
        target: name of the target's clip, for messages.
        window: of the target's clip in cells.
        track: of the target's face; None if there is none.
        mask: of the fake, which has added each frame before; None leaves out the head's box instead.
        limits: of the fake.
    """

    record: FileRecord
    check: FileCheck
    target: str
    window: Window
    track: FaceTrack | None
    mask: MaskMeter | None = None
    limits: TargetLimits = field(default_factory=TargetLimits)

    def __post_init__(self) -> None:
        self._steps = StepMeter(self.window)
        self._is_ended = False  # there is no mask any more, which is a finding
        self._sums: NDArray[np.float64] | None = None
        self._counts = np.zeros(0)
        self._worst: tuple[float, int, tuple[int, int]] = (0.0, 0, (0, 0))  # levels, frame, row and column
        self._num_worst = 0
        self._change = ChangeMeter()
        self._reach = ReachMeter()
        self._num_faces, self._num_covered = 0, 0

    def wants(self, number: int) -> bool:
        """Every frame, as long as its mask goes."""
        return not self._is_ended

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes a frame of the fake and of its target."""
        if clip is None or clip.luma.shape != frame.luma.shape:  # another size is a finding already
            return
        picture = self.mask.picture if self.mask else None
        self._is_ended = self.mask is not None and picture is None
        if not self._is_ended:
            self._compare(frame.number, frame.cells, clip.cells, picture)

    def _compare(self, number: int, cells: Cells, target: Cells, mask: Luma | None) -> None:
        soft = self._box(number, cells.shape) if mask is None else cells_of(mask)
        # A cell more on all sides: the encoder's blocks carry what is inside a little outwards.
        is_kept = cv2.dilate((soft > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
        if self._sums is None:
            self._sums, self._counts = np.zeros(cells.shape), np.zeros(cells.shape)
        difference = cv2.absdiff(cells, target)
        outside = np.where(is_kept, difference, 0)
        self._sums += outside
        self._counts += is_kept
        self._note_worst(number, outside)
        self._change.add(cells, target, soft)
        if mask is not None:
            self._note_place(number, mask, soft)
        self._steps.add(number, cells, is_kept)

    def finish(self) -> None:
        """Leaves the findings."""
        if self._sums is None or self._is_ended:
            return
        self._steps.finish()
        is_exact = not is_imported(self.record)
        outside = float(self._sums.sum() / max(self._counts.sum(), 1))
        self.check.is_far = outside > self.limits.far
        step = self._steps.problem()
        if self.check.is_far:
            self.check.error(
                "content", f"its background is not that of {self.target} ({outside:.1f} levels from it); make it again"
            )
        elif step:
            self.check.error("content", f"is out of step: {step} {self.target}; make it again")
        else:
            problem = self._background_problem()
            if problem:
                (self.check.error if is_exact else self.check.note)("content", problem)
        if not self._steps.is_measured:
            self.check.unmeasured.append("step")
        if is_exact:
            self._check_inside(outside)

    def _note_worst(self, number: int, outside: Cells) -> None:
        is_beyond = outside > self.limits.largest_cell_of_frame
        if not is_beyond.any() or is_beyond.sum() < self.limits.fewest_cells:
            return
        self._num_worst += 1
        row, column = (int(part) for part in np.unravel_index(int(outside.argmax()), outside.shape))
        self._worst = max(self._worst, (float(outside[row, column]), number, (row, column)))

    def _note_place(self, number: int, mask: Luma, soft: Cells) -> None:
        if self.track is None or number >= len(self.track) or not self.track.is_detected[number]:
            return
        self._reach.add(soft, self.track.landmarks[number])
        column, row = (int(value) for value in self.track.landmarks[number, NOSE])
        if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
            self._num_faces += 1
            self._num_covered += int(mask[row, column] > 0)

    def _background_problem(self) -> str:
        assert self._sums is not None
        means = self._sums / np.maximum(self._counts, 1)
        if (means > self.limits.largest_cell).sum() >= self.limits.fewest_cells:
            row, column = (int(part) for part in np.unravel_index(int(means.argmax()), means.shape))
            return f"{self._differs(row, column)} by {means.max():.1f} levels on average; make it again"
        levels, number, (row, column) = self._worst
        if self._num_worst:
            return f"{self._differs(row, column)} by {levels:.0f} levels in frame {number}; make it again"
        return ""

    def _differs(self, row: int, column: int) -> str:
        x, y = column * CELL_PX + CELL_PX // 2, row * CELL_PX + CELL_PX // 2
        return f"its background differs from {self.target} outside of the mask, near ({x}, {y}),"

    def _check_inside(self, outside: float) -> None:
        subset = SUBSETS[self.record.subset]
        factor = self.record.parameters.get("factor")
        if factor == 0 or not self.record.companions:
            return
        inside = self._change.mean
        if inside is None:
            return
        limits = limits_of(subset.method, factor)
        required = limits.smallest_change * self.limits.share_of_limit
        when_made = self.record.results.get(CHANGE)
        if when_made is None:  # from before it was recorded
            required = max(required, self.limits.smallest_change * outside)
        else:
            required = max(required, self.limits.share_of_change * when_made)
        if not self.check.is_far and inside < required:
            self.check.error(
                "content",
                f"does not differ from {self.target} inside of its mask ({inside:.1f} levels, {outside:.1f} outside); "
                "make it again",
            )
        if self._reach.mean > self.limits.more_away * limits.largest_away:
            self.check.error(
                "content",
                f"{self._reach.mean:.0%} of what its mask replaces lies away from the head of {self.target}; "
                "make it again",
            )
        is_hair = self.record.parameters.get("attribute") == "hair"
        if not is_hair and self._num_faces and self._num_covered < self.limits.smallest_cover * self._num_faces:
            self.check.error(
                "content",
                f"its mask lies on the face in {self._num_covered} of {self._num_faces} frames only; it is not a "
                f"{subset.method.replace('_', ' ')} of {self.target}; make it again",
            )

    def _box(self, number: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Cells of the head, by the track; all of them without a track."""
        soft = np.full(shape, 0 if self.track else 255, np.uint8)
        if self.track is not None and number < len(self.track):
            x0, y0, x1, y1 = self.track.boxes[number]
            wide, high = BOX_REACH[0] * (x1 - x0), BOX_REACH[1] * (y1 - y0)
            columns = slice(max(int((x0 - wide) / CELL_PX), 0), max(int((x1 + wide) / CELL_PX) + 1, 0))
            rows = slice(max(int((y0 - high) / CELL_PX), 0), max(int((y1 + high) / CELL_PX) + 1, 0))
            soft[rows, columns] = 1  # left out, although it need not be replaced
        return soft
