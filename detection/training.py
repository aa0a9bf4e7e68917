"""Training of detectors on a release: what a model sees, kept on disk; rounds over folds of people; runs that go on.

    samples = read_samples("OWNER/NAME")
    items = compute_items("OWNER/NAME", samples, sample_frames, Path("out/frames"), num_frames=8)
    files = cross_validate(items, make_model, TrainSettings(), Path("out"))
    print(cross_table(files, samples))

The release is streamed once, whatever the number of epochs and models: one item for each chosen frame goes into a file.
In a round, one fold is the test, the next one validation, the others training; folds share no person. Validation alone
chooses the epoch and the threshold, and no label of the test fold is looked at. Predictions are logits less that
threshold: 0 and more means fake, in each round. A model that tests on fold 0 is that of the release's own splits.

A run that was killed goes on after the last item and the last checkpoint that it wrote, with the same result: what is
drawn at random depends on the seed and the epoch alone. (A GPU adds numbers in any order; there, last digits vary.)
What was made with other settings, from another version of the release or by other code is refused, not mixed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import nn

from detection.frames import Evenly
from detection.inference import ShowProgress, rows_with_media
from detection.metrics import best_threshold, curve_metrics
from detection.predictions import (
    Row,
    read_predictions,
    read_settings,
    read_whole_lines,
    release_digest,
    write_predictions,
    write_whole,
)
from detection.scores import evaluate, format_matrix, method_matrix
from generation.errors import GenerationError, one_line
from homologous_deepfake import LABELS, METHODS, SPLIT_FOLDS, SUBSETS, split_of

ALL = "all"  # trained on the fakes of every method
TRAINED_ON = (ALL, *METHODS[1:])
# A clip of face_video is the crop of a real clip, scaled: any detector of scaling tells it from fakes of whole clips,
# and would look better than it is.
BASELINE_SUBSETS = tuple(name for name in SUBSETS if name != "face_video")
EVALUATION_BATCH = 256
CHECKPOINT_SECONDS = 10.0  # between two checkpoints of a round

Compute = Callable[[Row, Evenly], NDArray[Any]]  # a row with media -> one item for each chosen frame


class TrainingError(GenerationError):
    """A release that cannot be trained on, or results of another run in the way."""


def progress_lines(seconds: float = 10.0) -> ShowProgress:
    """Writes progress to stderr: a line when something is finished, and after so many seconds."""
    written = time.monotonic()

    def show(done: int, total: int, name: str) -> None:
        nonlocal written
        if done == total or time.monotonic() - written >= seconds:
            sys.stderr.write(f"{done} of {total} {name}\n")
            written = time.monotonic()

    return show


@dataclass(frozen=True)
class Items:
    """What models see of a release: one item for each chosen frame.

    Attributes:
        rows: the samples, in the order of the release, as `predictions.read_samples` returns them.
        sample: int64 (N,), the row that each item is of, ascending.
        frame: int64 (N,), the number of its frame.
        values: (N, ...), memory-mapped.
        release: its digest.
        described: what the items were made from; changes with the release, the code and its parameters.
    """

    rows: tuple[Row, ...]
    sample: NDArray[np.int64]
    frame: NDArray[np.int64]
    values: NDArray[Any]
    release: str
    described: str

    @cached_property
    def is_fake(self) -> NDArray[np.bool_]:
        """bool (len(rows),)."""
        return np.array([row["label"] == LABELS[1] for row in self.rows], bool)

    def of(self, folds: Collection[int], trained_on: str = ALL) -> NDArray[np.int64]:
        """Numbers of the items of some folds: of the real samples, and of the fakes of a method or of all."""
        methods = METHODS if trained_on == ALL else (METHODS[0], trained_on)
        is_chosen = [row["fold"] in folds and row["method"] in methods for row in self.rows]
        return np.flatnonzero(np.array(is_chosen, bool)[self.sample])


@dataclass(frozen=True)
class Round:
    """One model of a cross-validation.

    Attributes:
        trained_on: one of TRAINED_ON; also whose fakes validation has.
        test, validation: a fold each.
        train: all other folds that have people.
        also_tested: in the first round, folds that have images alone.
    """

    trained_on: str
    test: int
    validation: int
    train: tuple[int, ...]
    also_tested: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"trained on {self.trained_on}, tested on fold {self.test}"


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained: AdamW, its rate falling to 0 along a cosine; binary cross-entropy of balanced batches.

    Attributes:
        num_epochs: of which validation chooses one.
        batch_size: items.
        learning_rate, weight_decay: of AdamW.
        seed: of the initial weights and of everything that is drawn.
        device: as torch names it; a GPU if there is one and it is empty.
    """

    num_epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0
    device: str = ""


