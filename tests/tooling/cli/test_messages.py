"""Every command that a message names exists, with these options and arguments."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import generation
import homologous_deepfake
import tooling
from tooling.cli.app import app

ROOTS = [Path(package.__file__ or "").parent for package in (generation, tooling)]
TEXTS = (".jinja", ".toml")
NAMED = re.compile(r"(?:`|<code>)tooling ([^`<]+)(?:`|</code>)")


def strings(tree: ast.AST) -> Iterator[str]:
    """The texts of a module but for docstrings; what is filled in becomes X."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    parts = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr):
            parts.add(id(node.body[0].value))
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def named_commands() -> list[tuple[str, str]]:
    """File, and what follows `tooling` in a message of it."""
    paths = [path for root in ROOTS for path in sorted(root.rglob("*")) if path.suffix in (".py", *TEXTS)]
    found = set()
    for path in [*paths, Path(homologous_deepfake.__file__)]:
        text = path.read_text(encoding="utf-8")
        for line in [text] if path.suffix in TEXTS else strings(ast.parse(text)):
            found |= {(path.name, command) for command in NAMED.findall(line)}
    return sorted(found)


def problem_of(line: str) -> str:
    """Why a command line cannot be called; "" if it can."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)
    while commands := getattr(command, "commands", None):
        name = words.pop(0) if words else ""
        if name not in commands:
            return f"no command {name}"
        command = commands[name]
    if words == ["--help"]:
        return ""
    context = command.context_class(command)
    try:
        values, left, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:  # click's own, which typer keeps to itself
        return str(error)
    needed = [each.name for each in command.params if each.required and values.get(each.name) in (None, ())]
    return f"needs {needed[0]}" if needed else f"takes no {left[0]}" if left else ""


def test_messages_name_commands() -> None:
    found = named_commands()
    assert len(found) > 40
    assert {"plan --exclude X", "faces", "generate X"} <= {command for _, command in found}


@pytest.mark.parametrize(
    ("line", "problem"), [("plan --exclud X", "No such option"), ("generate", "needs subset"), ("fly", "no command")]
)
def test_a_command_that_cannot_be_called_is_found(line: str, problem: str) -> None:
    assert problem_of(line).startswith(problem)


@pytest.mark.parametrize(("file", "line"), named_commands())
def test_named_command_can_be_called(file: str, line: str) -> None:
    assert problem_of(line) == ""
