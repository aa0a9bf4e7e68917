"""The commands that make fakes and list the generators."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer

from tooling import console
from tooling.cli.options import WORKSPACE, EngineOption, JsonOption, WorkersOption, WorkspaceOption, split_names
from tooling.errors import UsageError
from tooling.work.engine import Engine
from tooling.workspace.layout import open_workspace


def generate(
    subset: Annotated[str, typer.Argument(help="avatarify_video, edit_video, swap_video, GAN_images, or all.")],
    workspace: WorkspaceOption = WORKSPACE,
    generator: Annotated[
        str, typer.Option(help="Name (see `tooling generators`), diffusers:FOLDER_OR_REPO or onnx:FILE.")
    ] = "",
    weights: Annotated[str, typer.Option(help="Folder of converted weights, or a repository at the Hub.")] = "",
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:1; on Ray, auto is cpu, and cuda a GPU each.")
    ] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    batch: Annotated[int, typer.Option(min=0, help="Frames at a time; 0 is the generator's default.")] = 0,
    factor: Annotated[float, typer.Option(help="Strength of an edit; a negative age makes younger.")] = 2.0,
    only: Annotated[
        str, typer.Option("--only", help="Only these, separated by commas: 1_2,2_1 or age/1,hair/1 or 000001.")
    ] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most this many of each subset; 0 is all.")] = 0,
    seed: Annotated[int, typer.Option(help="Other seeds make other fakes.")] = 0,
    workers: WorkersOption = 0,
    engine: EngineOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Make the planned fakes of one subset, or of all in the catalogue's order."""
    from generation.generators.registry import LoadOptions
    from homologous_deepfake import FAKES
    from tooling.stages.generate.run import GenerateRequest, generate_fakes

    if subset == "all" and (generator or weights or only):
        raise UsageError("all: takes each family's default; name one subset with --generator, --weights or --only")
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