def compute_items(
    release: str | Path,
    samples: Mapping[str, Row],
    compute: Compute,
    folder: Path,
    *,
    num_frames: int,
    subsets: Sequence[str] = BASELINE_SUBSETS,
    num_threads: int = 0,
    progress: ShowProgress = lambda done, total, name: None,
) -> Items:
    """Streams a release once and keeps what models see of it; goes on where it stopped.

    Args:
        release: a folder, or `REPO_ID` or `REPO_ID@REVISION`.
        samples: all of its rows, from `predictions.read_samples`; those without a fold are left out.
        compute: gives an array (T, ...) of one shape and type for the T frames of a row. Its source code and, of a
            `functools.partial`, its arguments decide whether items on disk are the same.
        folder: for `items.npy` and the list of finished samples, `items.jsonl`.
        num_frames: of each clip, spread over all of it; all frames of a shorter one.
        subsets: of the rows.
        num_threads: rows at once; 0 for one per processor.
        progress: called with how many samples are done, of how many, and the last one's name.

    Raises:
        TrainingError: too few folds have people, a row that `compute` cannot use, or other items are in the folder.
        PredictionError, VideoError: the release, or a clip in it, cannot be read.
    """
    chosen = {name: row for name, row in samples.items() if row["subset"] in subsets and row["fold"] is not None}
    existing_folds(list(chosen.values()))
    sampling = Evenly(num_frames)
    numbers = {name: sampling.numbers(int(row["num_frames"]), 0.0) for name, row in chosen.items()}
    starts = dict(zip(chosen, np.cumsum([0, *map(len, numbers.values())]).tolist(), strict=False))
    digest = release_digest(samples)
    described = _digest(digest, sorted(subsets), num_frames, _source(compute))
    folder.mkdir(parents=True, exist_ok=True)
    store = _Store(folder, described, sum(map(len, numbers.values())))
    progress(len(store.done), len(chosen), "")
    splits = {row["split"] for row in chosen.values()}
    rows = rows_with_media(release, splits, subsets, chosen.keys() - store.done)
    num_threads = num_threads or os.cpu_count() or 1
    with threadpool_limits(1), ThreadPoolExecutor(num_threads) as pool:  # libraries would start threads in each
        while batch := list(islice(rows, num_threads)):
            for row, values in zip(batch, pool.map(partial(_computed, compute, sampling), batch), strict=True):
                name = row["sample_id"]
                if len(values) != len(numbers[name]):
                    raise TrainingError(f"{name}: {len(values)} items of {len(numbers[name])} frames; give one of each")
                store.add(name, starts[name], values)
                progress(len(store.done), len(chosen), name)
    if missing := [name for name in chosen if name not in store.done]:
        raise TrainingError(f"{release}: {missing[0]} is in no shard of its subset; build the release again")
    sample = np.repeat(np.arange(len(chosen)), [len(found) for found in numbers.values()])
    frame = np.concatenate(list(numbers.values()))
    return Items(tuple(chosen.values()), sample, frame, store.values(), digest, described)


def existing_folds(rows: Sequence[Row]) -> tuple[int, ...]:
    """The folds that have real samples: one for each round.

    Raises:
        TrainingError: fewer than three, so that none is left for training, validation or test.
    """
    folds = tuple(sorted({row["fold"] for row in rows if row["label"] == LABELS[0]}))
    if len(folds) < 3:
        found = f"only in folds {', '.join(map(str, folds))}" if folds else "none"
        raise TrainingError(f"real samples: {found}; training, validation and test need three folds: add people")
    return folds


def rounds_of(rows: Sequence[Row], trained_on: str) -> list[Round]:
    """A round for each fold that has people: it is the test, the next one is validation, the others are for training.

    Raises:
        TrainingError: see `existing_folds`; or validation or training of a round has no fake of the method.
    """
    folds = existing_folds(rows)
    found = []
    for at, test in enumerate(folds):
        validation = folds[(at + 1) % len(folds)]
        train = tuple(fold for fold in folds if fold not in (test, validation))
        others = sorted({row["fold"] for row in rows} - set(folds)) if at == 0 else ()
        found.append(Round(trained_on, test, validation, train, tuple(others)))
    fakes = [row["fold"] for row in rows if row["label"] == LABELS[1] and trained_on in (ALL, row["method"])]
    for part in (part for one in found for part in ((one.validation,), one.train)):
        if not set(fakes) & set(part):
            place = f"fold {part[0]}" if len(part) == 1 else f"folds {', '.join(map(str, part))}"
            raise TrainingError(f"{trained_on}: {place} has no such fakes; train on others, or add people")
    return found


