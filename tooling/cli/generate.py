"""The commands that make fakes and list the generators."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_args

import typer

from tooling import console
from tooling.cli.options import (
    WORKSPACE,
    EngineOption,
    JsonOption,
    WorkersOption,
    WorkspaceOption,
    read_repo,
    split_names,
)
from tooling.errors import UsageError
from tooling.work.engine import Engine
from tooling.workspace.layout import open_workspace

SubsetArgument = Annotated[str, typer.Argument(help="avatarify_video, edit_video, swap_video, GAN_images, or all.")]
GeneratorOption = Annotated[
    str, typer.Option(help="Name (see `tooling generators`), diffusers:FOLDER_OR_REPO or onnx:FILE.")
]
WeightsOption = Annotated[str, typer.Option(help="Folder of converted weights, or a repository at the Hub.")]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda or cuda:1; on Ray, auto is cpu, and cuda a GPU for each worker.")
]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
BatchOption = Annotated[int, typer.Option(min=0, help="Frames at a time; 0 is the generator's default.")]
FactorOption = Annotated[float, typer.Option(help="Strength of an edit; a negative age makes younger.")]
OnlyOption = Annotated[
    str, typer.Option("--only", help="Only these, separated by commas: 1_2,2_1 or age/1,hair/1 or 000001.")
]
LimitOption = Annotated[int, typer.Option(min=0, help="At most this many of each subset; 0 is all.")]
PrivateRepoArgument = Annotated[
    str, typer.Argument(metavar="REPO_ID", help="Private repository of a release, OWNER/NAME or OWNER/NAME@REVISION.")
]
SoftwareOption = Annotated[
    str | None, typer.Option(help='What pip installs there; this version if not given, "" if the image has all.')
]
SeedOption = Annotated[int, typer.Option(help="Other seeds make other fakes.")]


def generate(
    subset: SubsetArgument,
    workspace: WorkspaceOption = WORKSPACE,
    generator: GeneratorOption = "",
    weights: WeightsOption = "",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch: BatchOption = 0,
    factor: FactorOption = 2.0,
    only: OnlyOption = "",
    limit: LimitOption = 0,
    seed: SeedOption = 0,
    workers: WorkersOption = 0,
    engine: EngineOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Make the planned fakes of one subset, or of all in the catalogue's order."""
    from generation.generators.registry import LoadOptions
    from homologous_deepfake import FAKES
    from tooling.stages.generate.run import GenerateRequest, generate_fakes

    _check_all(subset, generator, weights, only)
    options = LoadOptions(weights or None, device, dtype, batch)
    names = list(split_names(only)) or None
    request = GenerateRequest(generator or None, names, limit or None, seed, factor, options, Engine(engine))
    opened, is_refused = open_workspace(workspace), False
    with opened.locked():
        for name in FAKES if subset == "all" else (subset,):
            with console.progress_bar(name) as bar:
                result = generate_fakes(opened, name, request, num_workers=workers, progress=bar)
            console.put_result(name, result, as_json=as_json)
            is_refused |= bool(result.refused)
    if is_refused:
        raise typer.Exit(1)


def jobs(
    subset: SubsetArgument,
    repo: PrivateRepoArgument,
    workspace: WorkspaceOption = WORKSPACE,
    generator: GeneratorOption = "",
    weights: Annotated[str, typer.Option(help="Repository of converted weights at the Hub.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: DtypeOption = "auto",
    batch: BatchOption = 0,
    factor: FactorOption = 2.0,
    only: OnlyOption = "",
    limit: LimitOption = 0,
    seed: SeedOption = 0,
    workers: WorkersOption = 0,
    branch: Annotated[str, typer.Option(help="Branch for the fakes; job-SUBSET if not given.")] = "",
    flavor: Annotated[str, typer.Option(help="Machine, as `hf jobs hardware` lists them.")] = "cpu-upgrade",
    timeout: Annotated[str, typer.Option(help="Ends the job: 90m, 6h or 1d; nothing is pushed then.")] = "6h",
    namespace: Annotated[str, typer.Option(help="User or organisation that pays; the token's user if not given.")] = "",
    image: Annotated[str, typer.Option(help="Docker image with Python, derived from Debian.")] = "python:3.12",
    software: SoftwareOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job; send nothing.")] = False,
) -> None:
    """Make fakes of a pushed release in a job at Hugging Face; they come back on a branch of its repository."""
    from tooling.stages.generate.job import SOFTWARE, JobRequest, check_names, prepare_job, submit_job

    _check_all(subset, generator, weights, only)
    check_names(subset, generator, weights)
    repo_id, revision = read_repo(repo)
    arguments = _typed(
        generator=generator,
        weights=weights,
        device=device,
        dtype=dtype,
        batch=batch,
        factor=factor,
        only=only,
        limit=limit,
        seed=seed,
        workers=workers,
    )
    request = JobRequest(
        arguments=[subset, *arguments],
        repo_id=repo_id,
        revision=revision or None,
        branch=branch or f"job-{subset}",
        image=image,
        software=SOFTWARE if software is None else software,
        flavor=flavor,
        timeout=timeout,
        namespace=namespace or None,
    )
    job = prepare_job(open_workspace(workspace), request)
    if dry_run:
        console.put(str(job))
        return
    sent = submit_job(job)
    console.put(sent.url)
    console.say(
        f"its log: hf jobs logs {sent.id}; its fakes when it has ended: tooling pull {repo_id}@{request.branch}"
    )


def _typed(**options: object) -> list[str]:
    """Options of `generate` as they are typed; those that have its default are left out."""
    parameters = inspect.signature(generate).parameters
    return [f"--{name}={value}" for name, value in options.items() if value != parameters[name].default]


def _check_all(subset: str, generator: str, weights: str, only: str) -> None:
    if subset == "all" and (generator or weights or only):
        raise UsageError("all: takes each family's default; name one subset with --generator, --weights or --only")


def generators(as_json: JsonOption = False) -> None:
    """List the generators: family, licence, weights needed and present, and what each was checked against."""
    from generation.generators.registry import GENERATORS, SCHEMES, Family, generators_of, weights_folder

    rows: list[dict[str, Any]] = []
    for name in (name for family in get_args(Family) for name in generators_of(family)):
        info = GENERATORS[name]
        present = not info.weights or (weights_folder(name) / "model_index.json").is_file()
        rows.append(
            {
                "name": name,
                "family": info.family,
                "is_default": generators_of(info.family)[0] == name,
                "licence": info.licence,
                "weights": list(info.weights),
                "has_weights": present,
                "checked": info.checked,
            }
        )
    if as_json:
        console.put(console.to_json(rows))
        return
    for row in rows:
        state = (
            "needs no weights" if not row["weights"] else "weights present" if row["has_weights"] else "weights missing"
        )
        default = ", default" if row["is_default"] else ""
        console.put(f"{row['name']}   {row['family']}{default}   {state}")
        if row["weights"]:
            console.put(f"    weights: {', '.join(row['weights'])}")
        console.put(f"    licence: {row['licence']}")
        console.put(f"    checked: {row['checked'] or 'nothing yet'}")
    for scheme in SCHEMES:
        console.put(f"{scheme}:PATH   named by its path or repository; see `tooling generate --help`")
