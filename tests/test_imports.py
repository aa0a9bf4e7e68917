"""The rules of the structure, read from the code: who may import whom, and how large things may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("tooling/**/*.py"), *ROOT.glob("generation/**/*.py"), ROOT / "homologous_deepfake.py"])
# The GPU side is for those who make, check or take in pixels and tracks; the card states licences. generation.errors
# is light and names the errors that commands turn into one line. A name stands for its parts too: importing_media.
GENERATION_USERS = (
    "ingest",
    "faces",
    "generate",
    "cli_generate",
    "cli_weights",
    "verify",
    "verification",
    "audit",
    "probes",
    "importing",
    "pull",
    "card",
    "papers",
    "contact_sheet",
    "previews",
    "provenance",
    "report",
    "actors",
)
# What stages stand on, what is typed and what is served knows files, records and repositories, but not which dataset
# they are of. All others, who make or read its rows, take subsets, columns and splits from the definition alone.
WITHOUT_DEFINITION = (
    *("errors", "settings", "records", "workspace", "engines", "console", "cli", "hub", "access"),
    *("archive", "remote", "release", "actors"),
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def is_of(name: str, modules: tuple[str, ...]) -> bool:
    """Whether a module of tooling is one of these, or a part of one: its name begins with theirs and "_" or "."."""
    rest = name.removeprefix("tooling.").removeprefix("stages.")
    return any(rest == module or rest.startswith((f"{module}_", f"{module}.")) for module in modules)


def stage_of(name: str) -> str:
    """The stage that a module below tooling.stages is, or is a part of: importing_media belongs to importing."""
    return name.split(".")[2].partition("_")[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    name = module_name(path)
    for imported in imports(path):
        top = imported.partition(".")[0]
        if name.startswith("generation"):
            assert top not in {"tooling", "typer", "datasets", "homologous_deepfake"}, imported
        if name.startswith("generation.models"):
            assert not imported.startswith(("generation.pipelines", "generation.media.reader")), imported
        if name.startswith("generation.pipelines"):
            assert not imported.startswith("generation.pipelines."), imported
        if name.startswith("tooling.stages."):
            is_other = imported.startswith("tooling.stages.") and stage_of(imported) != stage_of(name)
            assert not is_other, f"{name} imports the stage {imported}"
            assert not imported.startswith(("tooling.cli.app", "tooling.console")), imported
        if top == "generation" and not imported.startswith("generation.errors") and name.startswith("tooling"):
            assert is_of(name, GENERATION_USERS), f"{name} imports {imported}"
        if top == "homologous_deepfake":
            assert not is_of(name, WITHOUT_DEFINITION), f"{name} imports {imported}"
        if name == "homologous_deepfake":
            assert top in sys.stdlib_module_names | {"datasets"}, imported


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    cap = 600 if "models" in path.parts else 250 if path.name == "homologous_deepfake.py" else 400
    assert lines <= cap, f"{path.name} has {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            assert length <= 60, f"{path.name}: {node.name} has {length} lines"


def test_definition_is_scanned_by_old_readers_line_by_line() -> None:
    # datasets 3.6 finds a script's imports by a pattern that breaks on `import a, b`.
    for node in ast.walk(ast.parse((ROOT / "homologous_deepfake.py").read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Import) or len(node.names) == 1


def test_command_line_starts_without_heavy_libraries() -> None:
    code = "import sys, tooling.cli.app; print(*sorted({'torch', 'datasets', 'cv2', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
