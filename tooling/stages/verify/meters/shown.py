"""Excerpts that a report will play, taken while the file is decoded anyway."""

from __future__ import annotations

from generation.faces.track import FaceTrack
from tooling.stages.verify.meters.meter import DecodedFrame, Meter
from tooling.views.excerpts import Excerpt, keep_excerpt
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord


class ExcerptMeter(Meter):
    """Keeps one excerpt of a file in the workspace.

    Args:
        workspace: to keep it in.
        record: of the file.
        identity, track: see `tooling.views.excerpts.Excerpt`.
    """

    def __init__(self, workspace: Workspace, record: FileRecord, identity: str, track: FaceTrack | None) -> None:
        self._workspace, self._record, self._identity = workspace, record, identity
        self._excerpt, self._is_any = Excerpt(record, identity, track), False

    def wants(self, number: int) -> bool:
        """The frames that are shown."""
        return number in self._excerpt.numbers

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes one of them."""
        self._excerpt.add(frame.rgb)
        self._is_any = True

    def finish(self) -> None:
        """Writes the excerpt, unless the file has no frames."""
        if not self._is_any:
            return
        keep_excerpt(self._workspace, self._record, self._identity, self._excerpt)
