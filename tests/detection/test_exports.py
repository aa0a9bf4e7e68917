"""Exports of a release: read back as the two benchmarks read, resumed, refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from detection import exports
from detection.exports import ExportError, ExportResult, export_deepfakebench, export_faceforensics
from detection.frames import Evenly, sample_frames, sample_masks
from detection.predictions import PredictionError, read_samples
from generation.media.reader import read_frames
from homologous_deepfake import FAKES, people_of
from tests.detection.metadata import release_rows, write_release
from tests.once import made_once

pytestmark = pytest.mark.thorough

LABELS = {"HD_real": 0, "HD_avatarify": 1, "HD_edit": 1, "HD_swap": 1, "HD_gan": 1}


@pytest.fixture(scope="module")
def benchmark(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export for DeepfakeBench, 3 frames of each clip; only to be read."""
    make = lambda out: export_deepfakebench(release, out, num_frames=3, root="./rgb")  # noqa: E731
    return made_once(tmp_path_factory, "deepfakebench", make)


@pytest.fixture(scope="module")
def forensics(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw clips in the layout of FaceForensics++; only to be read."""
    make = lambda out: export_faceforensics(release, out, compressions=("raw",))  # noqa: E731
    return made_once(tmp_path_factory, "faceforensics", make)


def test_a_row_that_is_there_twice_is_named(release: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(release, tmp_path / "release")
    path = min(folder.glob("data/swap_video/test-*"))
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    twice = rf"{path.name}: has swap_video/\S+, which the release has already; build or fetch the release again"
    with pytest.raises(PredictionError, match=twice):
        export_deepfakebench(folder, tmp_path / "out", num_frames=1)


def rows_of(release: Path, subset: str) -> list[dict[str, Any]]:
    return [row for path in release.glob(f"data/{subset}/*.parquet") for row in pq.read_table(path).to_pylist()]


def read_as_deepfakebench(out: Path, dataset: str, mode: str) -> list[tuple[str, int, Path]]:
    """Folder name, label and path of each frame, by the rules of the benchmark's dataset class."""
    label_dict = {}
    for line in (out / "label_dict.txt").read_text().splitlines():
        name, _, number = line.strip().partition(": ")
        label_dict[name] = int(number)
    assert label_dict == LABELS
    found = []
    for by_mode in json.loads((out / "dataset_json" / f"{dataset}.json").read_text())[dataset].values():
        for video in by_mode[mode].values():
            numbers = [int(path.split("/")[-1].split(".")[0]) for path in video["frames"]]
            assert numbers == sorted(set(numbers))
            assert "\\" not in video["frames"][0]  # the first one is looked at
            for path in video["frames"]:
                assert path.startswith("./rgb/")  # others get a prefix that only Windows understands
                assert path.count("frames") == 1  # else no mask would be found
                found.append((path.split("/")[-2], label_dict[video["label"]], out / path.removeprefix("./rgb/")))
    return found


@pytest.mark.parametrize("subset", ["", *FAKES])
def test_deepfakebench_reads_its_layout(subset: str, benchmark: Path, release: Path) -> None:
    dataset = "Homologous_deepfake" + (f"_{subset.partition('_')[0].lower()}" if subset else "")
    subsets = {"raw_video", *([subset] if subset else FAKES)}
    for mode, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        expected: Counter[tuple[str, int]] = Counter()
        for name, row in read_samples(release).items():
            if row["split"] == split and row["subset"] in subsets:
                expected[name.replace("/", "_"), int(row["label"] == "fake")] += min(3, row["num_frames"])
        found = read_as_deepfakebench(benchmark, dataset, mode)
        assert Counter((video, label) for video, label, _ in found) == expected
        assert all(path.is_file() for _, _, path in found)


def test_crops_are_those_of_the_release(benchmark: Path, release: Path) -> None:
    for subset, numbers in (("edit_video", (0, 4, 7)), ("GAN_images", (0,))):
        row = rows_of(release, subset)[0]
        folder = benchmark / "Homologous_deepfake" / subset / "frames" / row["sample_id"].replace("/", "_")
        assert sorted(path.name for path in folder.iterdir()) == [f"{number:03d}.png" for number in numbers]
        expected = sample_frames(row, Evenly(3), crop=1.3, size_px=256)
        for number, frame in zip(numbers, expected, strict=True):
            with Image.open(folder / f"{number:03d}.png") as image:
                assert np.array_equal(np.asarray(image), frame.transpose(1, 2, 0))
    assert not (benchmark / "Homologous_deepfake" / "face_video").exists()


def test_masks_lie_beside_the_crops(benchmark: Path, release: Path) -> None:
    rows = [row for subset in ("raw_video", *FAKES) for row in rows_of(release, subset)]
    folders = {path.parent for path in (benchmark / "Homologous_deepfake").glob("*/masks/*/*.png")}
    named = {row["sample_id"]: Path(row["path"]).parts[0] for row in rows if row["mask_sha256"]}
    assert {f"{folder.parents[1].name}/{folder.name}" for folder in folders} == {
        f"{subset}/{name.replace('/', '_')}" for name, subset in named.items()
    }
    row = next(row for row in rows if row["mask_sha256"])
    folder = benchmark / "Homologous_deepfake" / named[row["sample_id"]] / "masks" / row["sample_id"].replace("/", "_")
    expected = sample_masks(row, Evenly(3), crop=1.3, size_px=256)
    assert expected is not None
    for number, mask in zip((0, 4, 7), expected, strict=True):
        with Image.open(str(folder / f"{number:03d}.png").replace("/masks/", "/frames/")) as frame:
            assert frame.size == (256, 256)
        with Image.open(folder / f"{number:03d}.png") as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), mask[0])


