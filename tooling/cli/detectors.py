"""The commands of people who build detectors."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tooling import console
from tooling.cli.options import JsonOption, read_repo, split_names
from tooling.errors import UsageError
from tooling.workspace.locks import hold_output

if TYPE_CHECKING:
    from detection.exports import ExportResult
    from detection.scores import Evaluation

SPLITS = ("train", "validation", "test", "crossing", "all")
BENCHMARK = "deepfakebench"
NAMED_FILE = re.compile(r"(?P<name>[^=/\\]+)=(?P<path>.+)")
HEADINGS = ("frame AUC", "video AUC", "EER", "AP", "TPR@1%", "TPR@5%", "accuracy")
SHOWN = ("frame_auc", "video_auc", "eer", "ap", "tpr_at_fpr_1", "tpr_at_fpr_5", "accuracy")

ReleaseArgument = Annotated[str, typer.Argument(metavar="RELEASE", help="A folder, or OWNER/NAME@REVISION.")]
ExportArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or the same export, to go on.")]

export_app = typer.Typer(
    help="A release in the layouts that detectors of others read.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def score(
    release: ReleaseArgument,
    detector: Annotated[
        str, typer.Option(help="transformers:FOLDER_OR_REPO, or python:FILE.py:FUNCTION, which is run.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")] = Path("predictions.parquet"),
    split: Annotated[str, typer.Option(help="Splits, a,b; evaluate takes its threshold from validation.")] = "test",
    subsets: Annotated[str, typer.Option(help="Subsets, a,b; all if not given.")] = "",
    frames: Annotated[int, typer.Option(min=1, help="Frames of each clip, spread over all of it.")] = 32,
    crop: Annotated[
        float, typer.Option(min=0, help="Side of the square, in sides of the face; 0: whole frames.")
    ] = 1.3,
    size: Annotated[int, typer.Option(min=16, help="Shorter side of a frame, in pixels.")] = 224,
    degradation: Annotated[str, typer.Option(help="c23, c40, half_size, blur, jpeg or noise.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the degradation.")] = 0,
    fake_label: Annotated[str, typer.Option(help="Which label of a checkpoint means fake; guessed if not given.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...; a GPU if there is one.")] = "",
) -> None:
    """Run a detector over the rows of a release: predictions for `tooling evaluate`; goes on where it stopped."""
    from detection.degradations import DEGRADATIONS
    from detection.detectors import load_detector
    from detection.inference import InferenceSettings, score_release
    from detection.predictions import read_samples

    splits = SPLITS[:-1] if split == "all" else split_names(split)
    if unknown := [name for name in splits if name not in SPLITS]:
        raise UsageError(f"--split {unknown[0]}: no such split; use some of {', '.join(SPLITS)}")
    if degradation and degradation not in DEGRADATIONS:
        raise UsageError(f"--degradation {degradation}: no such degradation; use one of {', '.join(DEGRADATIONS)}")
    settings = InferenceSettings(splits, _subset_names(subsets), frames, crop or None, size, degradation, seed)
    place = _release_name(release)
    samples, loaded = read_samples(place), load_detector(detector, fake_label=fake_label, device=device)
    if loaded.note:
        console.say(f"note: {loaded.note}")
    with _alone(out), console.progress_bar("score") as bar:
        num_scored = score_release(place, samples, loaded, settings, out, progress=bar)
    console.put(f"{out}: {num_scored} samples scored")


def evaluate(
    predictions: Annotated[
        list[str],
        typer.Argument(help="CSV, Parquet or JSON lines: sample_id, score, frame. NAME=FILE says what is evaluated."),
    ],
    release: Annotated[str, typer.Option(help="The release: a folder, or OWNER/NAME@REVISION.")],
    split: Annotated[str, typer.Option(help=f"{', '.join(SPLITS)}.")] = "test",
    subsets: Annotated[str, typer.Option(help="The subsets that are predicted, a,b; all if not given.")] = "",
    compat: Annotated[str, typer.Option(help=f"{BENCHMARK}: also the numbers that it would give.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder for the numbers, plots and the model card's block.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of people for the intervals; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Score predictions against a release, strictly: by group, with intervals over people; several give a matrix."""
    from detection.predictions import read_predictions, read_samples
    from detection.scores import as_deepfakebench, format_matrix, method_matrix
    from detection.scores import evaluate as measure

    chosen = _subset_names(subsets)
    if split not in SPLITS:
        raise UsageError(f"--split {split}: no such split; use one of {', '.join(SPLITS)}")
    if compat not in ("", BENCHMARK):
        raise UsageError(f"--compat {compat}: no such benchmark; use {BENCHMARK}")
    files, place = _named_files(predictions), _release_name(release)
    samples, part = read_samples(place), None if split == "all" else split
    read = [read_predictions(paths, samples, name=name, split=part, subsets=chosen) for name, paths in files.items()]
    evaluations = []
    with console.progress_bar("evaluate") as bar:
        for number, one in enumerate(read):
            bar(number, len(read), one.name)
            evaluations.append(measure(one, split=part, num_resamples=resamples, seed=seed))
        bar(len(read), len(read), "")
    reports = {one.name: one.to_json() for one in evaluations}
    if compat:
        for one in read:
            reports[one.name]["compat"] = {BENCHMARK: as_deepfakebench(one, split=part)}
    result: dict[str, Any] = next(iter(reports.values()))
    if len(reports) > 1:
        result = {"evaluations": reports, "matrix": method_matrix(evaluations)}
    if out is not None:
        _write(out, result, read, evaluations, place)
    if as_json:
        console.put(console.to_json(result))
        return
    for evaluation in evaluations:
        _put_table(evaluation, reports[evaluation.name].get("compat", {}))
    if "matrix" in result:
        for line in format_matrix(result["matrix"]):
            console.put(line)
    if out is not None:
        console.put(str(out))