def balanced_weights(items: Items, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each of some items is drawn: float64 (M,), sum 1.

    Real and fake weigh the same in all, and so do the methods among the fakes, the samples of a method, and the items
    of a sample.
    """
    samples, num_items = np.unique(items.sample[members], return_counts=True)
    methods = np.array([items.rows[number]["method"] for number in samples])
    kinds, kind, num_samples = np.unique(methods, return_inverse=True, return_counts=True)
    shares = np.where(kinds == METHODS[0], max(1, len(kinds) - 1), 1.0)
    weights = (shares / num_samples)[kind] / num_items
    found = np.repeat(weights, num_items)  # members ascend, and so do their samples
    return np.asarray(found / found.sum())


def cross_validate(
    items: Items,
    make_model: Callable[[], nn.Module],
    settings: TrainSettings,
    out: Path,
    *,
    trained_on: Sequence[str] = TRAINED_ON,
    folds: Collection[int] = (),
    progress: ShowProgress = lambda done, total, name: None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, list[Path]]:
    """Trains a model for each method, for all together, and for each fold; goes on where it stopped.

    `out/METHOD/fold-N.parquet` has the predictions of the test fold N and of its validation fold: fold 0 is what
    `tooling evaluate` takes for the release's own splits. `fold-N.pt` beside it is the model's state, for
    `torch.load(path, weights_only=True)`. When every fold was the test once, `out/METHOD.parquet` has each sample once,
    from the model that has seen nobody of its fold.

    Args:
        items: from `compute_items`.
        make_model: a new model; it takes a batch of items, as they are stored, and gives a logit for each.
        settings: of every round.
        out: a folder.
        trained_on: of TRAINED_ON; those whose fakes some fold has none of are reported and left out.
        folds: test folds; all if empty.
        progress: called with how many epochs of a round are done, of how many, and how the last one went.
        report: takes a line about what is left out.

    Returns:
        Method -> its files: the one of all folds, or those of the chosen folds.

    Raises:
        TrainingError: too few folds have people, a file of other settings is in the way, or a model diverges.
    """
    present = existing_folds(items.rows)
    if len(present) < len(all_folds := sorted(chain(*SPLIT_FOLDS.values()))):
        absent = ", ".join(str(fold) for fold in all_folds if fold not in present)
        report(f"note: folds {absent} have no people; {len(present)} rounds instead of {len(all_folds)}")
    if unknown := [name for name in trained_on if name not in TRAINED_ON]:
        raise TrainingError(f"{unknown[0]}: cannot be trained on; choose from {', '.join(TRAINED_ON)}")
    found = {}
    for name in trained_on:
        try:
            rounds = [one for one in rounds_of(items.rows, name) if not folds or one.test in folds]
        except TrainingError as error:
            report(f"note: {error}")
            continue
        (out / name).mkdir(parents=True, exist_ok=True)
        files = [run_round(one, items, make_model, settings, out / name, progress=progress) for one in rounds]
        if len(rounds) == len(present):
            files = [_merge(rounds, files, items, out / f"{name}.parquet")]
        found[name] = files
    return found


def run_round(
    one: Round,
    items: Items,
    make_model: Callable[[], nn.Module],
    settings: TrainSettings,
    folder: Path,
    *,
    progress: ShowProgress = lambda done, total, name: None,
) -> Path:
    """Trains one model and writes its predictions, `fold-N.parquet`; kept if it is there. See `cross_validate`."""
    out = folder / f"fold-{one.test}.parquet"
    checkpoint = folder / f".fold-{one.test}.checkpoint"
    device = _device(settings)
    torch.manual_seed(settings.seed)
    model = make_model().to(device)
    described = {**asdict(one), **asdict(settings), "release": items.release, "items": items.described}
    described["model"] = _digest(_source(make_model), str(model))
    del described["device"]  # another one is a reason for other digits, but no other run
    described = json.loads(json.dumps(described))
    if out.exists():
        _check_described(out, read_settings(out), described)
        return out
    best = _train(one, items, model, settings, checkpoint, described, progress)
    model.load_state_dict(best["model"])
    chosen_on = items.of([one.validation], one.trained_on)
    is_fake, means = _sample_means(items, chosen_on, _logits(model, items, chosen_on, device))
    threshold = best_threshold(is_fake, means)
    assert threshold is not None, "validation of a round has real and fake samples"
    write_whole(out.with_suffix(".pt"), partial(torch.save, best["model"]))
    result = {"epoch": best["epoch"], "validation_auc": best["auc"], "threshold": threshold}
    for path, folds in ((_of_images(out), one.also_tested), (out, (one.test, one.validation))):
        if len(members := items.of(folds)):
            names = [items.rows[number]["sample_id"] for number in items.sample[members]]
            scores = _logits(model, items, members, device) - threshold
            write_predictions(path, names, items.frame[members], scores, {**described, **result})
    checkpoint.unlink(missing_ok=True)
    return out


def cross_table(
    files: Mapping[str, Sequence[Path]], samples: Mapping[str, Row], *, subsets: Collection[str] = BASELINE_SUBSETS
) -> str:
    """The table of video AUC with its interval, trained on by tested on, of all folds.

    Args:
        files: from `cross_validate`, with every fold.
        samples: all rows of the release.
        subsets: those that have predictions.

    Raises:
        PredictionError: a file that does not fit the release.
    """
    tested = next(split_of(row["fold"]) for row in samples.values() if row["fold"] is not None)
    read = [read_predictions(paths, samples, name=name, split=tested, subsets=subsets) for name, paths in files.items()]
    return "\n".join(format_matrix(method_matrix([evaluate(one, split=None) for one in read])))


def _train(
    one: Round,
    items: Items,
    model: nn.Module,
    settings: TrainSettings,
    checkpoint: Path,
    described: dict[str, Any],
    progress: ShowProgress,
) -> dict[str, Any]:
    """The best epoch on validation: its number from 1, AUC, loss and the model's state."""
    device = _device(settings)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    state: dict[str, Any] = {"described": json.dumps(described), "epoch": 0, "best": None}
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        _check_described(checkpoint, json.loads(state["described"]), described)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    members, judged = items.of(one.train, one.trained_on), items.of([one.validation], one.trained_on)
    weights, saved = balanced_weights(items, members), time.monotonic()
    for epoch in range(state["epoch"] + 1, settings.num_epochs + 1):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / settings.num_epochs)) / 2
        torch.manual_seed(settings.seed * 1_000_003 + epoch)  # a resumed run draws as one that was not stopped
        drawn = np.random.default_rng((settings.seed, epoch)).choice(members, len(members), p=weights)
        _train_epoch(model, optimizer, items, drawn, settings.batch_size, device)
        logits = _logits(model, items, judged, device)
        if not np.isfinite(logits).all():
            raise TrainingError(f"{one}: logits of epoch {epoch} are not finite; lower the learning rate")
        auc, loss = _judge(items, judged, logits)
        if state["best"] is None or (auc, -loss) > (state["best"]["auc"], -state["best"]["loss"]):
            kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
            state["best"] = {"epoch": epoch, "auc": auc, "loss": loss, "model": kept}
        state |= {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        if time.monotonic() - saved >= CHECKPOINT_SECONDS:
            write_whole(checkpoint, partial(torch.save, state))
            saved = time.monotonic()
        line = f"{one}: AUC on validation {auc:.3f}; best {state['best']['auc']:.3f} in epoch {state['best']['epoch']}"
        progress(epoch, settings.num_epochs, line)
    best: dict[str, Any] = state["best"]
    return best


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    items: Items,
    drawn: NDArray[np.int64],
    batch_size: int,
    device: torch.device,
) -> None:
    model.train()
    for numbers in np.array_split(drawn, math.ceil(len(drawn) / batch_size)):
        labels = torch.from_numpy(items.is_fake[items.sample[numbers]].astype(np.float32)).to(device)
        logits = _forward(model, items.values[numbers], device)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _forward(model: nn.Module, values: NDArray[Any], device: torch.device) -> torch.Tensor:
    batch = torch.from_numpy(np.asarray(values)).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits: torch.Tensor = model(batch)
    return logits.float().reshape(len(batch))


