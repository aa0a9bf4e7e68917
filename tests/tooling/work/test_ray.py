"""The engine Ray: outcomes as in worker processes, on machines that come and go; each machine here is one of processes.

Needs the extra `ray`, which the set-up leaves out.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.pages import DOCS, run_command
from tests.tooling.work.called import die_once, square, visible_gpus, where_loaded
from tests.tooling.work.stage import NAMES, make_text, tasks
from tests.workspaces import reproducible_state
from tooling.actors import SourceSettings, write_sources
from tooling.errors import UsageError, WorkerError, WorkspaceError
from tooling.settings import ClipSettings, Settings
from tooling.work.engine import Engine, run_side_by_side
from tooling.work.ray import SETTINGS
from tooling.work.tasks import make_files
from tooling.workspace.layout import Workspace, create_workspace, open_workspace

os.environ.update(SETTINGS)
ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one machine with one processor."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray")  # Ray's sockets need a short path
    read_by_items = {"TEST_ITEM_SECONDS": "0.3", "TEST_ITEM_LOG": f"{folder}/items"}
    with mock.patch.dict(os.environ, {"RAY_TMPDIR": folder} | read_by_items):
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        yield made
        ray.shutdown()
        made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def engine(cluster: Any) -> Engine:
    return Engine(f"ray:{cluster.address}")


@pytest.fixture
def second(cluster: Any) -> Iterator[Any]:
    """A second machine, with two processors and a GPU that Ray believes in."""
    machine = cluster.add_node(num_cpus=2, num_gpus=1)
    yield machine
    if machine in cluster.list_all_nodes():
        cluster.remove_node(machine)


def test_more_workers_than_processors_end_like_one(engine: Engine) -> None:
    outcomes = {outcome.item: outcome for outcome in run_side_by_side(square, range(6), num_workers=4, engine=engine)}
    assert {item: outcome.value for item, outcome in outcomes.items()} == {0: 0, 1: 1, 2: 4, 3: None, 4: 16, 5: 25}
    assert isinstance(outcomes[3].error, ValueError)


def test_dead_workers_cost_only_the_item_that_kills_again(engine: Engine, tmp_path: Path) -> None:
    items = [(str(tmp_path), number) for number in range(9)]
    outcomes = list(run_side_by_side(die_once, items, engine=engine))
    assert sorted(outcome.item for outcome in outcomes) == items
    assert {outcome.item[1] for outcome in outcomes if outcome.error} == {7}
    assert all(isinstance(outcome.error, WorkerError) for outcome in outcomes if outcome.error)


def test_each_worker_loads_once(engine: Engine, second: Any, tmp_path: Path) -> None:
    outcomes = list(run_side_by_side(where_loaded, [str(tmp_path)] * 30, num_workers=3, engine=engine))
    assert [outcome.error for outcome in outcomes] == [None] * 30
    loads = (tmp_path / "loads").read_text().splitlines()
    assert len(loads) == len(set(loads)) == 3
    assert {outcome.value for outcome in outcomes} <= set(loads)


def test_a_worker_has_the_gpu_that_ray_gives_it_and_no_other(engine: Engine, second: Any) -> None:
    def seen(engine: Engine, num_workers: int) -> set[str]:
        outcomes = run_side_by_side(visible_gpus, range(6), num_workers=num_workers, engine=engine)
        return {f"{outcome.value}{outcome.error or ''}" for outcome in outcomes}

    assert seen(engine, 3) == {""}
    for num_workers in (0, 2):  # one, and two that share it
        assert seen(replace(engine, uses_gpu=True), num_workers) == {"0"}


def test_a_cluster_without_gpu_is_named(engine: Engine) -> None:
    with pytest.raises(UsageError, match=r"^ray: the cluster has no GPU; use --device cpu$"):
        list(run_side_by_side(square, [1], engine=replace(engine, uses_gpu=True)))


def test_a_machine_without_the_workspace_is_named_before_any_work(engine: Engine, tmp_path: Path) -> None:
    """A path through a descriptor of this process leads nowhere in any other."""
    create_workspace(tmp_path / "w", Settings())
    descriptor = os.open(tmp_path, os.O_RDONLY)
    seen_here = Path(f"/proc/self/fd/{descriptor}/w")
    source = seen_here / "1.mp4"
    source.touch()
    steps: list[tuple[int, int, str]] = []
    try:
        with pytest.raises(WorkspaceError) as raised:
            make_files(
                Workspace(seen_here, Settings()),
                "raw_video",
                tasks(NAMES),
                make_text,
                engine=engine,
                progress=lambda *step: steps.append(step),
            )
        with pytest.raises(WorkspaceError, match=rf"^{source}: is not shared with "):
            list(run_side_by_side(square, [1], engine=replace(engine, needed=(source,))))
    finally:
        os.close(descriptor)
    machine = ray.nodes()[0]["NodeManagerAddress"]
    way_out = "mount the same folder at the same path on every machine"
    assert str(raised.value) == f"{seen_here}: is not shared with {machine}; {way_out}"
    assert steps == [(0, len(NAMES), "")]
    assert not list((tmp_path / "w" / ".staging").iterdir())


def test_a_machine_that_dies_costs_no_item_and_no_byte(
    cluster: Any, engine: Engine, second: Any, tmp_path: Path
) -> None:
    undisturbed = create_workspace(tmp_path / "undisturbed", Settings())
    make_files(undisturbed, "raw_video", tasks(NAMES), make_text, num_workers=1)
    place = create_workspace(tmp_path / "killed", Settings())
    steps: list[tuple[int, int, str]] = []
    log = Path(os.environ["TEST_ITEM_LOG"])

    def show(done: int, total: int, name: str) -> None:
        steps.append((done, total, name))
        if done == 3:  # while two of its workers are at work
            killing.start()

    killing = threading.Thread(target=cluster.remove_node, args=(second, False))
    log.write_text("")
    result = make_files(place, "raw_video", tasks(NAMES), make_text, num_workers=3, engine=engine, progress=show)
    assert (sorted(result.made), result.refused) == ([f"raw_video/{name}" for name in NAMES], {})
    assert [done for done, _, _ in steps] == list(range(len(NAMES) + 1))
    killing.join()
    assert second not in cluster.list_all_nodes()
    assert sorted(set(log.read_text().split())) == [f"raw_video/{name}.mp4" for name in NAMES]
    assert len(log.read_text().split()) > len(NAMES)  # some were made again
    assert reproducible_state(place) == reproducible_state(undisturbed)


def commands_of_page() -> dict[str, list[str]]:
    """The commands of the page on many machines by their first word, without the engine."""
    page = (DOCS / "many_machines.md").read_text(encoding="utf-8")
    lines = [line.split() for line in page.splitlines() if line.startswith("tooling") and "--engine ray" in line]
    return {line[1]: line[1 : line.index("--engine")] for line in lines}


def run_on(engine: str, folder: Path, command: list[str]) -> tuple[int, str]:
    ended = run_command(folder, *command, "--workers", "2", "--engine", engine)
    assert ended.code == 0 or command[0] in ("verify", "audit"), ended.err
    return ended.code, ended.out


def test_commands_make_the_same_files_as_here(engine: Engine, second: Any, tmp_path: Path) -> None:
    write_sources(tmp_path / "sources", SourceSettings(2, 0, 0.7, width_px=640, height_px=360))
    commands, states = commands_of_page(), []
    for name in ("local", engine.name):
        (folder := tmp_path / name.partition(":")[0]).mkdir()
        (folder / "sources").symlink_to(tmp_path / "sources")
        create_workspace(folder / "workspace", Settings(clip=ClipSettings(seconds=0.5, width_px=640, height_px=360)))
        for stage in ("ingest", "faces"):
            run_on(name, folder, commands[stage])
        assert run_command(folder, "plan").code == 0
        run_on(name, folder, [*commands["generate"], "--limit", "1"])
        states.append(reproducible_state(open_workspace(folder / "workspace")))
    local, on_ray = states
    assert {"swap_video/1_2", "tracks/2.json", "masters/1.mp4"} < local.keys() == on_ray.keys()
    assert [path for path in local if on_ray[path] != local[path]] == []


def test_checks_find_the_same_as_here(engine: Engine, second: Any, small_workspace: Workspace, tmp_path: Path) -> None:
    commands, found = commands_of_page(), []
    for name in ("local", engine.name):
        folder = tmp_path / name.partition(":")[0]
        shutil.copytree(small_workspace.root, folder / "workspace")
        printed = [run_on(name, folder, commands[stage]) for stage in ("verify", "audit")]
        found.append((printed, reproducible_state(open_workspace(folder / "workspace"))))
    (printed, files), (printed_by_ray, files_by_ray) = found
    assert printed_by_ray == printed
    assert {"verification.parquet", "audit.json", "audit_measured.jsonl"} < files.keys() == files_by_ray.keys()
    assert [path for path in files if files_by_ray[path] != files[path]] == []
