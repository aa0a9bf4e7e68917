"""The published archive in every shape in which people pack it, and hostile archives."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import json
import lzma
import multiprocessing
import os
import signal
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Collection
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from av.video.frame import PictureType, VideoFrame
from PIL import Image

from generation.media.reader import read_clip
from generation.media.writer import X264_OPTIONS, write_clip
from homologous_deepfake import CROSSING, METADATA, SUBSETS, people_of
from tests.workspaces import make_workspace, reproducible_state
from tooling.errors import InputError, UsageError
from tooling.marks.manifest import read_marks
from tooling.release.diff import folder_rows
from tooling.stages import build as shards
from tooling.stages.importing import run as importing
from tooling.stages.importing.archive import Limits, open_archive
from tooling.stages.importing.names import Sample, Unread, read_name
from tooling.stages.importing.run import ImportResult
from tooling.stages.verify import run as verify
from tooling.workspace.files import write_text
from tooling.workspace.identities import format_identities
from tooling.workspace.layout import Workspace, create_workspace, open_workspace
from tooling.workspace.path_kinds import unknown_paths
from tooling.workspace.signing_keys import read_keys

Files = dict[str, bytes]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """4 people with everything: what an archive is made from."""
    return make_workspace(tmp_path_factory.mktemp("published") / "workspace", num_men=2, num_women=2, num_images=2)


@pytest.fixture
def workspace(published: Workspace, tmp_path: Path) -> Workspace:
    """An empty workspace of the same settings that knows the 4 people."""
    made = create_workspace(tmp_path / "workspace", published.settings)
    write_text(made.identities_path, published.identities_path.read_text())
    return made


def media(published: Workspace, people: Collection[str] = ("1", "2")) -> Files:
    """The images, and every video that shows these people alone, by path."""
    records = [record for subset in SUBSETS for record in published.records(subset).values()]
    records = [record for record in records if set(people_of(record.sample_id)) <= set(people)]
    return {record.path: published.path(record.path).read_bytes() for record in records}


def pictures(path: Path) -> list[bytes]:
    """The encoded pictures of a film, or the decoded one of an image."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return [image.tobytes()]
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def clip(published: Workspace) -> bytes:
    return published.path("raw_video/1.mp4").read_bytes()


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_bytes(files: Files, links: dict[str, tuple[bytes, str]] | None = None) -> bytes:
    """A tar of files, and of entries of another type: name -> (type, where it points to)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, (kind, target) in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return buffer.getvalue()


def write_folder(path: Path, files: Files) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue().to_pybytes())


def run(workspace: Workspace, archive: Path, **options: object) -> ImportResult:
    """Imports in this process; every member must be imported, ignored or refused, exactly once."""
    result = importing.import_files(workspace, archive, num_workers=1, **options)  # type: ignore[arg-type]
    members = [member.name for member in open_archive(archive, options.get("limits")).members]  # type: ignore[arg-type]
    assert sorted([*result.imported, *result.ignored, *result.refused]) == sorted(members)
    assert not (workspace.root / ".importing").exists()
    recorded = [record for subset in SUBSETS for record in workspace.records(subset).values()]
    assert {record.sample_id for record in recorded} >= {*result.made, *result.kept}
    return result


SHAPES: dict[str, Callable[[Path, Files], Path]] = {
    "folder": lambda path, files: write_folder(path / "folder", files),
    "zip": lambda path, files: write_zip(path / "a.zip", files),
    "tar": lambda path, files: write_bytes(path / "a.tar", tar_bytes(files)),
    "tar.gz": lambda path, files: write_bytes(path / "a.tar.gz", gzip.compress(tar_bytes(files))),
    "tar.bz2": lambda path, files: write_bytes(path / "a.tar.bz2", bz2.compress(tar_bytes(files))),
    "tar.xz": lambda path, files: write_bytes(path / "a.tar.xz", lzma.compress(tar_bytes(files))),
    "tar.zst": lambda path, files: write_bytes(path / "a.tar.zst", zstd(tar_bytes(files))),
}


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_whole_archive_is_imported_as_encoded(
    shape: str, published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    files = {f"Homologous_deepfake/{path}": content for path, content in media(published).items()}
    archive = SHAPES[shape](tmp_path, files)
    result = run(workspace, archive)
    assert not result.refused
    assert not result.ignored
    assert not result.read_as
    for path in media(published):
        assert pictures(workspace.path(path)) == pictures(published.path(path)), path
    record = workspace.records("edit_video")["edit_video/hair/1"]
    assert record.generator == "published-archive"
    assert record.parameters == {"imported": True, "attribute": "hair", "factor": 2.0}
    assert record.origin == "imported"
    assert record.results["media"] == "kept as encoded"
    assert result.counts["swap_video"] == {"imported": 2, "in_workspace": 2, "catalogue": 100}
    again = run(workspace, archive)
    assert again.made == []
    assert sorted(again.kept) == sorted(result.made)


def test_imported_clips_verify(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    run(workspace, write_zip(tmp_path / "a.zip", media(published, ("1", "2", "3", "4"))))
    write_text(workspace.plan_path, published.plan_path.read_text())
    assert [str(found) for found in verify.verify_files(workspace, num_workers=1) if found.severity == "error"] == []


NAMES = {
    "raw_video/1.mp4": "raw_video/1.mp4",
    "Raw Video/001.MP4": "raw_video/1.mp4",
    "数据集/RAW-VIDEO/ 7 .mov": "raw_video/7.mp4",
    "a/b/face_video/１２.avi": "face_video/12.mp4",
    "swap_video/1-2.mp4": "swap_video/1_2.mp4",
    "swap_video/01 _ 002.mp4": "swap_video/1_2.mp4",
    "swap_video/１＿２.MP4": "swap_video/1_2.mp4",
    "swap_video\\3_4.mp4": "swap_video/3_4.mp4",
    "avatarify_video/3 3.mp4": "avatarify_video/3_3.mp4",
    "edit_video/AGE/9.mp4": "edit_video/age/9.mp4",
    "gan_images/5.JPG": "GAN_images/000005.png",
    "GAN images/0000006.png": "GAN_images/000006.png",
}
UNREAD = {
    "raw_video/1 (2).mp4": "is not named like",
    "raw_video/1_2.mp4": "is not named like",
    "raw_video/0.mp4": "identity 0",
    "raw_video/¹.mp4": "is not named like",
    "raw_video/1.png": "contains videos",
    "raw_video/men/1.mp4": "in an unknown folder",
    "raw_video/" + "1" * 10 + ".mp4": "is not named like",
    "edit_video/1.mp4": "folder of an attribute",
    "swap_video/4_4.mp4": "not a swap",
    "other/1.mp4": "not in the folder of a subset",
    "inner.zip": "not opened",
    "．．/raw_video/1.mp4": "leads elsewhere",
}
CLUTTER = [
    *("__MACOSX/raw_video/._1.mp4", "raw_video/.DS_Store", "raw_video/Thumbs.db", "README.txt", ".git/config"),
    *("raw_video/Icon\r", "raw_video/1.mp4:Zone.Identifier", "raw_video/~$1.xlsx", "raw_video/1.mp4.part"),
]


def test_names_made_by_hand() -> None:
    for name, path in NAMES.items():
        meant = read_name(tuple(name.replace("\\", "/").split("/")))
        assert isinstance(meant, Sample), (name, meant)
        assert meant.path == path
    for name, reason in UNREAD.items():
        meant = read_name(tuple(name.split("/")))
        assert isinstance(meant, Unread), (name, meant)
        assert reason in meant.reason, (name, meant)
        assert not meant.is_ignored
    for name in CLUTTER:
        meant = read_name(tuple(name.split("/")))
        assert isinstance(meant, Unread)
        assert meant.is_ignored, name


class GbkName(zipfile.ZipInfo):
    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802
        return self.filename.encode("gbk"), self.flag_bits


def test_reports_how_unusual_names_were_read(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("Raw Video/002.MP4", clip(published))
        file.writestr("raw_video/１.mp4", clip(published))
        file.writestr("__MACOSX/._x", b"")
        file.mkdir("raw_video")
        # A Chinese Windows writes GBK bytes without saying so.
        file.writestr(GbkName("数据/raw_video/3.mp4"), clip(published))
    result = run(workspace, archive)
    assert result.read_as == {"Raw Video/002.MP4": "raw_video/2.mp4", "raw_video/１.mp4": "raw_video/1.mp4"}
    assert result.imported["数据/raw_video/3.mp4"] == "raw_video/3.mp4"
    assert result.notes == ["数据/raw_video/3.mp4: name read as GBK"]
    assert list(result.ignored) == ["__MACOSX/._x"]


def test_what_lies_beside_videos_is_ignored(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    files = {f"raw_video/{name}": b"x" for name in ("1.srt", "1.jpg", "Icon\r", "Thumbs.db", "2.mp4.crdownload")}
    result = run(workspace, write_zip(tmp_path / "a.zip", files | {"raw_video/1.mp4": clip(published)}))
    assert list(result.imported) == ["raw_video/1.mp4"]
    assert not result.refused
    result = run(workspace, write_zip(tmp_path / "b.zip", {"raw_video/1.jpg": b"x"}))
    assert "is a image" in result.refused["raw_video/1.jpg"]


def test_two_members_that_mean_one_sample_are_both_refused(
    published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    names = ["raw_video/1.mp4", "raw_video/01.mp4", "RAW_VIDEO/1.MP4", "b/raw_video/１.mp4", "raw_video/2.mp4"]
    result = run(workspace, write_zip(tmp_path / "a.zip", dict.fromkeys(names, clip(published))))
    assert list(result.imported.values()) == ["raw_video/2.mp4"]
    assert "means raw_video/1.mp4, and so does raw_video/01.mp4" in result.refused["raw_video/1.mp4"]
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("raw_video/3.mp4", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("raw_video/3.mp4", b"2")
    assert sorted(run(workspace, tmp_path / "b.zip").refused) == ["raw_video/3.mp4", "raw_video/3.mp4 [2]"]


HOSTILE_NAMES = {
    "../raw_video/1.mp4": "leads out",
    "raw_video/../../../1.mp4": "leads out",
    "/raw_video/1.mp4": "absolute name",
    "C:\\raw_video\\1.mp4": "absolute name",
    "\\\\server\\raw_video\\1.mp4": "absolute name",
    "raw_video\\..\\..\\1.mp4": "leads out",
    "raw_video/1\u202e.mp4": "invisible or control",
    "raw_video/1\n.mp4": "invisible or control",
    "raw_video/" + "x" * 2000 + ".mp4": "more than 1024 characters",
}


@pytest.mark.parametrize("shape", ["zip", "tar"])
def test_hostile_names_are_refused_and_nothing_leaves_the_workspace(
    shape: str, published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    outer = set(tmp_path.rglob("*"))
    archive = SHAPES[shape](tmp_path, {**dict.fromkeys(HOSTILE_NAMES, b"evil"), "raw_video/2.mp4": clip(published)})
    result = run(workspace, archive)
    assert list(result.imported.values()) == ["raw_video/2.mp4"]
    for name, reason in HOSTILE_NAMES.items():
        assert reason in result.refused[name[:256].replace("\u202e", "\\u202e").replace("\n", "\\n")]
    made = set(tmp_path.rglob("*")) - outer
    assert {path.relative_to(tmp_path).as_posix() for path in made} - {archive.name} == {
        "workspace/raw_video",
        "workspace/raw_video/2.mp4",
        "workspace/raw_video/metadata.jsonl",
    }


def test_links_and_devices_are_refused(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    links = {
        "raw_video/1.mp4": (tarfile.SYMTYPE, "/etc/passwd"),
        "raw_video/3.mp4": (tarfile.LNKTYPE, "raw_video/2.mp4"),
        "raw_video/4.mp4": (tarfile.CHRTYPE, ""),
        "raw_video/5.mp4": (tarfile.FIFOTYPE, ""),
    }
    archive = write_bytes(tmp_path / "a.tar", tar_bytes({"raw_video/2.mp4": clip(published)}, links))
    result = run(workspace, archive)
    assert list(result.imported.values()) == ["raw_video/2.mp4"]
    assert [reason.partition(";")[0] for reason in result.refused.values()] == [
        "is a symbolic link",
        "is a hard link",
        "is not a regular file",
        "is not a regular file",
    ]
    folder = write_folder(tmp_path / "folder", {"raw_video/3.mp4": clip(published)})
    os.link(folder / "raw_video/3.mp4", tmp_path / "elsewhere")
    (folder / "raw_video/1.mp4").symlink_to("/etc/passwd")
    (folder / "swap_video").symlink_to(published.path("swap_video"))
    os.mkfifo(folder / "raw_video/4.mp4")
    assert list(run(workspace, folder).refused) == [
        "raw_video/1.mp4",
        "raw_video/3.mp4",
        "raw_video/4.mp4",
        "swap_video",
    ]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("raw_video/1.mp4")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    assert "symbolic link" in run(workspace, tmp_path / "a.zip").refused["raw_video/1.mp4"]


def test_encrypted_members_are_refused_by_name(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"raw_video/1.mp4": clip(published), "raw_video/2.mp4": clip(published)})
    content = bytearray(archive.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(magic) + offset] |= 1
    archive.write_bytes(content)
    result = run(workspace, archive)
    assert "is encrypted" in result.refused["raw_video/1.mp4"]
    assert list(result.imported) == ["raw_video/2.mp4"]


def test_methods_and_stand_ins_of_archives_are_named(
    published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    archive = write_zip(tmp_path / "a.zip", {"raw_video/1.mp4": clip(published), "raw_video/2.mp4": clip(published)})
    content = bytearray(archive.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        content[content.index(magic) + offset] = 9
    archive.write_bytes(content)
    assert (
        "is packed with Deflate64, as Windows packs large files" in run(workspace, archive).refused["raw_video/1.mp4"]
    )
    with pytest.raises(InputError, match=r"b.zip: has no files in it; pack or copy it again"):
        run(workspace, write_zip(tmp_path / "b.zip", {}))
    for start, message in (
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!doctype html>", "web page"),
    ):
        (tmp_path / "c.zip").write_bytes(start * 20)
        with pytest.raises(InputError, match=f"c.zip: is a .*{message}"):
            run(workspace, tmp_path / "c.zip")
        image = write_zip(tmp_path / "d.zip", {"GAN_images/000001.png": start * 20})
        assert message in run(workspace, image, subset="GAN_images", generator="x").refused["GAN_images/000001.png"]


def test_bombs_are_refused(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    bomb = {"raw_video/1.mp4": bytes(40 << 20), "raw_video/2.mp4": clip(published)}
    with pytest.raises(InputError, match="more than 200 times its size"):
        run(workspace, write_zip(tmp_path / "a.zip", bomb))
    with pytest.raises(InputError, match="more than 200 times its size"):
        run(workspace, write_bytes(tmp_path / "a.tar.gz", gzip.compress(tar_bytes(bomb))))
    small = {"raw_video/1.mp4": bytes(3 << 20), "raw_video/2.mp4": clip(published)}
    result = run(workspace, write_zip(tmp_path / "b.zip", small))
    assert "200 times its packed size" in result.refused["raw_video/1.mp4"]
    archive = write_zip(tmp_path / "c.zip", {f"raw_video/{n}.mp4": b"1" for n in range(9)})
    with pytest.raises(InputError, match="more than 8 members"):
        run(workspace, archive, limits=Limits(num_members=8))
    with pytest.raises(InputError, match="more than 8 bytes"):
        run(workspace, archive, limits=Limits(total_bytes=8))
    large = write_zip(tmp_path / "d.zip", {"raw_video/3.mp4": clip(published)})
    assert "larger than 99 bytes" in run(workspace, large, limits=Limits(file_bytes=99)).refused["raw_video/3.mp4"]


def test_member_that_lies_about_its_size_is_refused(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    archive = write_zip(
        tmp_path / "a.zip", {"raw_video/1.mp4": clip(published) * 4, "raw_video/2.mp4": clip(published)}
    )
    content = bytearray(archive.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = content.index(magic) + offset
        content[at : at + 4] = (1000).to_bytes(4, "little")
    archive.write_bytes(content)
    result = run(workspace, archive)
    assert "cannot be unpacked" in result.refused["raw_video/1.mp4"]
    assert list(result.imported) == ["raw_video/2.mp4"]


def test_what_is_wrong_in_an_archive_stays_one_short_line(
    published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    archive = SHAPES["zip"](tmp_path, {f"raw_video/{n}.mp4": clip(published) for n in range(1, 10)})
    content = bytearray(archive.read_bytes())
    content[26:28] = (60_000).to_bytes(2, "little")  # the length of the first name, where its content begins
    archive.write_bytes(content)
    reason = run(workspace, archive).refused["raw_video/1.mp4"]
    assert "File name in directory 'raw_video/1.mp4' and header b'raw_video/1.mp4" in reason
    assert len(reason) < 400


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "folder"])
def test_truncated_archive_is_refused(shape: str, published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    archive = SHAPES[shape](tmp_path, {f"raw_video/{n}.mp4": clip(published) for n in range(1, 5)})
    content = archive.read_bytes()
    for length in (len(content) // 2, len(content) // 3):
        archive.write_bytes(content[:length])
        with pytest.raises(InputError, match="fetch it again"):
            run(workspace, archive)
    assert not workspace.path("raw_video").exists()


def test_damaged_and_dishonest_tars_are_refused(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    content = bytearray(tar_bytes({f"raw_video/{n}.mp4": clip(published) for n in (1, 2)}))
    second = content.index(b"raw_video/2.mp4")
    content[second + 148] ^= 1
    with pytest.raises(InputError, match=r"^\S*/a\.tar: damaged or truncated archive \(bad member header"):
        run(workspace, write_bytes(tmp_path / "a.tar", bytes(content)))
    one = tar_bytes({"raw_video/1.mp4": clip(published)})
    with pytest.raises(InputError, match="after its end mark"):
        run(workspace, write_bytes(tmp_path / "b.tar", one + one))
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    with pytest.raises(
        InputError, match=r"^\S*/c\.tar: damaged or truncated archive \(a member's name takes more than"
    ):
        run(workspace, write_bytes(tmp_path / "c.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)))
    chained = b"".join(tarfile.TarInfo.create_pax_global_header({"a": "b"}) for _ in range(3000))
    with pytest.raises(InputError, match="damaged"):
        run(workspace, write_bytes(tmp_path / "d.tar", chained + one))
    with pytest.raises(InputError, match="not a zip or tar"):
        run(workspace, write_bytes(tmp_path / "e.rar", b"Rar!" * 200))


def test_member_without_a_name_is_named_by_its_number(
    published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "a.zip", {"raw_video/1.mp4": clip(published)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"x")
    result = run(workspace, path)
    assert result.refused == {"a.zip#2": "has no name; left out"}
    assert list(result.imported) == ["raw_video/1.mp4"]


def test_damaged_member_does_not_stop_the_others(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {f"raw_video/{n}.mp4": clip(published) for n in (1, 2)})
    content = bytearray(archive.read_bytes())
    content[200] ^= 1
    archive.write_bytes(content)
    result = run(workspace, archive)
    assert list(result.imported) == ["raw_video/2.mp4"]
    assert "cannot be unpacked" in result.refused["raw_video/1.mp4"]


def test_people_without_row_or_consent_or_taken_down_are_refused(
    published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    people = workspace.identities()
    people["2"] = dataclasses.replace(people["2"], consent_status="withdrawn")
    del people["3"]
    write_text(workspace.identities_path, format_identities(people))
    write_text(workspace.tombstones_path, json.dumps({"identity": "4", "date": "2026-01-02"}) + "\n")
    table = published.identities_path.read_bytes() + b"9,male,granted,,,\n"
    names = ["raw_video/1.mp4", "swap_video/1_2.mp4", "swap_video/4_1.mp4", "raw_video/9.mp4", "raw_video/8.mp4"]
    archive = write_zip(tmp_path / "a.zip", {"top/identities.csv": table, **dict.fromkeys(names, clip(published))})
    result = run(workspace, archive)
    assert result.imported == {
        "top/identities.csv": "identities.csv",
        "raw_video/1.mp4": "raw_video/1.mp4",
        "raw_video/9.mp4": "raw_video/9.mp4",
    }
    assert "consent of identity 2 is 'withdrawn'" in result.refused["swap_video/1_2.mp4"]
    assert "identity 4 was taken down on 2026-01-02" in result.refused["swap_video/4_1.mp4"]
    assert "identity 8 has no row" in result.refused["raw_video/8.mp4"]
    assert list(workspace.identities()) == ["1", "2", "3", "4", "9"]
    assert workspace.identities()["2"].consent_status == "withdrawn"
    assert [note for note in result.notes if "identity 2 stays (consent 'withdrawn', not 'granted')" in note]


def test_unusable_table_of_identities_is_refused(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    before = workspace.identities_path.read_text()
    archive = write_zip(tmp_path / "a.zip", {"identities.csv": b"id,gender,consent_status\n1,other,granted\n"})
    assert "gender 'other'" in run(workspace, archive).refused["identities.csv"]
    both = write_zip(tmp_path / "b.zip", dict.fromkeys(["identities.csv", "a/Identities.CSV"], before.encode()))
    assert list(run(workspace, both).refused) == ["identities.csv", "a/Identities.CSV"]
    assert workspace.identities_path.read_text() == before


def repacked(path: Path, source: Path, **metadata: str) -> bytes:
    """The same packets in the container that the path's extension names, with tags of its own."""
    with av.open(source) as old, av.open(path, "w") as new:
        new.metadata.update(metadata)
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return path.read_bytes()


