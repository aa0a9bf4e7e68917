"""Statistics of plain pixels that the audit tests, taken while the file is decoded anyway."""

from __future__ import annotations

from generation.quality.traces import Traces, mean_traces, measure_frame, measured_frames
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.meter import DecodedFrame, Meter


class TracesMeter(Meter):
    """Measures a few frames of a file by `generation.quality.traces`."""

    def __init__(self, check: FileCheck, num_frames: int) -> None:
        self.check = check
        self._numbers = set(measured_frames(num_frames))
        self._found: list[Traces] = []

    def wants(self, number: int) -> bool:
        """The frames that the audit would decode."""
        return number in self._numbers

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes one of them."""
        self._found.append(measure_frame(frame.rgb))

    def finish(self) -> None:
        """Leaves the means."""
        self.check.traces = mean_traces(self._found)
