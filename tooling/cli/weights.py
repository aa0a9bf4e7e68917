"""The commands of `tooling weights`: published weights of generators, listed, converted and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tooling import console
from tooling.cli.options import JsonOption
from tooling.errors import InputError

weights_app = typer.Typer(
    help="Published weights of generators: listed, converted once, checked.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@weights_app.command("list")
def list_weights(as_json: JsonOption = False) -> None:
    """List generators that need published weights: family, licence, files, and whether they are in weights/NAME."""
    rows = _rows()
    if as_json:
        console.put(console.to_json(rows))
        return
    for row in rows:
        state = "present" if row["is_present"] else "missing"
        console.put(f"{row['generator']}: {row['family']}, {state}, {row['folder']}")
        console.put(f"  licence: {row['licence']}")
        console.put(f"  files: {', '.join(row['files'])}")
        if row["other_files"]:
            console.put(f"  in addition, or instead of one of them: {', '.join(row['other_files'])}")
    if not rows:
        console.say("no generator needs published weights")


@weights_app.command()
def convert(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The generator, by its name in `weights list`.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="The published files, as downloaded.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="New folder; weights/NAME if not given.")] = None,
    origin: Annotated[str, typer.Option(help="Where the files are from; goes into provenance.json.")] = "",
) -> None:
    """Read published files without running code in them, and write them as a folder that generators load."""
    from generation.generators.conversion.convert import convert as convert_weights
    from generation.generators.registry import weights_folder

    folder = out or weights_folder(name)
    with console.progress_bar("convert"):
        is_new = convert_weights(name, files, folder, origin=origin)
    console.put(str(folder))
    if not is_new:
        console.say("it exists already, converted from the same files; nothing was changed")
    if is_new and not origin:
        console.say("note: provenance.json does not say where the files are from; --origin would")


@weights_app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR", help="A generator or a folder; all if not given.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Check converted weights: complete, unchanged since the conversion, exactly the expected tensors, no pickle."""
    from generation.generators.conversion.check import check_folder

    with console.progress_bar("check"):
        problems = {str(folder): check_folder(folder, name=generator) for folder, generator in _folders(name).items()}
    for lines in problems.values():
        for line in lines:
            console.fail(line)
    if as_json:
        console.put(console.to_json(problems))
    else:
        for folder, lines in problems.items():
            console.put(f"{folder}: {f'{len(lines)} problems' if lines else 'good'}")
    if any(problems.values()):
        raise typer.Exit(1)


def _folders(name: str) -> dict[Path, str]:
    """The folders to check, each with the generator that it should be for."""
    from generation.generators.registry import GENERATORS, weights_folder

    if name in GENERATORS:
        return {weights_folder(name): name}
    if name:
        return {Path(name): ""}
    present = {Path(row["folder"]): str(row["generator"]) for row in _rows() if row["is_present"]}
    if not present:
        raise InputError(
            "weights: no converted weights here; run `tooling weights convert NAME FILES`, or name a folder"
        )
    return present


def _rows() -> list[dict[str, Any]]:
    from generation.generators.registry import GENERATORS, weights_folder

    return [
        {
            "generator": name,
            "family": info.family,
            "licence": info.licence,
            "files": list(info.weights),
            "other_files": list(info.other_weights),
            "folder": str(weights_folder(name)),
            "is_present": (weights_folder(name) / "model_index.json").is_file(),
        }
        for name, info in GENERATORS.items()
        if info.weights
    ]
