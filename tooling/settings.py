"""Every default, once: frozen dataclasses, overridden by the workspace's `workspace.toml`.

Numbers are checked against their bounds when that file is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

Whole = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[int, Meta(ge=1, le=1000)]  # per second
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Scale = Annotated[float, Meta(gt=0, le=10)]
Margin = Annotated[float, Meta(ge=0, le=10)]  # as a share of a side
Side = Annotated[int, Meta(ge=32, le=8192, multiple_of=2)]  # of a video in pixels; 4:2:0 has no odd ones


@dataclass(frozen=True)
class ClipSettings:
    """Shape of a `raw_video` clip."""

    seconds: Seconds = 15.0
    fps: Rate = 30
    width_px: Side = 1280
    height_px: Side = 720

    @property
    def num_frames(self) -> int:
        """Frames of one clip: 450 in the catalogue."""
        return round(self.seconds * self.fps)


@dataclass(frozen=True)
class FaceSettings:
    """Face detection and cropping."""

    size_px: Side = 350
    detect_every_frames: Count = 5
    detect_scale: Scale = 0.5
    margin: Margin = 0.4


@dataclass(frozen=True)
class PlanSettings:
    """Folds and pairs."""

    seed: Whole = 0


@dataclass(frozen=True)
class ShardSettings:
    """Parquet layout; HF's readers fetch whole row groups, so these bound a reader's memory too.

    Attributes:
        row_group_bytes: of several rows, at most.
        max_shard_bytes: at most.
        min_train_shards: of the training split of a config; the other splits have shards of like size. With 12, the
            shards with one of 100 people, which a takedown writes again, have 7 to 8 % of the release's bytes.
    """

    row_group_bytes: Count = 20_000_000
    max_shard_bytes: Count = 500_000_000
    min_train_shards: Count = 12


@dataclass(frozen=True)
class CardSettings:
    """What only the maintainers can say on the dataset card; papers and card name those that are empty.

    Attributes:
        licence: identifier of a licence that the Hub knows, or "other".
        licence_name, licence_link: needed with "other".
        contact: address for questions and removal.
        version: of the release.
    """

    licence: str = "other"
    licence_name: str = ""
    licence_link: str = ""
    contact: str = ""
    version: str = "1.0.0"


@dataclass(frozen=True)
class KeySettings:
    """How marks are signed.

    Attributes:
        timestamp_server: URL of an RFC 3161 server whose stamps let marks outlive their certificate; "" for none.
    """

    timestamp_server: str = ""

    def __post_init__(self) -> None:
        url = urlsplit(self.timestamp_server)
        if self.timestamp_server and not (url.scheme in ("http", "https") and url.hostname):
            raise ValueError(f"timestamp_server is not an http:// or https:// address: {self.timestamp_server!r}")


@dataclass(frozen=True)
class Settings:
    """All settings of one workspace."""

    clip: ClipSettings = field(default_factory=ClipSettings)
    faces: FaceSettings = field(default_factory=FaceSettings)
    plan: PlanSettings = field(default_factory=PlanSettings)
    shards: ShardSettings = field(default_factory=ShardSettings)
    card: CardSettings = field(default_factory=CardSettings)
    keys: KeySettings = field(default_factory=KeySettings)

    def video_size(self, subset: str) -> tuple[int, int]:
        """Width and height in pixels of a subset's videos."""
        side = self.faces.size_px
        return (side, side) if subset == "face_video" else (self.clip.width_px, self.clip.height_px)

    def video_shape(self, subset: str) -> tuple[tuple[int, int], int, int]:
        """What the videos of a subset must be: their size in pixels, frames, frames per second."""
        return self.video_size(subset), self.clip.num_frames, self.clip.fps