def test_faceforensics_has_clips_and_pairs(forensics: Path, release: Path) -> None:
    methods = {"swap_video": "SwapFace", "avatarify_video": "MCNET"}
    listed: dict[str, set[Path]] = {"originals": set(), **{method: set() for method in methods.values()}}
    for name, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        samples = {one: row for one, row in read_samples(release).items() if row["split"] == split}
        pairs = json.loads((forensics / "splits" / f"{name}.json").read_text())
        people = {people_of(one)[0] for one, row in samples.items() if row["subset"] == "raw_video"}
        assert {person for pair in pairs for person in pair} == people
        assert len({frozenset(pair) for pair in pairs}) == len(pairs)
        for subset, method in methods.items():
            own = json.loads((forensics / "splits" / method / f"{name}.json").read_text())
            clips = {f"{a}_{b}" for pair in own for a, b in (pair, pair[::-1])}
            assert clips == {one.rpartition("/")[2] for one, row in samples.items() if row["subset"] == subset}
            assert all(pair in pairs or pair[::-1] in pairs for pair in own)
            listed[method] |= {Path("manipulated_sequences", method, f"raw/videos/{clip}.mp4") for clip in clips}
        for attribute in ("age", "hair"):
            method = f"StyleGANEX_{attribute}"
            own = json.loads((forensics / "splits" / method / f"{name}.json").read_text())
            assert sorted(own) == sorted([person, person] for person in people)
            listed.setdefault(method, set()).update(
                Path("manipulated_sequences", method, f"raw/videos/{a}_{b}.mp4") for a, b in own
            )
        listed["originals"] |= {Path("original_sequences/homologous/raw/videos", f"{one}.mp4") for one in people}
    found = {path.relative_to(forensics) for path in forensics.rglob("raw/videos/*.mp4")}
    assert found == set().union(*listed.values())
    masks = {path.relative_to(forensics) for path in forensics.rglob("*.mp4")} - found
    methods_of = [(row, methods.get(subset)) for subset in FAKES for row in rows_of(release, subset)]
    assert {path: (forensics / path).read_bytes() for path in masks} == {
        Path("manipulated_sequences", str(method), "masks/videos", row["path"].partition("/")[2]): row["mask"]["bytes"]
        for row, method in methods_of
        if row["mask_sha256"]
    }
    row = rows_of(release, "swap_video")[0]
    name = f"{row['sample_id'].rpartition('/')[2]}.mp4"
    assert (forensics / "manipulated_sequences/SwapFace/raw/videos" / name).read_bytes() == row["video"]["bytes"]


