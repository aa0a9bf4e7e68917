"""Broken inputs over every command: one line, no crash, no hang, nothing written elsewhere, nothing half-written."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.flow.soak.cases import draw_cases, faults, files_below, prepare
from tests.flow.soak.child import SECONDS, forking_context, run_in_child
from tests.flow.soak.scene import RELEASE, make_scene
from tests.hub.served import OWNER, Served, served_hub
from tests.once import made_once
from tests.tooling.stages.generate.filmed import film_people

WALL_SECONDS = 10 * SECONDS  # where other work keeps the processors busy
FEW, MANY = 16, 240


@dataclass(frozen=True)
class Ended:
    code: int | None
    out: str
    err: str
    seconds: float


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    filmed = made_once(tmp_path_factory, "filmed", film_people)
    return made_once(tmp_path_factory, "soak_scene", lambda root: make_scene(root, filmed))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patched.setattr(constants, "HF_HUB_OFFLINE", False)
        with served_hub(tmp_path_factory.mktemp("hub")) as running:
            yield running


def run(folder: Path, arguments: list[str], hub: Served | None = None, **options: Any) -> Ended:
    """Runs a command to its end; one that takes too long is killed and has no code."""
    given = (folder, arguments, (hub.endpoint, OWNER) if hub else None)
    started = time.monotonic()
    process = forking_context().Process(target=run_in_child, args=given, kwargs=options)
    process.start()
    process.join(WALL_SECONDS)
    is_hung = process.is_alive()
    process.kill()
    process.join()
    texts = [
        path.read_text("utf-8", "replace") if (path := folder.parent / name).exists() else "" for name in ("out", "err")
    ]
    return Ended(None if is_hung else process.exitcode, *texts, time.monotonic() - started)


def test_broken_inputs_end_in_one_line(
    scene: Path, hub: Served, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--soak")
    found = {}
    for case in draw_cases(scene, seed or 0, FEW if seed is None else MANY):
        folder = tmp_path / case.number / "job"
        way = prepare(case, scene, folder)
        arguments = case.command.line.split()
        if arguments[0] == "pull":
            _offer(hub, folder / RELEASE, arguments[1])
        before = files_below(folder)
        ended = run(folder, arguments, hub)
        wrong = list(faults(case, folder, before, ended.code, ended.out, ended.err))
        if wrong:
            found[f"{case} ({way})"] = (wrong, ended.err[-4000:])
        if request.config.getoption("verbose") > 1:
            print(f"{case} ({way}): {ended.code} in {ended.seconds:.1f} s\n{ended.err[-600:]}", flush=True)
        shutil.rmtree(folder.parent)
    assert not found, "\n\n".join(f"{name}\n{'; '.join(wrong)}\n{err}" for name, (wrong, err) in found.items())


def _offer(hub: Served, release: Path, repo: str) -> None:
    """Puts a release into a new repository at the Hub, as somebody else would who checks nothing."""
    api = hub.api()
    api.delete_repo(repo, repo_type="dataset", missing_ok=True)
    api.create_repo(repo, repo_type="dataset")
    api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=release)
