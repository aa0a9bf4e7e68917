"""Which frame of a reference each frame of a film shows: whether both are in step.

If the reference moves, its cells change from frame to frame, and a film of the same scene is nearest to the very
frame that it was made from. Only those cells are compared, at every offset of up to half a second.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from generation.quality.change import Cells
from tooling.stages.verify.meters.meter import DecodedFrame, Meter

REACH = 15  # frames: largest offset in either direction
GAP = 3  # frames over which a cell must change to count as moving
SMALLEST_CHANGE = 3  # levels that it must change by
FEWEST_CELLS, CELL_SHARE = 12, 1 / 36  # moving cells that a frame needs, share of all cells that is compared at most
WINDOW = 15  # frames that are judged together
FEWEST_FRAMES = 5  # of a window in which enough moves
# A window is out of step if another offset is nearer than none by this factor and by so many levels. Measured:
# in step the frame itself has 0.8 to 1.2 levels and the next one 1.0 to 4, in the most still windows 0.8 as well.
NEARER, NEARER_LEVELS = 1.4, 0.3


class Window(Meter):
    """The last 2 REACH + 1 frames of a reference in cells: a meter of the reference, shared by all that follow it."""

    def __init__(self) -> None:
        self._cells: deque[NDArray[np.int16]] = deque(maxlen=2 * REACH + 1)
        self.end = 0  # number of the frame that comes next

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes the next frame of the reference."""
        self.append(frame.cells)

    def append(self, cells: Cells) -> None:
        """Takes the next frame of a reference that is not decoded as such."""
        self._cells.append(cells.astype(np.int16))
        self.end += 1

    def at(self, number: int) -> NDArray[np.int16]:
        """A frame of the window, or the one nearest in time."""
        start = self.end - len(self._cells)
        return self._cells[min(max(number - start, 0), len(self._cells) - 1)]

    def between(self, first: int, last: int, indices: NDArray[np.intp]) -> tuple[int, NDArray[np.int16]]:
        """Some cells of a range of frames: number of the first frame, and levels (frames, cells)."""
        start = self.end - len(self._cells)
        first, last = max(first, start), min(last, self.end - 1)
        return first, np.stack([self._cells[number - start].ravel()[indices] for number in range(first, last + 1)])


class StepMeter:
    """Compares a film with the window of its reference; take a frame of both before `measure`."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._waiting: deque[tuple[int, Cells, NDArray[np.bool_]]] = deque()
        self._distances: list[NDArray[np.float32]] = []  # of one frame: (2 REACH + 1,), NaN where not measured

    def add(self, number: int, cells: Cells, is_compared: NDArray[np.bool_]) -> None:
        """Takes frame `number` of the film; it is measured as soon as the frames after it are known."""
        self._waiting.append((number, cells, is_compared))
        while self._waiting and self._waiting[0][0] + REACH < self._window.end:
            self._measure(*self._waiting.popleft())

    def finish(self) -> None:
        """Measures the last frames."""
        while self._waiting:
            self._measure(*self._waiting.popleft())

    def _measure(self, number: int, cells: Cells, is_compared: NDArray[np.bool_]) -> None:
        distances = np.full(2 * REACH + 1, np.nan, np.float32)
        self._distances.append(distances)
        if number >= self._window.end:
            return
        here = self._window.at(number)
        changes = np.maximum(np.abs(here - self._window.at(number - GAP)), np.abs(here - self._window.at(number + GAP)))
        changes[~is_compared] = 0
        indices = np.flatnonzero(changes >= SMALLEST_CHANGE)
        if len(indices) < FEWEST_CELLS:
            return
        most = max(round(changes.size * CELL_SHARE), FEWEST_CELLS)
        if len(indices) > most:
            indices = indices[np.argpartition(changes.ravel()[indices], -most)[-most:]]
        first, others = self._window.between(number - REACH, number + REACH, indices)
        away = (others - cells.ravel()[indices].astype(np.int16)).astype(np.float32)
        near = np.abs(away - away.mean(1, keepdims=True)).mean(1)  # a change of light is not motion
        distances[first - number + REACH : first - number + REACH + len(near)] = near

    @property
    def is_measured(self) -> bool:
        """Whether enough moved somewhere."""
        return any(True for _ in self._windows())

    def problem(self) -> str:
        """In words, by how many frames it is out of step and where; "" if it is in step."""
        wrong = [(first, last, offset) for first, last, offset, is_wrong in self._windows() if is_wrong]
        if not wrong:
            return ""
        offsets = [offset for *_, offset in wrong]
        offset = max(set(offsets), key=offsets.count)
        frames = abs(offset)
        direction = "ahead of" if offset > 0 else "behind"
        where = f"from frame {wrong[0][0]} to {wrong[-1][1]} it is"
        return f"{where} {frames} {'frame' if frames == 1 else 'frames'} {direction}"

    def _windows(self) -> Iterator[tuple[int, int, int, bool]]:
        """First and last frame, best offset and whether it is wrong, of each window in which enough moves."""
        table = np.array(self._distances).reshape(-1, 2 * REACH + 1)
        for first in range(0, len(table), WINDOW):
            rows = table[first : first + WINDOW]
            is_known = np.isfinite(rows[:, REACH])
            if is_known.sum() < min(FEWEST_FRAMES, len(table)):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # an offset beyond both ends has no value
                means = np.nanmean(rows[is_known], axis=0)
            best, own = int(np.nanargmin(means)), float(means[REACH])
            is_wrong = own > NEARER * float(means[best]) + NEARER_LEVELS
            yield first, first + len(rows) - 1, best - REACH, is_wrong
