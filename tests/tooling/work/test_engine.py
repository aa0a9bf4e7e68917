"""Items run side by side, survive dead workers, and a killed run ends like an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.tooling.work.called import die_once, square
from tests.tooling.work.stage import NAMES, make_text, tasks
from tests.workspaces import reproducible_state
from tooling.errors import UsageError, WorkerError
from tooling.settings import Settings
from tooling.work.engine import Engine, run_side_by_side
from tooling.work.tasks import make_files
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import create_workspace, open_workspace


@pytest.mark.parametrize("num_workers", [1, 2])
def test_every_item_ends_once_with_value_or_error(num_workers: int) -> None:
    outcomes = {outcome.item: outcome for outcome in run_side_by_side(square, range(6), num_workers=num_workers)}
    assert {item: outcome.value for item, outcome in outcomes.items()} == {0: 0, 1: 1, 2: 4, 3: None, 4: 16, 5: 25}
    assert isinstance(outcomes[3].error, ValueError)


@pytest.mark.parametrize("name", ["", "Ray", "ray:", "ray:host", "ray://host:6379", "local:1", "slurm"])
def test_an_engine_that_there_is_not_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name}: no such engine; use local, ray or ray:HOST:PORT$"):
        Engine(name)


def test_ray_is_needed_only_where_there_is_work_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    engine = Engine("ray:10.0.0.1:6379")
    assert engine.address == "10.0.0.1:6379"
    assert list(run_side_by_side(square, [], engine=engine)) == []
    with pytest.raises(UsageError, match=r"^ray: not installed; install it with `pip install"):
        list(run_side_by_side(square, [1], engine=engine))


def test_a_pool_that_is_given_up_leaves_no_thread() -> None:
    """The exit of the interpreter would write to a pipe that such a thread is closing, and print that this failed."""
    before = set(threading.enumerate())
    for _ in range(4):
        outcomes = run_side_by_side(square, [0] * 50, num_workers=2)
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        assert set(threading.enumerate()) <= before


LEAK = """
import sys
sys.path.insert(0, {root!r})
from tests.tooling.work.called import hold_lock
from tooling.work.engine import run_side_by_side
if __name__ == "__main__":
    assert [outcome.error for outcome in run_side_by_side(hold_lock, range(4), num_workers=2)] == [None] * 4
"""


def test_workers_give_back_what_they_hold(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(LEAK.format(root=str(Path(__file__).parents[3])))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


SLEEP = """
import sys
sys.path.insert(0, {root!r})
from tests.tooling.work.called import sleep_long
from tooling.work.engine import run_side_by_side
if __name__ == "__main__":
    list(run_side_by_side(sleep_long, [{folder!r}] * 2, num_workers=2))
"""


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # ended, and nobody has asked how


def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    (started := tmp_path / "started").mkdir()
    script = tmp_path / "run.py"
    script.write_text(SLEEP.format(root=str(Path(__file__).parents[3]), folder=str(started)))
    parent = subprocess.Popen([sys.executable, str(script)])
    while len(workers := [int(path.name) for path in started.iterdir()]) < 2 and parent.poll() is None:
        time.sleep(0.01)
    assert all(map(is_running, workers))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10  # it takes milliseconds, but a test machine may be busy
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, workers))


def test_dead_workers_cost_only_the_item_that_kills_again(tmp_path: Path) -> None:
    items = [(str(tmp_path), number) for number in range(9)]
    outcomes = list(run_side_by_side(die_once, items, num_workers=2))
    assert sorted(outcome.item for outcome in outcomes) == items
    assert {outcome.item[1] for outcome in outcomes if outcome.error} == {7}
    assert all(isinstance(outcome.error, WorkerError) for outcome in outcomes if outcome.error)


def test_refused_item_does_not_stop_the_others(tmp_path: Path) -> None:
    place = create_workspace(tmp_path / "w", Settings())
    seen: list[tuple[int, int, str]] = []
    result = make_files(
        place,
        "raw_video",
        tasks(NAMES[:4], n2="bad"),
        make_text,
        num_workers=1,
        progress=lambda done, total, name: seen.append((done, total, name)),
    )
    assert result.refused == {"raw_video/2": "bad.mp4: is bad; mend it"}
    assert result.made == ["raw_video/1", "raw_video/3", "raw_video/4"]
    assert seen[0] == (0, 4, "")
    assert seen[-1] == (4, 4, "raw_video/4")
    seen.clear()
    again = make_files(
        place, "raw_video", tasks(NAMES[:4]), make_text, num_workers=1, progress=lambda *step: seen.append(step)
    )
    assert (again.made, sorted(again.kept)) == (["raw_video/2"], ["raw_video/1", "raw_video/3", "raw_video/4"])
    assert seen == [(3, 4, ""), (4, 4, "raw_video/2")]


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.tooling.work.stage import NAMES, make_text, tasks
from tooling.work.tasks import make_files
from tooling.workspace.layout import open_workspace
if __name__ == "__main__":
    place = open_workspace(Path({place!r}))
    with place.locked():
        make_files(place, "raw_video", tasks(NAMES), make_text, num_workers=2)
"""


def test_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    undisturbed = create_workspace(tmp_path / "undisturbed", Settings())
    make_files(undisturbed, "raw_video", tasks(NAMES), make_text, num_workers=1)
    place = create_workspace(tmp_path / "killed", Settings())
    script = tmp_path / "run.py"
    script.write_text(RUN.format(root=str(Path(__file__).parents[3]), place=str(place.root)))
    for num_made in (0, 4):
        slowly = os.environ | {"TEST_ITEM_SECONDS": "0.1"}
        process = subprocess.Popen([sys.executable, str(script)], env=slowly, start_new_session=True)
        staged = place.path(".staging/raw_video")
        while not (len(place.records("raw_video")) >= num_made and any(staged.glob("*"))) and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        records = open_workspace(place.root).records("raw_video")
        assert num_made <= len(records) < len(NAMES)
        assert all(file_sha256(place.path(record.path)) == record.sha256 for record in records.values())
    result = make_files(place, "raw_video", tasks(NAMES), make_text, num_workers=1)
    assert len(result.made) + len(result.kept) == len(NAMES)
    assert reproducible_state(place) == reproducible_state(undisturbed)
