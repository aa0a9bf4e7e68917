"""Commands that are killed at random moments and run again, and how what they leave is compared."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import RepoFile

from tests.flow.soak.running import offer, run
from tests.flow.soak.scene import RELEASE
from tests.hub.served import Served, check_store
from tests.workspaces import reproducible_state
from tooling.workspace.layout import open_workspace

REPO = "lab/REPO"  # the part after the slash is another one each time
OWN = re.compile(rb"\b[0-9a-f]{40}\b|lab/kills\d+")  # ids of commits, the repository's name


@dataclass(frozen=True)
class Job:
    """A command to be killed.

    Attributes:
        line: its arguments.
        needs: what of the scene it starts with.
        gone: what of that is removed first.
        is_offered: whether the release is at the Hub beforehand.
    """

    line: str
    needs: str
    gone: str = ""
    is_offered: bool = False


JOBS = {
    "ingest": Job("ingest sources -w empty -j 1", "sources empty"),
    "faces": Job("faces -w filmed -j 1", "filmed"),
    "plan": Job("plan --exclude swap_video/1_2 --reason x --prune", "workspace"),
    "generate": Job("generate edit_video -w filmed -j 1 --factor 0 --only age/1,age/2", "filmed"),
    "verify": Job("verify -j 1", "workspace", "workspace/verification.parquet"),
    "build": Job("build", f"workspace {RELEASE}", f"{RELEASE}/data/swap_video"),
    "card": Job("card", f"workspace {RELEASE}", f"{RELEASE}/README.md"),
    "push": Job(f"push {REPO}", f"workspace {RELEASE}"),
    "pull": Job(f"pull {REPO} -w new -j 1 --identities workspace/identities.csv", "workspace", is_offered=True),
    "takedown": Job(f"takedown 1 --yes --repo {REPO} --purge-history", f"workspace {RELEASE}", is_offered=True),
    "import": Job("import archive.zip -w waiting -j 1", "waiting archive.zip"),
}


class Kills:
    """Runs jobs below a folder, undisturbed once and killed as often as asked for."""

    def __init__(self, scene: Path, hub: Served, folder: Path, drawn: random.Random) -> None:
        self._scene, self._hub, self._folder, self._drawn = scene, hub, folder, drawn
        self._undisturbed: dict[str, tuple[Any, int, float]] = {}
        self._number = 0

    def kill(self, name: str) -> str:
        """What is wrong after a kill and a rerun; empty if nothing is."""
        if name not in self._undisturbed:
            folder, arguments = self._start(name)
            ended = run(folder, arguments, self._hub)
            assert ended.code == 0, ended.err
            self._undisturbed[name] = (self._state(folder, arguments), ended.num_steps, ended.seconds)
            shutil.rmtree(folder.parent)
        expected, num_steps, seconds = self._undisturbed[name]
        folder, arguments = self._start(name)
        moments: list[str] = []
        while not moments or self._drawn.random() < 0.2:
            is_step = self._drawn.random() < 0.7
            at = self._drawn.randint(1, num_steps) if is_step else 0
            after = 0.0 if is_step else self._drawn.uniform(0.02, seconds)
            moments.append(f"step {at} of {num_steps}" if is_step else f"{after:.2f} of {seconds:.2f} s")
            ended = run(folder, arguments, self._hub, kill_at=at, kill_after=after)
            if ended.code not in (0, -signal.SIGKILL):
                return f"{name}, killed at {', '.join(moments)}: {ended.code}, {ended.err}"
        ended = run(folder, arguments, self._hub)
        what = f"{name}, killed at {', '.join(moments)}"
        if ended.code != 0:
            return f"{what}: the rerun ends with {ended.code}, {ended.err}"
        found = self._state(folder, arguments)
        names = sorted(one for one in {*expected, *found} if expected.get(one) != found.get(one))
        if names:
            return f"{what}: {len(names)} files differ from an undisturbed run's: {', '.join(names[:5])}"
        shutil.rmtree(folder.parent)
        return ""

    def _start(self, name: str) -> tuple[Path, list[str]]:
        job, folder = JOBS[name], self._folder / f"{name}-{self._number}" / "job"
        folder.mkdir(parents=True)
        for top in {*job.needs.split(), *([RELEASE] if job.is_offered else [])}:
            source = self._scene / top
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / top)
        repo = f"lab/kills{self._number}"
        self._number += 1
        if job.is_offered:
            offer(self._hub, folder / RELEASE, repo)
        elif REPO in job.line:
            self._hub.api().create_repo(repo, repo_type="dataset")
        for path in (folder / gone for gone in job.gone.split()):
            (shutil.rmtree if path.is_dir() else os.unlink)(path)
        return folder, job.line.replace(REPO, repo).split()

    def _state(self, folder: Path, arguments: list[str]) -> dict[str, Any]:
        """All that every run ends with alike, at the Hub too: signatures and ids of commits are left out."""
        state: dict[str, Any] = {}
        for top in (path for path in folder.iterdir() if not path.name.endswith(".lock")):
            if (top / "workspace.toml").exists():
                state |= {f"{top.name}/{name}": one for name, one in reproducible_state(open_workspace(top)).items()}
                continue
            for path in [top] if top.is_file() else top.rglob("*"):
                if path.is_file():
                    state[path.relative_to(folder).as_posix()] = path.read_bytes()
        repo = next((one for one in arguments if one.startswith("lab/")), "")
        if repo:
            api = self._hub.api()
            refs = api.list_repo_refs(repo, repo_type="dataset")
            for ref in (*refs.branches, *refs.tags):
                tree = api.list_repo_tree(repo, repo_type="dataset", revision=ref.target_commit, recursive=True)
                state |= {f"{ref.ref}/{one.path}": one.blob_id for one in tree if isinstance(one, RepoFile)}
            check_store(self._hub.hub)
        texts = {name: one if isinstance(one, bytes) else repr(one).encode() for name, one in state.items()}
        return {name: OWN.sub(b"", one) for name, one in texts.items()}
