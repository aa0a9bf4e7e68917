"""`tooling score` and `evaluate`: what they print and write, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from detection.predictions import read_samples
from tests.detection.metadata import release_rows, write_release
from tooling.cli.app import main
from tooling.stages.build import build_release
from tooling.workspace.layout import Workspace
from tooling.workspace.locks import hold_lock

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), release_rows(num_people=10, num_images=5))


@pytest.fixture
def predictions(release: Path, tmp_path: Path) -> Path:
    drawn = np.random.default_rng(1)
    lines = ["sample_id,score"]
    for name, row in read_samples(release).items():
        if row["split"] != "train":
            lines.append(f"{name},{drawn.normal() + 2 * (row['label'] == 'fake')}")
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object, command: str = "evaluate") -> int:
    monkeypatch.setattr("sys.argv", ["tooling", command, *map(str, arguments)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_numbers_as_json_and_as_a_table(
    release: Path, predictions: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (predictions, "--release", release, "--resamples", 20, "--compat", "deepfakebench")
    assert run(monkeypatch, *common, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(found) == {"name", "split", "overall", "by", "notes", "compat"}
    metrics = ("frame_auc", "video_auc", "eer", "eer_nearest", "ap", "tpr_at_fpr_1", "tpr_at_fpr_5", "accuracy")
    keys = {f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")}
    assert set(found["overall"]) == keys | {"prevalence", "threshold", "num_real", "num_fake"}
    assert set(found["by"]["gender"]["male"]) == set(found["overall"])
    assert list(found["by"]["fold"]) == ["0", "1"]
    assert run(monkeypatch, *common) == 0
    printed = capsys.readouterr()
    assert f"{found['overall']['video_auc']:.4f}" in printed.out
    assert "method face_swap" in printed.out
    assert "as deepfakebench: frame_auc" in printed.out
    assert "note: predictions of validation count by fold only" in printed.err


def test_several_detectors_give_a_matrix_and_files(
    release: Path,
    predictions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    named = (f"face_swap={predictions}", f"attribute_editing={predictions}")
    assert run(monkeypatch, *named, "--release", release, "--resamples", 0, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "trained on" in printed
    written = json.loads((out / "evaluation.json").read_text())
    assert written["matrix"]["face_swap"] == written["matrix"]["attribute_editing"]
    block = yaml.safe_load((out / "face_swap" / "model-index.yaml").read_text())
    assert block["model-index"][0]["name"] == "face_swap"
    assert sorted(path.name for path in (out / "attribute_editing").iterdir()) == [
        "det.png", "histograms.png", "model-index.yaml", "roc.png",
    ]  # fmt: skip


def test_what_does_not_fit_ends_with_one_line(
    release: Path, predictions: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = predictions.read_text().splitlines()
    for text, message in (
        ("\n".join(lines[:-1]), "no prediction of "),
        ("\n".join([*lines, lines[-1]]), "has a second prediction"),
        ("\n".join([*lines, "swap_video/99_98,1"]), "swap_video/99_98: is not a sample of this release"),
    ):
        predictions.write_text(text + "\n")
        assert run(monkeypatch, predictions, "--release", release, "--json") == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert len(printed.err.strip().splitlines()) == 1
        assert message in printed.err
    for option, value in (("--split", "tests"), ("--subsets", "swaps"), ("--compat", "other")):
        assert run(monkeypatch, predictions, "--release", release, option, value) == 2
        assert f"{option} {value}: no such" in capsys.readouterr().err
    assert run(monkeypatch, predictions, predictions, "--release", release) == 2
    assert "use NAME=FILE" in capsys.readouterr().err


def test_scores_of_a_detector_are_evaluated(
    small_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build_release(small_workspace, tmp_path / "release")
    Path("mine.py").write_text("def spread(frames):\n    return frames.std(axis=(1, 2, 3))\n")
    chosen = ("--subsets", "swap_video,raw_video")
    arguments = ("release", "--detector", "python:mine.py:spread", "--split", "test,validation", "--frames", 2, *chosen)
    with hold_lock(tmp_path / ".predictions.parquet.lock", "taken"):
        assert run(monkeypatch, *arguments, "--size", 32, command="score") == 1
        assert "predictions.parquet: another command is writing it; wait until it ends" in capsys.readouterr().err
    assert run(monkeypatch, *arguments, "--size", 32, command="score") == 0
    assert capsys.readouterr().out == "predictions.parquet: 16 samples scored\n"
    assert run(monkeypatch, "predictions.parquet", "--release", "release", *chosen, "--resamples", 5, "--json") == 0
    assert json.loads(capsys.readouterr().out)["overall"]["num_fake"] == 4
    assert run(monkeypatch, *arguments, "--degradation", "c99", command="score") == 2
    assert "--degradation c99: no such degradation; use one of c23" in capsys.readouterr().err
    assert run(monkeypatch, *arguments, "--size", 64, command="score") == 1
    assert "predictions.parquet: has predictions with another size_px" in capsys.readouterr().err


def test_exports_say_what_was_written(
    small_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build_release(small_workspace, tmp_path / "release")
    for count in ("78 clips and masks written, 0 kept", "0 clips and masks written, 78 kept"):
        arguments = ("faceforensics", "release", "forensics", "--compressions", "raw")
        assert run(monkeypatch, *arguments, command="export") == 0
        printed = capsys.readouterr()
        assert printed.out.endswith(f"forensics: {count}\n")
        assert "note: 30 fake clips have no mask\n" in printed.err
    monkeypatch.setattr("detection.exports.SIZE_PX", 16)
    assert run(monkeypatch, "deepfakebench", "release", "benchmark", "--frames", 1, command="export") == 0
    printed = capsys.readouterr()
    assert "  HD_real: 0\n  HD_avatarify: 1\n" in printed.out
    assert printed.out.endswith("benchmark: 83 frames and masks written, 0 kept\n")
    assert run(monkeypatch, "deepfakebench", "release", "forensics", command="export") == 1
    assert "forensics: has an export of another layout; name another folder" in capsys.readouterr().err
    assert run(monkeypatch, "faceforensics", "release", "new", "--compressions", "c99", command="export") == 2
    assert "--compressions c99: no such compression" in capsys.readouterr().err