@export_app.command("deepfakebench")
def export_benchmark(
    release: ReleaseArgument,
    out: ExportArgument,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each clip, spread over all of it.")] = 32,
    root: Annotated[
        str, typer.Option(help="Where the benchmark will find Homologous_deepfake, seen from where it runs.")
    ] = "./datasets/rgb",
) -> None:
    """Write face crops and dataset_json for DeepfakeBench; goes on where it stopped."""
    from detection.exports import export_deepfakebench

    with _alone(out), console.progress_bar("export") as bar:
        result = export_deepfakebench(_release_name(release), out, num_frames=frames, root=root, progress=bar)
    _put_export(out, result, "frames and masks")


@export_app.command("faceforensics")
def export_forensics(
    release: ReleaseArgument,
    out: ExportArgument,
    compressions: Annotated[str, typer.Option(help="raw: the release's own files; c23, c40.")] = "raw,c23,c40",
) -> None:
    """Write clips and lists of pairs in the layout of FaceForensics++; goes on where it stopped."""
    from detection.exports import COMPRESSIONS, export_faceforensics

    chosen = split_names(compressions)
    if unknown := [name for name in chosen if name not in COMPRESSIONS]:
        raise UsageError(f"--compressions {unknown[0]}: no such compression; use some of {', '.join(COMPRESSIONS)}")
    with _alone(out), console.progress_bar("export") as bar:
        result = export_faceforensics(_release_name(release), out, compressions=chosen, progress=bar)
    _put_export(out, result, "clips and masks")


def _alone(out: Path) -> AbstractContextManager[None]:
    """While it is held, no other command writes the same file or folder."""
    return hold_output(out, f"{out}: another command is writing it; wait until it ends, or name another")


def _put_export(out: Path, result: ExportResult, things: str) -> None:
    for note in result.notes:
        console.say(f"note: {note}")
    if result.label_lines:
        console.put("label_dict:  # in training/config/train_config.yaml and test_config.yaml")
    for line in result.label_lines:
        console.put(line)
    console.put(f"{out}: {result.num_written} {things} written, {result.num_kept} kept")


def _subset_names(text: str) -> tuple[str, ...]:
    """The subsets in an option's value, in the order of the catalogue; all if it is empty."""
    from homologous_deepfake import SUBSETS

    chosen = split_names(text) or tuple(SUBSETS)
    if unknown := [name for name in chosen if name not in SUBSETS]:
        raise UsageError(f"--subsets {unknown[0]}: no such subset; use some of {', '.join(SUBSETS)}")
    return tuple(name for name in SUBSETS if name in chosen)


def _named_files(arguments: list[str]) -> dict[str, list[Path]]:
    """Files of each detector by name; without one, a file's own."""
    found: dict[str, list[Path]] = {}
    for argument in arguments:
        named = None if Path(argument).exists() else NAMED_FILE.fullmatch(argument)
        name, path = (named["name"], Path(named["path"])) if named else (Path(argument).stem, Path(argument))
        if not named and name in found:
            raise UsageError(f"{argument}: a second file of the name {name}; use NAME=FILE")
        found.setdefault(name, []).append(path)
    return found


def _release_name(text: str) -> str:
    if Path(text).is_dir():
        return text
    repo_id, revision = read_repo(text)
    return f"{repo_id}@{revision}" if revision else repo_id


def _write(out: Path, result: dict[str, Any], read: list[Any], evaluations: list[Evaluation], release: str) -> None:
    """evaluation.json, and for each detector model-index.yaml and plots: beside it, of several in folders."""
    import yaml

    from detection.plots import write_plots
    from detection.scores import model_index
    from tooling.workspace.files import write_text

    dataset = Path(release).resolve().name if Path(release).is_dir() else release
    for predictions, evaluation in zip(read, evaluations, strict=True):
        folder = out / evaluation.name if len(read) > 1 else out
        folder.mkdir(parents=True, exist_ok=True)
        block = {"model-index": model_index(evaluation, dataset=dataset)}
        write_text(folder / "model-index.yaml", yaml.safe_dump(block, sort_keys=False, allow_unicode=True))
        write_plots(predictions, folder, split=evaluation.split)
    write_text(out / "evaluation.json", console.to_json(result) + "\n")


def _put_table(evaluation: Evaluation, compat: dict[str, Any]) -> None:
    from detection.scores import with_interval

    console.put(f"{evaluation.name}, {evaluation.split or 'all splits'}")
    console.put(f"{'':<32}{'real':>6}{'fake':>6}" + "".join(f"{heading:>18}" for heading in HEADINGS))
    groups = {"overall": evaluation.overall}
    groups |= {f"{kind} {name}": numbers for kind, found in evaluation.by.items() for name, numbers in found.items()}
    for name, numbers in groups.items():
        cells = "".join(f"{with_interval(numbers, metric):>18}" for metric in SHOWN)
        console.put(f"{name:<32}{numbers['num_real']:>6}{numbers['num_fake']:>6}{cells}")
    overall = evaluation.overall
    rest = {"EER at the nearest point": "eer_nearest", "share of fakes": "prevalence", "threshold": "threshold"}
    console.put("; ".join(f"{text} {_rounded(overall[key])}" for text, key in rest.items()))
    for note in evaluation.notes:
        console.say(f"note: {note}")
    for benchmark, numbers in compat.items():
        keys = ("frame_auc", "eer", "ap", "video_auc")
        console.put(f"as {benchmark}: " + ", ".join(f"{key} {_rounded(numbers[key])}" for key in keys))
        for line in numbers["wrong"]:
            console.put(f"  {line}")


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
