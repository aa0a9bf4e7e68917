"""The rules of the structure, read from the code: who may import whom, and how full folders and functions may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("tooling", "generation", "detection")
FILES = sorted([ROOT / "homologous_deepfake.py", *(path for name in FOLDERS for path in ROOT.glob(f"{name}/**/*.py"))])
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

# A room may import itself, the rooms that its row names, and whatever these may import. "*" stands for each room or
# module of that level by itself: nothing goes sideways there. The files of a root are a room each in tooling, and one
# room in generation.
ROOMS = {
    "homologous_deepfake": "",
    "generation": "",
    "generation.media": "generation",
    "generation.weights": "generation",
    "generation.crops": "generation.media",
    "generation.faces": "generation.crops generation.weights",
    "generation.motion": "generation.crops",
    "generation.head": "generation.motion",
    "generation.quality": "generation.faces generation.head",
    "generation.generators": "generation.quality",
    "generation.generators.*": "generation.generators",
    "detection": "homologous_deepfake generation.media",
    "tooling": "",
    "tooling.errors": "generation",
    "tooling.settings": "tooling.errors",
    "tooling.workspace": "tooling tooling.settings homologous_deepfake",
    "tooling.remote": "tooling.workspace",
    "tooling.hub": "tooling.workspace",
    "tooling.marks": "tooling.workspace generation.media",
    "tooling.work": "tooling.marks",
    "tooling.release": "tooling.workspace tooling.remote",
    "tooling.console": "tooling.work",
    "tooling.views": "tooling.work tooling.release generation.faces",
    "tooling.actors": "tooling.work",
    "tooling.stages.*": "tooling.views generation.generators generation.generators.*",
    "tooling.takedown": "tooling.stages.*",
    "tooling.cli": "tooling.takedown tooling.actors tooling.hub tooling.console generation.generators.* detection",
}
# What only some may import, whatever the table says.
ONLY = {
    "generation.weights": ("generation.weights", "generation.faces.identity", "generation.generators."),
    "generation.generators": ("generation", "tooling.stages", "tooling.cli"),
    "typer": ("tooling.cli",),
    "rich": ("tooling.console",),
    "datasets": ("homologous_deepfake", "tooling", "detection"),
}
MOST_ENTRIES = 15
MOST_LINES = 60
# Names that modules of one root share, because they are the same part of rooms that are alike: the network of each
# generator, the run of each stage.
PARTS = {
    "generation": ("pipeline", "network", "layers", "convert", "loading", "edit", "swap"),
    "tooling": ("run",),
}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, as far as they are ours; the names of others as written."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in full)


def room_of(module: str) -> tuple[str, str]:
    """The room that a module is in, and the row of the table that speaks of it."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        room, parent = ".".join(parts[:end]), ".".join(parts[: end - 1])
        if room in ROOMS:
            return room, room
        is_file = end == len(parts) and MODULES[module].name != "__init__.py"
        if f"{parent}.*" in ROOMS and not (is_file and parent in ROOMS):
            return room, f"{parent}.*"
    raise AssertionError(f"{module} is in no room of the table")


@cache
def allowed(row: str) -> set[str]:
    """Rows of all rooms below a room."""
    found: set[str] = set()
    for name in ROOMS[row].split():
        found |= {name} | allowed(name)
    return found


def faults_of(name: str) -> Iterator[str]:
    """What a module imports against the rules."""
    room, row = room_of(name)
    for imported in imports(MODULES[name]):
        only = [users for what, users in ONLY.items() if f"{imported}.".startswith(f"{what}.")]
        if only and not name.startswith(only[0]):
            yield f"{name} imports {imported}, which only {only[0]} may"
        if imported not in MODULES or room == (other := room_of(imported))[0]:
            continue
        if other[1] not in allowed(row):
            yield f"{name} imports {imported}, which lies above it or beside it"


def test_imports_go_one_way() -> None:
    front_door = "generation"  # imports what is asked for when it is used
    assert [fault for name in MODULES if name != front_door for fault in faults_of(name)] == []


def test_the_definition_needs_the_standard_library_and_datasets_alone() -> None:
    found = list(imports(MODULES["homologous_deepfake"]))
    assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names | {"datasets"}
    # datasets 3.6 finds a script's imports by a pattern that breaks on `import a, b`.
    for node in ast.walk(parsed(MODULES["homologous_deepfake"])):
        assert not isinstance(node, ast.Import) or len(node.names) == 1


def test_no_imports_in_a_circle() -> None:
    below = {name: {other for other in imports(path) if other in MODULES} for name, path in MODULES.items()}
    while free := [name for name, others in below.items() if not others & below.keys()]:
        for name in free:
            del below[name]
    assert not below, f"these import each other: {', '.join(below)}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_imports_another(path: Path) -> None:
    """Fixtures are found by name; what else tests share is in modules that are not collected."""
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] != "tests" or not any(part.startswith("test_") or part == "conftest" for part in parts), name


def test_folders_stay_easy_to_survey() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    entries = defaultdict(set)
    for line in tracked.splitlines():
        for part in [path := Path(line), *path.parents][:-1]:
            if not part.name.startswith("."):
                entries[part.parent].add(part.name)
    assert {str(folder): len(found) for folder, found in entries.items() if len(found) > MOST_ENTRIES} == {}


@pytest.mark.parametrize("root", ["detection", "generation", "tooling"])
def test_no_two_modules_and_no_two_public_classes_have_one_name(root: str) -> None:
    modules, classes = defaultdict(set), defaultdict(set)
    for name, path in MODULES.items():
        if not name.startswith(f"{root}.") or path.name == "__init__.py":
            continue
        leaf = name.rpartition(".")[2]
        if leaf not in PARTS.get(root, ()):
            modules[leaf].add(name)
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].add(name)
    assert {leaf: names for leaf, names in modules.items() if len(names) > 1} == {}
    assert {name: where for name, where in classes.items() if len(where) > 1} == {}


def test_every_room_says_what_it_is_for() -> None:
    rooms = {name: ast.get_docstring(parsed(path)) for name, path in MODULES.items() if path.name == "__init__.py"}
    assert [name for name, text in rooms.items() if len((text or "").split()) < 8] == []


def test_functions_stay_readable() -> None:
    long = []
    for name, path in MODULES.items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                num_lines = (node.end_lineno or 0) - node.lineno + 1
                num_lines -= len((ast.get_docstring(node) or "").splitlines())
                long += [f"{name}: {node.name} has {num_lines} lines"] * (num_lines > MOST_LINES)
    assert long == []


def test_command_line_starts_without_heavy_libraries() -> None:
    shown = "print(*sorted({names} & set(sys.modules)))"
    code = f"import sys, tooling.cli.app; {shown.format(names={'torch', 'datasets', 'cv2', 'av'})}"
    # A run of `verify` after which nothing has changed, and one of `generate` with nothing to make
    code += f"; import tooling.stages.verify.run; {shown.format(names={'torch', 'cv2', 'av', 'scipy'})}"
    code += f"; import tooling.stages.generate.run; {shown.format(names={'torch', 'diffusers', 'transformers'})}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
