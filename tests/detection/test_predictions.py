"""Predictions are read strictly: what does not fit the release is named in one line, nothing is dropped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detection.predictions import PredictionError, Row, read_predictions, read_samples
from tests.detection.metadata import NUM_FRAMES, release_rows, write_release
from tests.hub.served import DATASET, OWNER, REPO, Served, patch_endpoint


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), release_rows(num_people=10, num_images=5))


@pytest.fixture(scope="module")
def samples(release: Path) -> dict[str, Row]:
    return read_samples(release)


def lines_of(samples: dict[str, Row], *splits: str) -> list[dict[str, Any]]:
    names = [name for name, row in samples.items() if row["split"] in (splits or ("test",))]
    return [{"sample_id": name, "score": at / len(names)} for at, name in enumerate(names)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = [",".join(str(row.get(name, "")) for name in names) for row in rows]
        path.write_text("\n".join([",".join(names), *text]) + "\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, samples: dict[str, Row], **options: Any) -> Any:
    return read_predictions([path], samples, name="mine", **options)


def test_rows_of_a_release_have_names_splits_and_subsets(samples: dict[str, Row]) -> None:
    assert len(samples) == 65
    row = samples["edit_video/age/5"]
    assert [row[key] for key in ("label", "method", "gender", "subset", "split", "fold")] == [
        "fake", "attribute_editing", "female", "edit_video", "test", 0,
    ]  # fmt: skip
    assert samples["GAN_images/000001"]["gender"] is None
    assert list(dict.fromkeys(row["split"] for row in samples.values())) == ["train", "validation", "test"]


@pytest.mark.parametrize(("column", "value"), [("label", 99), ("path", 3), ("sample_id", None), ("gender", 7)])
def test_rows_of_another_dataset_are_refused(release: Path, tmp_path: Path, column: str, value: Any) -> None:
    (shard,) = (release / "data" / "metadata").glob("test-*")
    row = pq.read_table(shard).to_pylist()[0]
    (tmp_path / "data" / "metadata").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([{**row, column: value}]), tmp_path / "data" / "metadata" / shard.name)
    with pytest.raises(PredictionError, match=rf"{shard.name}: has a row without a usable {column}; build or fetch"):
        read_samples(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_three_forms_say_the_same(suffix: str, samples: dict[str, Row], tmp_path: Path) -> None:
    rows = [{"sample_id": line["sample_id"], "frame": 0, "score": line["score"]} for line in lines_of(samples)]
    rows.append({"sample_id": "raw_video/5", "frame": NUM_FRAMES - 1, "score": 0.75})
    found = read(write(tmp_path / f"predictions{suffix}", rows[::-1]), samples)
    assert [row["sample_id"] for row in found.rows] == [line["sample_id"] for line in lines_of(samples)]
    at = [row["sample_id"] for row in found.rows].index("raw_video/5")
    assert found.score[found.sample == at].tolist() == [rows[at]["score"], 0.75]
    assert found.frame[found.sample == at].tolist() == [0, NUM_FRAMES - 1]
    assert found.mean_score[at] == (rows[at]["score"] + 0.75) / 2
    assert len(found.score) == len(rows)
    assert found.is_fake.tolist() == [samples[row["sample_id"]]["label"] == "fake" for row in found.rows]


def changed(rows: list[dict[str, Any]], at: int, **values: Any) -> list[dict[str, Any]]:
    return [*rows[:at], {**rows[at], **values}, *rows[at + 1 :]]


FAULTS: dict[str, tuple[Any, str]] = {
    "missing": (lambda rows: rows[1:], r"no prediction of \S+/\d+; score every row of test"),
    "many missing": (lambda rows: rows[7:], r"no prediction of (\S+, ){4}\S+ and 2 more; score every row of test"),
    "doubled": (lambda rows: [*rows, rows[2]], r"row 14: \S+: has a second prediction; leave one"),
    "other release": (
        lambda rows: changed(rows, 3, sample_id="swap_video/1_3"),
        "row 4: swap_video/1_3: is not a sample of this release",
    ),
    "nan": (lambda rows: changed(rows, 1, score=float("nan")), r"row 2: \S+: score is nan; use a finite number"),
    "infinite": (lambda rows: changed(rows, 1, score=float("inf")), r"row 2: \S+: score is inf;"),
    "unknown column": (lambda rows: changed(rows, 0, label=1), "unknown column 'label'; use sample_id, score, frame"),
    "no score": (lambda rows: [{"sample_id": row["sample_id"]} for row in rows], "has no column 'score'"),
    "no name": (lambda rows: changed(rows, 0, sample_id=""), "row 1: has no sample_id"),
    "beyond": (lambda rows: changed(rows, 0, frame=NUM_FRAMES), r"row 1: \S+: frame 8 of \d; count frames from 0"),
    "negative": (lambda rows: changed(rows, 0, frame=-1), r"row 1: \S+: frame is -1; use a number from 0"),
    "with and without frame": (
        lambda rows: [*rows, {**rows[0], "frame": 0}],
        "has predictions with a frame and without; leave one kind",
    ),
    "empty": (lambda rows: [], "no prediction of|cannot be read|has no column"),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_named(fault: str, suffix: str, samples: dict[str, Row], tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    rows = lines_of(samples)
    if suffix == ".parquet":  # its columns are those of the first row
        names = list(dict.fromkeys(name for row in change(rows) for name in row))
        path = write(tmp_path / f"p{suffix}", [{name: row.get(name) for name in names} for row in change(rows)])
    else:
        path = write(tmp_path / f"p{suffix}", change(rows))
    with pytest.raises(PredictionError) as raised:
        read(path, samples)
    text = str(raised.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert re.search(message, text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "sample_id,score\nraw_video/5,high\n", "row 1: raw_video/5: score is high; use a finite number"),
        ("p.csv", "sample_id,score\nraw_video/5,\n", "row 1: raw_video/5: score is empty; use a finite number"),
        ("p.csv", "sample_id,score,score\nraw_video/5,1,1\n", "column 'score' is there twice"),
        ("p.csv", "sample_id,score\nraw_video/5,1,2\n", "cannot be read"),
        ("p.jsonl", '{"sample_id": "raw_video/5", "score": true}\n', "score is True"),
        ("p.jsonl", '{"sample_id": "raw_video/5", "score": 1, "score": 0}\n', "a key is there twice"),
        ("p.jsonl", "[1, 2]\n", "line 1 is not an object"),
        ("p.jsonl", "{\n", "cannot be read"),
        ("p.parquet", "PAR1", "cannot be read"),
        ("p.txt", "", "not a file of predictions; use .csv, .parquet"),
    ],
)
def test_damaged_files_are_named(name: str, text: str, message: str, samples: dict[str, Row], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PredictionError, match=re.escape(message)):
        read(tmp_path / name, samples)
    with pytest.raises(PredictionError, match="cannot be read"):
        read(tmp_path / "none.csv", samples)


def test_each_split_that_is_begun_must_be_complete(samples: dict[str, Row], tmp_path: Path) -> None:
    rows = lines_of(samples, "test", "validation")
    both = read(write(tmp_path / "both.csv", rows), samples)
    assert {row["split"] for row in both.rows} == {"test", "validation"}
    with pytest.raises(PredictionError, match=r"no prediction of \S+; score every row of validation"):
        read(write(tmp_path / "p.csv", rows[1:]), samples)  # validation comes first
    with pytest.raises(PredictionError, match=r"score every row of train$"):
        read(tmp_path / "both.csv", samples, split=None)
    with pytest.raises(PredictionError, match="has no split crossing; choose one of test, train, validation"):
        read(tmp_path / "both.csv", samples, split="crossing")


def test_subsets_narrow_what_is_expected(samples: dict[str, Row], tmp_path: Path) -> None:
    rows, subsets = lines_of(samples), ("raw_video", "swap_video")
    chosen = [row for row in rows if samples[row["sample_id"]]["subset"] in subsets]
    found = read(write(tmp_path / "p.csv", chosen), samples, subsets=subsets)
    assert {row["subset"] for row in found.rows} == set(subsets)
    with pytest.raises(PredictionError, match="which is not evaluated; leave it out or add it"):
        read(write(tmp_path / "all.csv", rows), samples, subsets=subsets)


def test_files_of_one_detector_are_read_together(samples: dict[str, Row], tmp_path: Path) -> None:
    rows = lines_of(samples)
    paths = [write(tmp_path / "1.csv", rows[:5]), write(tmp_path / "2.jsonl", rows[5:])]
    assert len(read_predictions(paths, samples, name="mine").score) == len(rows)
    with pytest.raises(PredictionError, match=r"1.csv: row 1: \S+: has a second prediction"):
        read_predictions([*paths, paths[0]], samples, name="mine")


def test_mean_does_not_depend_on_the_order_of_frames(samples: dict[str, Row], tmp_path: Path) -> None:
    rows = [row for row in lines_of(samples) if row["sample_id"] != "raw_video/5"]
    scores = np.random.default_rng(1).random(NUM_FRAMES).tolist()
    means = []
    for order in (scores, scores[::-1], sorted(scores)):
        frames = [{"sample_id": "raw_video/5", "frame": at, "score": score} for at, score in enumerate(order)]
        found = read(write(tmp_path / "p.jsonl", [*rows, *frames]), samples)
        means.append(found.mean_score.tolist())
    assert means[0] == means[1] == means[2]


def test_a_release_at_a_hub_is_read_without_its_media(
    release: Path, samples: dict[str, Row], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_endpoint(monkeypatch, served.endpoint)
    monkeypatch.setenv("HF_TOKEN", OWNER)
    served.api().upload_folder(folder_path=release, **DATASET)
    served.api().upload_file(path_or_fileobj=b"no Parquet", path_in_repo="data/raw_video/test-0.parquet", **DATASET)
    served.api().create_tag(tag="v1", **DATASET)
    assert read_samples(f"{REPO}@v1") == samples
    for name in (f"{REPO}@v2", "lab/nothing", "nowhere", "lab/x@y z"):
        with pytest.raises(PredictionError) as raised:
            read_samples(name)
        assert str(raised.value).startswith(f"{name}: ")
        assert "\n" not in str(raised.value)
    patch_endpoint(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(PredictionError, match="cannot be read as a release"):
        read_samples(REPO)


def test_a_folder_without_a_release_is_named(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="no release with a config `metadata`"):
        read_samples(tmp_path)
    (tmp_path / "data" / "metadata").mkdir(parents=True)
    (tmp_path / "data" / "metadata" / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(PredictionError, match="cannot be read as a release"):
        read_samples(tmp_path)