def encoded_by_another(path: Path, source: Path) -> bytes:
    """The same frames as MPEG-4 part 2, as old programs write it."""
    with av.open(source) as old, av.open(path, "w") as new:
        stream = new.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 64, "yuv420p", 2_000_000
        for number, frame in enumerate(old.decode(video=0)):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 30), PictureType.NONE
            new.mux(stream.encode(frame))
        new.mux(stream.encode())
    return path.read_bytes()


def patterned(folder: Path, num_frames: int = 8, width: int = 96, fps: int = 30) -> bytes:
    frames = [np.full((64, width, 3), 20 * number, np.uint8) for number in range(num_frames)]
    write_clip(folder / "pattern.mp4", frames, fps=fps)
    return (folder / "pattern.mp4").read_bytes()


def test_metadata_of_an_imported_video_is_dropped(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    tagged = repacked(tmp_path / "b.mp4", published.path("raw_video/1.mp4"), artist="Ann")
    assert run(workspace, write_zip(tmp_path / "a.zip", {"raw_video/2.mp4": tagged})).made == ["raw_video/2"]
    assert b"Ann" not in workspace.path("raw_video/2.mp4").read_bytes()
    found = read_marks(workspace.path("raw_video/2.mp4"), read_keys(workspace.keys_path))
    assert (found.state, found.labels, found.source_types) == ("trusted", (), ("digitalCapture",))


def test_video_that_differs_is_refused_with_the_differences(
    published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    source, truncated = published.path("raw_video/1.mp4"), clip(published)
    work = tmp_path / "made"
    work.mkdir()
    faults = {
        "swap_video/1_2.mp4": (patterned(work, num_frames=7), "frames 7, must be 8"),
        "swap_video/2_1.mp4": (patterned(work, width=98), "size 98x64, must be 96x64"),
        "swap_video/3_4.mp4": (patterned(work, fps=25), "frames per second 25, must be 30"),
        "swap_video/4_3.avi": (encoded_by_another(work / "a.avi", source), "codec mpeg4, must be h264"),
        "raw_video/1.mp4": (truncated[: len(truncated) * 3 // 4], "raw_video/1.mp4: "),
        "raw_video/3.mp4": (b"#EXTM3U\n/etc/passwd", "is a list of videos"),
        "raw_video/4.mp4": (repacked(work / "c.mkv", source), "container matroska"),
        "GAN_images/1.png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "does not decode as an image"),
    }
    archive = write_zip(tmp_path / "a.zip", {name: content for name, (content, _) in faults.items()})
    result = run(workspace, archive)
    assert not result.imported
    for name, (_, reason) in faults.items():
        assert reason in result.refused[name]
        assert ".importing" not in result.refused[name]
    again = run(workspace, archive, reencode=True)
    assert sorted(again.imported.values()) == ["raw_video/4.mp4", "swap_video/4_3.mp4"]
    assert sorted(again.encoded_anew) == ["raw_video/4", "swap_video/4_3"]
    record = workspace.records("swap_video")["swap_video/4_3"]
    assert record.results["differed"]["codec"] == "mpeg4, must be h264"
    difference = read_clip(workspace.path(record.path)).astype(int) - read_clip(source)
    assert np.abs(difference).mean() < 8  # two encodings on, still the same picture
    assert sorted(run(workspace, archive).kept) == sorted(again.made)


def write_without_colours(path: Path) -> Path:
    """As other programs leave a clip: nothing says which colours it has."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30, options=dict(X264_OPTIONS))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(8):
            picture = np.full((64, 96, 3), 20 * number, np.uint8)
            frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_import_refuses_what_verification_calls_an_error(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "raw_video"
    folder.mkdir()
    write_without_colours(folder / "2.mp4")
    refused = run(workspace, folder, subset="raw_video").refused
    assert "colours (2, 0), must be (1, 1)" in refused["2.mp4"]
    assert run(workspace, folder, subset="raw_video", reencode=True).made == ["raw_video/2"]
    findings = verify.verify_files(workspace, num_workers=1)
    assert [str(found) for found in findings if found.path == "raw_video/2.mp4" and found.kind == "encoding"] == []


def test_image_of_another_format_is_encoded_again_only_if_requested(workspace: Workspace, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(buffer, format="JPEG")
    archive = write_zip(tmp_path / "a.zip", {"GAN_images/7.jpg": buffer.getvalue()})
    assert "format JPEG, must be PNG" in run(workspace, archive).refused["GAN_images/7.jpg"]
    assert run(workspace, archive, reencode=True).made == ["GAN_images/000007"]
    with Image.open(workspace.path("GAN_images/000007.png")) as image:
        assert (image.format, image.getpixel((3, 3))) == ("PNG", (90, 90, 90))


def test_fakes_made_by_hand(published: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", {"1_2.mp4": clip(published), "2-1.MP4": clip(published), "note.txt": b""})
    with pytest.raises(UsageError, match="--generator"):
        run(workspace, folder, subset="swap_video")
    with pytest.raises(UsageError, match="--subset"):
        run(workspace, folder, generator="swapface")
    with pytest.raises(UsageError, match="no such subset"):
        run(workspace, folder, subset="swaps", generator="swapface")
    result = run(workspace, folder, subset="swap_video", generator="swapface")
    assert sorted(result.made) == ["swap_video/1_2", "swap_video/2_1"]
    assert list(result.counts) == ["swap_video"]
    record = workspace.records("swap_video")["swap_video/1_2"]
    assert (record.generator, record.parameters) == ("swapface", {"imported": True})


def test_pairs_across_folds_are_released_in_crossing_alone(published: Workspace, tmp_path: Path) -> None:
    """Someone else's pairs, on a workspace whose folds were drawn here."""
    own = make_workspace(tmp_path / "own", num_men=4, num_women=0, num_images=0)
    folds = own.plan().folds  # type: ignore[union-attr]
    first, second = (next(p for p in folds if folds[p] == fold) for fold in sorted(set(folds.values())))
    own.forget("swap_video", list(own.records("swap_video")))
    names = [f"{first}_{second}.mp4", f"{second}_{first}.mp4"]
    theirs = {record.path.split("/")[1].split("_")[0]: record for record in published.records("swap_video").values()}
    films = [published.path(theirs[target].path).read_bytes() for target in (first, second)]
    folder = write_folder(tmp_path / "mine", dict(zip(names, films, strict=True)))
    assert not run(own, folder, subset="swap_video", generator="swapface").refused
    findings = verify.verify_files(own, num_workers=1)
    assert [str(found) for found in findings if found.severity == "error"] == []
    notes = [found for found in findings if found.path.startswith("swap_video/")]
    assert [found.message.partition(": ")[2] for found in notes] == ["it is in the split crossing alone"] * 2
    release = shards.build_release(own, tmp_path / "release")
    assert set(release.configs["swap_video"].splits) == {CROSSING}
    assert release.configs["swap_video"].splits[CROSSING].num_examples == 2
    rows = folder_rows(tmp_path / "release")
    assert rows[f"swap_video/{first}_{second}"]["generator"] == "swapface"
    crossing = pq.read_table(tmp_path / "release" / release.configs[METADATA].splits[CROSSING].shards[0].path)
    assert sorted(crossing["path"].to_pylist()) == sorted(f"swap_video/{name}" for name in names)
    assert crossing["fold"].null_count == 2


def test_file_of_another_origin_is_not_replaced(published: Workspace, tmp_path: Path) -> None:
    made = make_workspace(tmp_path / "own", num_men=2, num_women=0, num_images=0)
    before = made.path("raw_video/1.mp4").read_bytes()
    archive = write_zip(tmp_path / "a.zip", {"raw_video/1.mp4": published.path("raw_video/2.mp4").read_bytes()})
    assert "another raw_video/1.mp4, from 'ingest'" in run(made, archive).refused["raw_video/1.mp4"]
    assert made.path("raw_video/1.mp4").read_bytes() == before
    with pytest.raises(InputError, match="is in the workspace"):
        run(made, made.path("raw_video"))


def _import_slowly(root: str, archive: str) -> None:
    importing.import_files(open_workspace(Path(root)), Path(archive), num_workers=1)


@pytest.mark.slow
def test_killed_import_continues_and_ends_with_the_same_state(
    published: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    archive = write_zip(tmp_path / "a.zip", media(published))
    undisturbed = create_workspace(tmp_path / "undisturbed", published.settings)
    write_text(undisturbed.identities_path, workspace.identities_path.read_text())
    run(undisturbed, archive)
    child = multiprocessing.get_context("spawn").Process(
        target=_import_slowly, args=(str(workspace.root), str(archive))
    )
    child.start()
    while child.is_alive() and not workspace.records("face_video"):
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert unknown_paths(workspace) == []
    run(workspace, archive)
    assert reproducible_state(workspace) == reproducible_state(undisturbed)
