"""Files that are no part of what a maintainer hands in: what systems, browsers and cameras leave beside videos."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

Clutter = Literal["system", "hidden", "unfinished"]
CLUTTER: dict[Clutter, str] = {
    "system": "belongs to a file manager or an office program, not to the dataset",
    "hidden": "is in a hidden folder",
    "unfinished": "is an unfinished download",
}
SYSTEM_FILES = frozenset(("thumbs.db", "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon"))
SYSTEM_FOLDERS = frozenset(
    ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found")
)
SYSTEM_STARTS = (".", "~$")
SYSTEM_ENDS = ("zone.identifier", "zone.identifier:$data", ".lnk", ".url", ".webloc", "~")
UNFINISHED_ENDS = (
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".opdownload",
    ".download",
    ".tmp",
    ".temp",
    ".aria2",
)
_SUBTITLES = "srt vtt ass ssa sub idx sbv smi lrc"
_PICTURES = "jpg jpeg png gif bmp webp tif tiff heic heif thm"
_SOUND = "wav mp3 m4a aac flac ogg opus aif aiff wma"
_DOCUMENTS = "txt md pdf doc docx odt xls xlsx ods csv tsv json xml xmp nfo log gpx md5 sha1 sha256 html htm"
_PREVIEWS = "lrv lrf"  # of action cameras and drones
BESIDE_VIDEOS = frozenset(f"{_SUBTITLES} {_PICTURES} {_SOUND} {_DOCUMENTS} {_PREVIEWS}".split())


def clutter_of(parts: Sequence[str]) -> Clutter | None:
    """Which clutter a file is, by the folders and the name of its path; None if it is none."""
    *folders, name = (part.strip().casefold() for part in parts)
    if any(folder in SYSTEM_FOLDERS for folder in folders):
        return "system"
    if name.endswith(UNFINISHED_ENDS):
        return "unfinished"
    if name in SYSTEM_FILES or name.startswith(SYSTEM_STARTS) or name.endswith(SYSTEM_ENDS):
        return "system"
    return "hidden" if any(folder.startswith(".") for folder in folders) else None


def is_beside_video(name: str, others: Collection[str]) -> bool:
    """Whether a file is a companion of a video: subtitles, a picture, sound or notes of its name.

    Args:
        name: of the file.
        others: names of the files of its folder.
    """
    stem, _, suffix = name.rpartition(".")
    if suffix.casefold() not in BESIDE_VIDEOS:
        return False
    videos = (other for other in others if not is_companion(other))
    return any(stem in (other, other.rpartition(".")[0]) for other in videos)


def is_companion(name: str) -> bool:
    """Whether a file of this name is no video, but may lie beside one."""
    return name.rpartition(".")[2].casefold() in BESIDE_VIDEOS