def test_compressions_can_be_added(release: Path, forensics: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(forensics, out)
    with mock.patch.object(exports, "degrade_video", side_effect=lambda video, name: name.encode() + video) as degrade:
        result = export_faceforensics(release, out, compressions=("raw", "c40"))
    num_raw, num_masks = (len(list(out.rglob(f"{name}/videos/*.mp4"))) for name in ("raw", "masks"))
    assert num_masks
    assert degrade.call_count == result.num_written == result.num_kept - num_masks == num_raw
    for raw in out.rglob("raw/videos/*.mp4"):
        assert (raw.parents[2] / "c40" / "videos" / raw.name).read_bytes() == b"c40" + raw.read_bytes()
    one = out / "original_sequences/homologous/c23/videos/1.mp4"
    one.parent.mkdir(parents=True)
    for path in [*out.rglob("raw/videos/*.mp4")]:
        if path.name != "1.mp4":
            other = path.parents[1] / "c23" / "videos" / path.name
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_bytes(b"there")
    export_faceforensics(release, out, compressions=("c23",))  # one clip is left
    assert len(list(read_frames(one))) == 8


@pytest.mark.parametrize(
    ("export", "pattern"), [(export_deepfakebench, "*.png"), (export_faceforensics, "*.mp4")], ids=["frames", "clips"]
)
def test_an_export_that_stopped_goes_on(
    export: Callable[..., ExportResult], pattern: str, request: pytest.FixtureRequest, release: Path, tmp_path: Path
) -> None:
    is_frames = export is export_deepfakebench
    whole = request.getfixturevalue("benchmark" if is_frames else "forensics")
    options: dict[str, Any] = {"num_frames": 3, "root": "./rgb"} if is_frames else {"compressions": ("raw",)}
    out, calls = tmp_path / "out", 0
    write = exports._write

    def fail_later(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == (12 if is_frames else 6):
            path.with_name(f".{path.name}.unfinished").write_bytes(content[:9])
            raise KeyboardInterrupt
        write(path, content)

    with mock.patch.object(exports, "_write", fail_later), pytest.raises(KeyboardInterrupt):
        export(release, out, **options)
    assert len(list(out.rglob("*.json"))) == 1  # what the folder is; lists come last
    next(out.rglob(pattern)).write_bytes(b"")  # as a crash of the machine leaves it
    kept = sum(path.stat().st_size > 0 for path in out.rglob(pattern))
    states: list[tuple[int, int]] = []
    result = export(release, out, **options, progress=lambda done, total, name: states.append((done, total)))
    files = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    assert result.num_kept == kept > 0
    assert result.num_written + kept == len(list(whole.rglob(pattern)))
    assert states[0][0] > 0
    assert states[-1][0] == states[-1][1] == states[0][1]
    with mock.patch.object(exports, "rows_with_media", side_effect=AssertionError):  # nothing is fetched again
        assert export(release, out, **options).num_written == 0


def test_what_cannot_be_exported_is_named(release: Path, benchmark: Path, tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="no release with a config `metadata`"):
        export_deepfakebench(tmp_path, tmp_path / "out")
    for folder, message in ((release, "is not empty and not an export"), (release / "README.md", "is not a folder")):
        with pytest.raises(ExportError, match=message):
            export_faceforensics(release, folder)
    with pytest.raises(ExportError, match="has an export of another num_frames; name another folder"):
        export_deepfakebench(release, benchmark, num_frames=4)
    with pytest.raises(ExportError, match="has an export of another layout"):
        export_faceforensics(release, benchmark)
    with pytest.raises(ExportError, match="the benchmark cannot read paths below it"):
        export_deepfakebench(release, tmp_path / "out", root="/data")
    with pytest.raises(ExportError, match="c99: no such compression"):
        export_faceforensics(release, tmp_path / "out", compressions=("c99",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("export", [export_deepfakebench, export_faceforensics], ids=["frames", "clips"])
def test_rows_without_video_are_named(export: Callable[..., ExportResult], release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    for path in copy.glob("data/raw_video/*.parquet"):
        table = pq.read_table(path)
        at = table.schema.get_field_index("video")
        nothing = pa.nulls(len(table), table.schema.field(at).type)
        pq.write_table(table.set_column(at, table.schema.field(at), nothing), path)
    with pytest.raises(ExportError, match=r"^raw_video/\d+\S*: has no video; [^\n]+$"):
        export(copy, tmp_path / "out")


def test_notes_say_what_is_missing(tmp_path: Path) -> None:
    rows = [row for row in release_rows(5, 0) if row["label"] or row["fold"]]
    for row in rows:
        row["fps"] = 30.0
        if row["sample_id"].startswith("swap_video"):
            row["fold"] = None
    few = write_release(tmp_path / "few", rows)
    with mock.patch.object(exports, "_write_targets", return_value=(0, 0)):
        result = export_deepfakebench(few, tmp_path / "out")
    assert result.notes == (
        "15 fake clips have no mask",
        "5 fakes of two people in different splits are left out",
        "test has no real samples",
    )
    assert not (tmp_path / "out" / "dataset_json" / "Homologous_deepfake_swap.json").exists()
