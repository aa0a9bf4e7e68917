"""What tests run in processes of their own, to be killed; a light module, so that such a process starts fast."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from tooling.stages.pull.run import pull_release
from tooling.stages.push import read_back
from tooling.stages.push.prepare import PushOptions
from tooling.stages.push.run import push_release
from tooling.takedown.run import TakedownRequest, take_down
from tooling.views import contact_sheet
from tooling.workspace.layout import open_workspace

PRELOADED = [
    "tests.tooling.children",
    "tooling.takedown.run",
    "tooling.stages.card.run",
    "tooling.stages.push.run",
    "datasets",
]
STEPS = ("os.rename", "os.remove", "os.rmdir", "socket.sendto", "socket.connect")  # audit events
TILE_PX = 60  # of contact sheets, in the tests


def forking_context() -> Any:
    """Starts processes from one that has all this imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def use_hub(endpoint: str, token: str) -> None:
    """Points the client of this process to a Hub; it read its environment when it was imported."""
    os.environ["HF_TOKEN"] = token
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    constants.ENDPOINT = endpoint
    constants.HUGGINGFACE_CO_URL_TEMPLATE = endpoint + template
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True


def push_in_child(root: str, out: str, repo_id: str, endpoint: str, token: str) -> None:
    use_hub(endpoint, token)
    read_back.check_first_row = lambda *arguments: None
    push_release(open_workspace(Path(root)), Path(out), repo_id, PushOptions())


def pull_in_child(root: str, repo_id: str, endpoint: str, token: str) -> None:
    use_hub(endpoint, token)
    pull_release(repo_id, Path(root), num_workers=1)


def take_down_in_child(
    root: str, request: TakedownRequest, endpoint: str, token: str, kill_at: int, counter: Any
) -> None:
    """Takes down until just before the `kill_at`-th step that lasts; counts the steps."""
    use_hub(endpoint, token)
    contact_sheet.TILE_PX = TILE_PX

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS or (event == "open" and "w" in str(arguments[1])):
            counter.value += 1
            if counter.value == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    take_down(open_workspace(Path(root)), request)
