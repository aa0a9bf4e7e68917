"""Training over folds of people: who is seen when, what validation alone chooses, runs that stop and go on."""

from __future__ import annotations

import dataclasses
import json
import runpy
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from detection.frames import Evenly, sample_frames
from detection.metrics import best_threshold
from detection.predictions import SETTINGS_KEY, read_predictions, read_samples, release_digest
from detection.scores import evaluate
from detection.training import (
    Items,
    TrainingError,
    TrainSettings,
    balanced_weights,
    compute_items,
    cross_table,
    cross_validate,
    existing_folds,
    rounds_of,
    run_round,
)
from homologous_deepfake import METHODS, SUBSETS, people_of
from tests.detection.counting import CountedHub
from tests.detection.metadata import release_rows, write_release
from tests.hub.served import OWNER

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
SETTINGS = TrainSettings(num_epochs=6, batch_size=32, learning_rate=0.05)


@pytest.fixture(scope="module")
def rows_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 20 people in five folds, without media."""
    return write_release(tmp_path_factory.mktemp("rows") / "homologous_deepfake", release_rows())


@pytest.fixture(scope="module")
def items(rows_only: Path) -> Items:
    """Two items for each clip, float32 (6,): noise; a fake has a sign of its method in one of the numbers."""
    samples = read_samples(rows_only)
    drawn = np.random.default_rng(0)
    frames = [np.arange(min(2, row["num_frames"])) for row in samples.values()]
    sample = np.repeat(np.arange(len(samples)), [len(numbers) for numbers in frames])
    values = drawn.normal(size=(len(sample), 6)).astype(np.float32)
    for number, row in enumerate(samples.values()):
        if row["method"] != METHODS[0]:
            values[sample == number, METHODS.index(row["method"])] += 5
    return Items(
        tuple(samples.values()), sample, np.concatenate(frames), values, release_digest(samples), "made for tests"
    )


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


def table_of(path: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns


def result_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[SETTINGS_KEY])
    return found


def with_rows(items: Items, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Items:
    return dataclasses.replace(items, rows=tuple(map(change, items.rows)))


def test_no_person_is_in_two_parts_of_a_round(items: Items) -> None:
    rounds = rounds_of(items.rows, "face_swap")
    assert [one.test for one in rounds] == [0, 1, 2, 3, 4]
    assert (rounds[0].validation, rounds[0].train) == (1, (2, 3, 4))  # the release's own splits
    for one in rounds:
        parts = [items.of(folds, "face_swap") for folds in ([one.test], [one.validation], one.train)]
        rows = [[items.rows[number] for number in items.sample[part]] for part in parts]
        people = [{person for row in part for person in people_of(row["sample_id"])} for part in rows]
        assert not people[0] & people[1]
        assert not (people[0] | people[1]) & people[2]
        assert {row["method"] for part in rows for row in part} == {"real", "face_swap"}
    assert set(items.of(range(5))) == set(range(len(items.values)))


def test_folds_without_people_are_named(items: Items) -> None:
    few = with_rows(items, lambda row: {**row, "fold": 2})
    with pytest.raises(TrainingError, match=r"real samples: only in folds 2; .* need three folds: add people"):
        existing_folds(few.rows)
    three = [row for row in items.rows if row["fold"] < 3 or row["subset"] == "GAN_images"]
    assert [(one.test, one.train, one.also_tested) for one in rounds_of(three, "all")] == [
        (0, (2,), (3, 4)),  # images of folds without people are in no training, and tested once
        (1, (0,), ()),
        (2, (1,), ()),
    ]
    partly = [row for row in items.rows if row["fold"] != 1 or row["method"] != "face_swap"]
    with pytest.raises(TrainingError, match="face_swap: fold 1 has no such fakes"):
        rounds_of(partly, "face_swap")


def test_real_and_fake_weigh_the_same_and_so_do_methods(items: Items) -> None:
    members = items.of([2, 3, 4])
    weights = balanced_weights(items, members)
    shares: Counter[str] = Counter()
    for number, weight in zip(items.sample[members], weights, strict=True):
        shares[items.rows[number]["method"]] += weight
    assert shares.pop("real") == pytest.approx(0.5)
    assert list(shares.values()) == pytest.approx([0.125] * 4)
    alone = balanced_weights(items, items.of([2, 3, 4], "full_face_generation"))
    assert alone[items.is_fake[items.sample[items.of([2, 3, 4], "full_face_generation")]]].sum() == pytest.approx(0.5)


def test_epoch_and_threshold_are_chosen_on_validation_alone(items: Items, tmp_path: Path) -> None:
    one = rounds_of(items.rows, "all")[0]
    epochs: list[str] = []
    show = lambda done, total, name: epochs.append(name)  # noqa: E731
    whole = run_round(one, items, make_model, SETTINGS, tmp_path, progress=show)
    result, found = result_of(whole), table_of(whole)
    aucs = [float(line.split("validation ")[1].split(";")[0]) for line in epochs]
    assert len(aucs) == SETTINGS.num_epochs
    assert result["validation_auc"] == pytest.approx(max(aucs), abs=5e-4)
    assert aucs[result["epoch"] - 1] == max(aucs)
    # 0 is the threshold that the scores of validation give
    read = read_predictions([whole], {row["sample_id"]: row for row in items.rows}, name="all")
    judged = read.column("split") == "validation"
    assert best_threshold(read.is_fake[judged], read.mean_score[judged]) == pytest.approx(0, abs=1e-9)
    assert evaluate(read, num_resamples=0).overall["threshold"] == pytest.approx(0, abs=1e-9)

    model = make_model()
    model.load_state_dict(torch.load(whole.with_suffix(".pt"), weights_only=True))
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(items.values[items.of([0, 1])])).numpy().ravel()
    assert logits - result["threshold"] == pytest.approx(found["score"], abs=1e-5)

    def poisoned(row: dict[str, Any], fold: int) -> dict[str, Any]:
        if row["fold"] != fold:
            return row
        is_real = row["label"] == "real"
        return {**row, "label": "fake" if is_real else "real", "method": "face_swap" if is_real else "real"}

    for fold, is_same in ((one.test, True), (one.validation, False)):
        folder = tmp_path / f"poisoned-{fold}"
        folder.mkdir()
        out = run_round(one, with_rows(items, partial(poisoned, fold=fold)), make_model, SETTINGS, folder)
        assert (table_of(out) == found) == is_same
        assert (result_of(out) == result) == is_same
    values = items.values.copy()
    values[items.of([one.test])] = 7  # nor do the items of the test fold count
    (tmp_path / "values").mkdir()
    out = run_round(one, dataclasses.replace(items, values=values), make_model, SETTINGS, tmp_path / "values")
    assert result_of(out) == result
    assert table_of(out) != found


class Stop(BaseException):
    """Stands for the end of a process at any moment."""


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    items: Items, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("all", "face_swap")
    whole = cross_validate(items, make_model, SETTINGS, tmp_path / "whole", trained_on=names)
    monkeypatch.setattr("detection.training.CHECKPOINT_SECONDS", 0)
    step, steps, end_after = torch.optim.AdamW.step, 0, 0

    def stopping(self: torch.optim.AdamW, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == end_after:
            raise Stop
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", stopping)
    out = tmp_path / "stopped"
    for number in (3, 40, 7, 95, 61):  # in an epoch, in several rounds, before the first checkpoint
        steps, end_after = 0, number
        with pytest.raises(Stop):
            cross_validate(items, make_model, SETTINGS, out, trained_on=names)
        assert not (out / "face_swap.parquet").exists()
    files = cross_validate(items, make_model, SETTINGS, out, trained_on=names)
    for name in names:
        for path in (tmp_path / "whole").rglob(f"{name}*/*.parquet"):
            assert table_of(out / name / path.name) == table_of(path)
            assert result_of(out / name / path.name) == result_of(path)
        assert table_of(*files[name]) == table_of(*whole[name])
    assert not list(out.rglob(".*")), "checkpoints are left"
    steps = end_after = 0
    assert cross_validate(items, make_model, SETTINGS, out, trained_on=names) == files
    assert steps == 0, "finished rounds are run again"


def test_another_run_in_the_folder_is_refused(items: Items, tmp_path: Path) -> None:
    one = rounds_of(items.rows, "face_swap")[0]
    out = run_round(one, items, make_model, SETTINGS, tmp_path)
    for arguments, key in (
        ((items, make_model, dataclasses.replace(SETTINGS, num_epochs=7)), "num_epochs"),
        ((items, lambda: nn.Linear(6, 1), SETTINGS), "model"),
        ((dataclasses.replace(items, described="others"), make_model, SETTINGS), "items"),
    ):
        with pytest.raises(TrainingError, match=f"{out.name}: is of a run with another {key}; name another folder"):
            run_round(one, *arguments, tmp_path)
    diverging = dataclasses.replace(SETTINGS, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"logits of epoch \d+ are not finite; lower the learning rate"):
        cross_validate(items, make_model, diverging, tmp_path / "diverging", trained_on=["all"])
    with pytest.raises(TrainingError, match="nothing: cannot be trained on; choose from all, full_face_generation"):
        cross_validate(items, make_model, SETTINGS, tmp_path, trained_on=["nothing"])


def test_the_table_shows_what_carries_over(items: Items, rows_only: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = dataclasses.replace(SETTINGS, num_epochs=8)
    names = ("all", "expression_driven", "face_swap")
    files = cross_validate(items, make_model, settings, tmp_path, trained_on=names, report=lines.append)
    assert (tuple(files), lines) == (names, [])
    heading, columns, *rows = cross_table(files, read_samples(rows_only), subsets=SUBSETS).splitlines()
    assert heading == "video AUC, trained on \\ tested on"
    assert columns.split() == METHODS[1:]
    found = {row.split()[0]: [float(cell) for cell in row.split()[1::2]] for row in rows}
    assert min(found.pop("all")) > 0.85
    for method, aucs in found.items():
        own = METHODS[1:].index(method)
        assert aucs.pop(own) > 0.9, "its own method is learned"
        assert max(aucs) < 0.8, "signs of other methods are unknown to it"
    # every sample once, each from the model that did not see its fold
    merged = table_of(tmp_path / "all.parquet")
    assert len(merged["sample_id"]) == len(items.values)
    parts = {fold: table_of(tmp_path / "all" / f"fold-{fold}.parquet") for fold in range(5)}
    scores = [
        dict(zip(zip(part["sample_id"], part["frame"], strict=True), part["score"], strict=True))
        for part in parts.values()
    ]
    fold_of = {row["sample_id"]: row["fold"] for row in items.rows}
    for sample_id, frame, score in zip(*merged.values(), strict=True):
        assert score == scores[fold_of[sample_id]][sample_id, frame]
    chosen = cross_validate(items, make_model, settings, tmp_path, trained_on=["all"], folds=[0])
    assert chosen == {"all": [tmp_path / "all" / "fold-0.parquet"]}


def brightness(row: dict[str, Any], sampling: Evenly, *, scale: float) -> NDArray[np.float32]:
    frames = sample_frames(row, sampling, size_px=16)
    return np.asarray(frames.mean(axis=(2, 3)) * scale, np.float32)


def test_items_are_computed_once(release: Path, tmp_path: Path) -> None:
    samples, subsets = read_samples(release), ("raw_video", "swap_video", "GAN_images")
    options: dict[str, Any] = {"num_frames": 3, "subsets": subsets, "num_threads": 2}
    compute = partial(brightness, scale=2.0)
    whole = compute_items(release, samples, compute, tmp_path / "whole", **options)
    assert {row["subset"] for row in whole.rows} == set(subsets)
    assert whole.values.shape == (len(whole.sample), 3)
    number = [row["subset"] for row in whole.rows].index("swap_video")
    assert whole.frame[whole.sample == number].tolist() == [0, 4, 7]
    seen: list[str] = []

    def stop(done: int, total: int, name: str) -> None:
        seen.append(name)
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        compute_items(release, samples, compute, tmp_path / "parts", progress=stop, **options)
    with (tmp_path / "parts" / "items.jsonl").open("a") as log:
        log.write('"raw_video/')  # torn
    states: list[tuple[int, int]] = []
    show = lambda done, total, name: states.append((done, total))  # noqa: E731
    again = compute_items(release, samples, compute, tmp_path / "parts", progress=show, **options)
    assert states == [(done, len(whole.rows)) for done in range(5, len(whole.rows) + 1)]
    assert np.array_equal(again.values, whole.values)
    assert again.described == whole.described
    for other, changed in ((partial(brightness, scale=1.0), {}), (compute, {"num_frames": 2})):
        with pytest.raises(TrainingError, match="has items of another release, with other settings or of other code"):
            compute_items(release, samples, other, tmp_path / "parts", **{**options, **changed})
    with pytest.raises(TrainingError, match=r"raw_video/\S+: 1 items of 3 frames; give one of each"):
        compute_items(release, samples, lambda row, sampling: np.zeros((1, 2)), tmp_path / "few", **options)
    with pytest.raises(TrainingError, match=r"raw_video/\S+: cannot be used \(KeyError: 'nothing'\); correct what"):
        compute_items(release, samples, lambda row, sampling: row["nothing"], tmp_path / "none", **options)


def run_example(name: str, *arguments: str | Path, code: str = "") -> subprocess.CompletedProcess[str]:
    path = EXAMPLES / f"{name}.py"
    run = f"{code}\nimport runpy, sys; sys.argv[0] = {str(path)!r}; runpy.run_path({str(path)!r}, run_name='__main__')"
    command = [sys.executable, "-c", run, *map(str, arguments)]
    return subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, check=False)


def test_a_missing_timm_is_named() -> None:
    done = run_example("frame_classifier", "nowhere", "--out", "x", code="import sys; sys.modules['timm'] = None")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: timm is missing; pip install 'timm>=1.0'\n"


KILLING = """
import os, signal, torch
import detection.training
detection.training.CHECKPOINT_SECONDS = 0
step, left = torch.optim.AdamW.step, 5  # the second epoch of the second round
def killing(self, *arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)
torch.optim.AdamW.step = killing
"""


@pytest.mark.thorough
def test_the_frequency_detector_ends_alike_after_kills(release: Path, tmp_path: Path) -> None:
    options = ("--frames", "2", "--epochs", "3", "--trained-on", "all", "face_swap")
    whole = run_example("frequency_detector", release, "--out", tmp_path / "whole", *options)
    assert whole.returncode == 0, whole.stderr
    assert "note: folds 3, 4 have no people; 3 rounds instead of 5" in whole.stderr
    assert [line.split()[0] for line in whole.stdout.splitlines()[2:4]] == ["all", "face_swap"]
    arguments = ("frequency_detector", release, "--out", tmp_path / "killed", *options)
    killed = run_example(*arguments, code=KILLING)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed").rglob(".*")] == [".fold-1.checkpoint"]
    again = run_example(*arguments)
    assert again.stdout.replace("killed", "whole") == whole.stdout
    for path in (tmp_path / "whole").rglob("*.parquet"):
        assert table_of(tmp_path / "killed" / path.relative_to(tmp_path / "whole")) == table_of(path)


@pytest.mark.thorough
def test_the_frame_classifier_from_a_hub(release: Path, tmp_path: Path, counted_hub: CountedHub) -> None:
    pytest.importorskip("timm")
    options = ("--frames", "2", "--size", "64", "--epochs", "2", "--model", "test_resnet", "--trained-on", "face_swap")
    repository = counted_hub.publish(release, "lab/homologous_deepfake")
    reach = f"""
import os
os.environ |= {{"HF_ENDPOINT": {counted_hub.endpoint!r}, "HF_TOKEN": {OWNER!r}, "HF_HUB_OFFLINE": "0"}}
os.environ |= {{"HF_HUB_DISABLE_XET": "1", "HF_HUB_CACHE": {str(tmp_path / "cache")!r}}}
"""
    found: dict[object, Any] = {}
    for place, code in ((release, ""), (repository, reach)):
        out = tmp_path / str(len(found))
        done = run_example("frame_classifier", place, "--out", out, *options, code=code)
        assert done.returncode == 0, done.stderr
        found[place] = table_of(out / "face_swap.parquet")
        assert done.stdout.splitlines()[-1] == str(out / "face_swap.parquet")
    assert found[release] == found[repository]
    with pytest.raises(SystemExit, match=r"error: nothing: cannot be made \(.*; timm.list_models\(\) has all"):
        runpy.run_path(str(EXAMPLES / "frame_classifier.py"))["make_model"]("nothing", False)
