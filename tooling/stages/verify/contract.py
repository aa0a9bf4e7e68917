"""What a file of a subset must be, what is found wrong, and the facts that a check of one file leaves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import homologous_deepfake as definition
from homologous_deepfake import CROSSING, SUBSETS
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Plan
from tooling.workspace.records import FileRecord

CHECK_VERSION = 2  # counts up when a check changes, so that files are looked at again

Severity = Literal["error", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or worth knowing (note), and where."""

    severity: Severity
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.place}: {self.message}"


@dataclass(frozen=True)
class Contract:
    """What a file of a subset must be; None where the subset does not fix it."""

    size: tuple[int, int] | None
    num_frames: int
    fps: int | None


@dataclass
class FileFacts:
    """What was found of one file; written to verification.parquet, so JSON values only.

    Attributes:
        path: of the file.
        findings: (severity, place, message) of its own, found without looking at other people's files.
        measurements: face_px, sharpness, brightness, source_similarity, target_similarity; those that were measured.
        content: hex digest of what it shows, frame by frame; empty where it does not decode.
        looks: `looks.pack` of a few of its frames.
        backdrop: `looks.pack_backdrop` of its mean picture; empty for images.
        mouth: how far the mouth is open, frame by frame, as `motion` keeps it; empty where that is not needed.
        is_other_settings: whether the encoder was set otherwise than this tooling's.
        unmeasured: what could not be measured: "faces" (too small), "step" (nothing moves).
        is_far: whether it is far from its target all over, so that it may be another one's.
    """

    path: str
    findings: list[tuple[Severity, str, str]] = field(default_factory=list)
    measurements: dict[str, float] = field(default_factory=dict)
    content: str = ""
    looks: str = ""
    backdrop: str = ""
    mouth: str = ""
    is_other_settings: bool = False
    unmeasured: list[str] = field(default_factory=list)
    is_far: bool = False

    def error(self, message: str, place: str = "") -> None:
        """Keeps an error of this file, or of a file beside it."""
        self.findings.append(("error", place or self.path, message))

    def note(self, message: str) -> None:
        """Keeps a note of this file."""
        self.findings.append(("note", self.path, message))

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong with it by itself."""
        return all(severity != "error" for severity, _, _ in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FileFacts:
        """The reverse of `to_json`.

        Raises:
            TypeError, ValueError: other fields.
        """
        found = cls(**values)
        found.findings = [(severity, place, message) for severity, place, message in found.findings]
        return found


def contract_of(workspace: Workspace, subset: str) -> Contract:
    """What the files of a subset must be."""
    clip = workspace.settings.clip
    if SUBSETS[subset].media == "image":
        return Contract(None, 1, None)
    side = workspace.settings.faces.size_px
    size = (side, side) if subset == "face_video" else (clip.width_px, clip.height_px)
    return Contract(size, clip.num_frames, clip.fps)


def subset_of(record: FileRecord) -> str:
    """The subset that a record is of."""
    return record.subset


def is_image(record: FileRecord) -> bool:
    """Whether it is a still."""
    return SUBSETS[subset_of(record)].media == "image"


def people_of(record: FileRecord) -> list[str]:
    """Identities in a file: [target, source], [identity], or none for an image."""
    return list(definition.people_of(record.sample_id))


def is_imported(record: FileRecord) -> bool:
    """Whether its pixels were made elsewhere, so that neither encoder nor generator are this tooling's."""
    return record.origin != "made"


def split_of(record: FileRecord, plan: Plan) -> str:
    """The split that a file is loaded in; CROSSING where its people lie in different folds, "" without a fold."""
    if is_image(record):
        return definition.split_of(definition.fold_of_image(record.sample_id, record.parameters))
    folds = {plan.folds.get(person) for person in people_of(record)}
    if len(folds) > 1:
        return CROSSING
    return "" if folds == {None} else definition.split_of(folds.pop())
