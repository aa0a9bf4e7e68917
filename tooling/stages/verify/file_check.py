"""What the check of one file leaves, and what decides how a file is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from homologous_deepfake import CROSSING, SUBSETS, fold_of_image, people_of, split_of
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Plan
from tooling.workspace.records import FileRecord
from tooling.workspace.verification_file import Finding, Kind

if TYPE_CHECKING:
    from generation.media.contract import VideoContract


@dataclass
class FileCheck:
    """What the check of one file found by itself; kept in verification.parquet, so JSON values only.

    Attributes:
        path: of the file.
        findings: about it and its companions, found without looking at other people's files.
        measurements: face_px, sharpness, brightness, source_distance, target_distance, person_distance; those that were
            measured.
        content: hex digest of what it shows, frame by frame; "" if it does not decode.
        descriptors: `descriptors.pack` of a few of its frames.
        mean_picture: mean of its frames as text, of an image the image itself.
        face: mean of its aligned face as text, see `views`; "" without a track.
        views: a few of its frames as text, see `views`; "" for images.
        identity: embedding of its face, as `recognition` keeps it; "" if it was not measured.
        mouth: how far the mouth is open, frame by frame, as `mouths` keeps it; "" if it is not needed.
        is_other_settings: whether the encoder's settings differ from this tooling's.
        unmeasured: what could not be measured: "faces" (too small), "step" (nothing moves).
        traces: what `generation.quality.traces` measured; the audit needs not decode the file again.
        is_far: whether it differs from its target all over, so that it may be another target's.
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    measurements: dict[str, float] = field(default_factory=dict)
    content: str = ""
    descriptors: str = ""
    mean_picture: str = ""
    face: str = ""
    views: str = ""
    identity: str = ""
    mouth: str = ""
    is_other_settings: bool = False
    unmeasured: list[str] = field(default_factory=list)
    is_far: bool = False
    traces: dict[str, dict[str, float]] = field(default_factory=dict)

    def error(self, kind: Kind, message: str, path: str = "") -> None:
        """Keeps an error of this file, or of a companion."""
        self.findings.append(Finding("error", kind, path or self.path, message))

    def note(self, kind: Kind, message: str) -> None:
        """Keeps a note of this file."""
        self.findings.append(Finding("note", kind, self.path, message))

    @property
    def is_ok(self) -> bool:
        """Whether there is no error."""
        return all(finding.severity != "error" for finding in self.findings)


def contract_of(workspace: Workspace, subset: str) -> VideoContract | None:
    """What the videos of a subset must be; None for images."""
    from generation.media.contract import VideoContract  # FFmpeg, which a run with nothing to do need not load

    if SUBSETS[subset].media == "image":
        return None
    return VideoContract(*workspace.settings.video_shape(subset))


def is_image(record: FileRecord) -> bool:
    """Whether it is a still."""
    return SUBSETS[record.subset].media == "image"


def is_imported(record: FileRecord) -> bool:
    """Whether its pixels were made elsewhere, so that neither encoder nor generator are this tooling's."""
    return record.origin != "made"


def split_of_file(record: FileRecord, plan: Plan) -> str:
    """The split that a file is loaded in; CROSSING if its people lie in different folds, "" without a fold."""
    if is_image(record):
        return split_of(fold_of_image(record.sample_id, record.parameters))
    folds = {plan.folds.get(person) for person in people_of(record.sample_id)}
    if len(folds) > 1:
        return CROSSING
    return "" if folds == {None} else split_of(folds.pop())
