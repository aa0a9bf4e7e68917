"""Commands run to their end, or killed, each in a process of its own; releases put into the Hub that they talk to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd

from tests.flow.soak.child import SECONDS, forking_context, run_in_child
from tests.hub.served import OWNER, Served

WALL_SECONDS = 10 * SECONDS  # where other work keeps the processors busy


@dataclass(frozen=True)
class Ended:
    """How a command ended; its code is None where it took too long, and negative where a signal ended it."""

    code: int | None
    out: str
    err: str
    seconds: float
    num_steps: int


def run(
    folder: Path, arguments: list[str], hub: Served | None = None, *, kill_at: int = 0, kill_after: float = 0.0
) -> Ended:
    """Runs a command in a folder.

    Args:
        folder: the current one of the command.
        arguments: of `tooling`.
        hub: what HF_ENDPOINT names.
        kill_at: the number of the lasting step before which it is killed; 0 for none.
        kill_after: seconds after which it is killed; 0 for never.
    """
    context = forking_context()
    counter, started = context.Value("i", 0), time.monotonic()
    given = (folder, arguments, (hub.endpoint, OWNER) if hub else None, kill_at, counter)
    process = context.Process(target=run_in_child, args=given)
    process.start()
    process.join(kill_after or WALL_SECONDS)
    is_hung = process.is_alive() and not kill_after
    process.kill()
    process.join()
    out, err = (_text(folder.parent / name) for name in ("out", "err"))
    seconds = time.monotonic() - started
    return Ended(None if is_hung else process.exitcode, out, err, seconds, counter.value)


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


def offer(hub: Served, release: Path, repo: str) -> None:
    """Puts a release into a new repository at the Hub, as somebody else would who checks nothing."""
    api = hub.api()
    api.delete_repo(repo, repo_type="dataset", missing_ok=True)
    api.create_repo(repo, repo_type="dataset")
    added = [
        CommitOperationAdd(path.relative_to(release).as_posix(), path) for path in release.rglob("*") if path.is_file()
    ]
    api.create_commit(repo, added, commit_message="Release", repo_type="dataset")
