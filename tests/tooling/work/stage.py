"""A stage that makes a small clip for each name, and refuses one that it is given as bad."""

from __future__ import annotations

import os
import time
from pathlib import Path

from generation.media.writer import write_clip
from tests.workspaces import HEIGHT, WIDTH, moving_pattern
from tooling.errors import InputError
from tooling.work.tasks import Made, Task, finished_record, planned_record
from tooling.workspace.files import append_line
from tooling.workspace.layout import Workspace

NAMES = [str(number) for number in range(1, 9)]


def make_text(workspace: Workspace, task: Task) -> Made:
    if task.work == "bad":
        raise InputError("bad.mp4: is bad; mend it")
    if log := os.environ.get("TEST_ITEM_LOG"):
        append_line(Path(log), task.planned.path)
    time.sleep(float(os.environ.get("TEST_ITEM_SECONDS", "0")))
    staged = workspace.staging_path(task.planned.path)
    write_clip(staged, moving_pattern(WIDTH, HEIGHT, sum(task.planned.sample_id.encode())))
    files = {task.planned.path: staged}
    return Made(finished_record(task.planned, files, width=2, height=2, fps=30.0, num_frames=1), files)


def tasks(names: list[str], **work: str) -> list[Task]:
    return [
        Task(planned_record(f"raw_video/{name}", f"raw_video/{name}.mp4", {}, "test", {}), work.get(f"n{name}"))
        for name in names
    ]