def _logits(model: nn.Module, items: Items, members: NDArray[np.int64], device: torch.device) -> NDArray[np.float64]:
    model.eval()
    with torch.inference_mode():
        parts = [
            _forward(model, items.values[members[start : start + EVALUATION_BATCH]], device).cpu().numpy()
            for start in range(0, len(members), EVALUATION_BATCH)
        ]
    return np.concatenate(parts).astype(np.float64)


def _sample_means(
    items: Items, members: NDArray[np.int64], logits: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of each sample that has items among the members: whether it is fake, and the mean of its logits."""
    samples, at = np.unique(items.sample[members], return_inverse=True)
    return items.is_fake[samples], np.bincount(at, logits) / np.bincount(at)


def _judge(items: Items, members: NDArray[np.int64], logits: NDArray[np.float64]) -> tuple[float, float]:
    """Mean over the methods of the video AUC against all real samples; cross-entropy of balanced samples."""
    is_fake, means = _sample_means(items, members, logits)
    methods = np.array([items.rows[number]["method"] for number in np.unique(items.sample[members])])
    aucs = []
    for method in set(methods[is_fake].tolist()):
        own = ~is_fake | (methods == method)
        found = curve_metrics(is_fake[own], means[own], np.ones((1, int(own.sum()))))
        aucs.append(float(found["video_auc"][0]))
    losses = np.logaddexp(0, np.where(items.is_fake[items.sample[members]], -logits, logits))
    return math.fsum(aucs) / len(aucs), float(losses @ balanced_weights(items, members))


def _device(settings: TrainSettings) -> torch.device:
    return torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _merge(rounds: Sequence[Round], files: Sequence[Path], items: Items, out: Path) -> Path:
    """Each sample once, from the round that tested on its fold."""
    fold_of = {row["sample_id"]: row["fold"] for row in items.rows}
    tables = [pq.read_table(_of_images(path)) for path in files if _of_images(path).exists()]
    for one, path in zip(rounds, files, strict=True):
        table = pq.read_table(path)
        tables.append(table.filter([fold_of[name] == one.test for name in table["sample_id"].to_pylist()]))
    names, frames, scores = (pa.concat_tables(tables)[key].to_pylist() for key in ("sample_id", "frame", "score"))
    numbers = {name: number for number, name in enumerate(fold_of)}
    order = sorted(range(len(names)), key=lambda at: (numbers[names[at]], frames[at]))
    described = {"trained_on": rounds[0].trained_on, "release": read_settings(files[0])["release"]}
    names, frames, scores = ([column[at] for at in order] for column in (names, frames, scores))
    write_predictions(out, names, frames, scores, described)
    return out


def _of_images(path: Path) -> Path:
    """The file of a round's `also_tested`, beside that of its test and validation."""
    return path.with_name(f"{path.stem}-images.parquet")


def _check_described(path: Path, written: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    if differing := [key for key in described if written.get(key) != described[key]]:
        raise TrainingError(f"{path}: is of a run with another {differing[0]}; name another folder or remove it")


def _computed(compute: Compute, sampling: Evenly, row: Row) -> NDArray[Any]:
    try:
        return compute(row, sampling)
    except (LookupError, TypeError, ValueError) as error:  # of code of a user
        problem = f"{type(error).__name__}: {one_line(error)}"
        raise TrainingError(f"{row['sample_id']}: cannot be used ({problem}); correct what computes items") from error


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _source(function: Callable[..., Any]) -> str:
    """Changes with the source code of a function and the arguments that are bound to it."""
    if isinstance(function, partial):
        return _digest(_source(function.func), function.args, sorted(function.keywords.items()))
    return _digest(inspect.getsource(function))


class _Store:
    """Items in a file, sample by sample: `items.npy`; beside it what they are, and which samples are finished.

    Raises:
        TrainingError: the folder has other items.
    """

    def __init__(self, folder: Path, described: str, num_items: int) -> None:
        self._path, self._log, self._num_items = folder / "items.npy", folder / "items.jsonl", num_items
        lines = [json.loads(line) for line in read_whole_lines(self._log)]
        if lines and lines[0] != described:
            problem = "has items of another release, with other settings or of other code"
            raise TrainingError(f"{folder}: {problem}; name another folder or remove it")
        if not lines:
            self._log.write_text(json.dumps(described) + "\n", encoding="utf-8")
        self.done = set(lines[1:])

    def add(self, sample_id: str, start: int, values: NDArray[Any]) -> None:
        """Writes the items of a sample, the first one at number `start`, and then that it is finished."""
        if not self.done:
            shape = (self._num_items, *values.shape[1:])
            np.lib.format.open_memmap(self._path, "w+", values.dtype, shape)  # writes the header
        there = self.values()
        if (values.dtype, values.shape[1:]) != (there.dtype, there.shape[1:]):
            problem = f"items of {values.shape[1:]} {values.dtype} after {there.shape[1:]} {there.dtype}"
            raise TrainingError(f"{sample_id}: {problem}; give all of one shape and type")
        with self._path.open("r+b") as file:  # a full disk is an error here, and would be a signal in mapped memory
            file.seek(there.offset + start * values[:1].nbytes)
            file.write(np.ascontiguousarray(values).data)
            file.flush()
            os.fsync(file.fileno())
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(sample_id) + "\n")
        self.done.add(sample_id)

    def values(self) -> np.memmap[Any, Any]:
        found: np.memmap[Any, Any] = np.load(self._path, mmap_mode="r")
        return found
