"""The same work on a Ray cluster. Ray is an extra, imported only when requested.

Each worker is an actor: one process that takes one item after the other, so that a model is loaded once in it, and
that keeps the GPU which Ray assigned to it. (Ray ends a task's process after each task that has a GPU.) An item goes
only to an actor that has started. So actors may be more than the cluster has room for, and an item whose actor died
waits for no restart while other actors hold every processor.
"""

from __future__ import annotations

import math
import os
import secrets
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tooling import __version__
from tooling.errors import UsageError, WorkerError, WorkspaceError, listed
from tooling.work.outcome import Outcome, outcome_of, use_one_thread
from tooling.workspace.layout import Workspace

CONNECT_SECONDS = 10.0
NUM_TRIES = 3  # of an item whose worker dies, and of starting a worker
# Read by Ray when it is imported: it prints nothing to stdout, which is for data, and reports nothing to its makers.
SETTINGS = {"RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_USAGE_STATS_ENABLED": "0"}
MOST_NAMED = 3  # machines in a message


def run_on_ray(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    num_workers: int,
    *,
    address: str = "",
    uses_gpu: bool = False,
    needed: Sequence[Path] = (),
    workspace: Workspace | None = None,
) -> Iterator[Outcome]:
    """Calls a module-level function on every item; yields outcomes as they end.

    Args:
        function: importable on every machine of the cluster.
        items: all of them.
        num_workers: at most so many at a time; 0 takes one for each processor of the cluster, or for each of its GPUs.
        address: see `tooling.work.engine.Engine`.
        uses_gpu: gives each worker a GPU, or an equal share of one where there are fewer GPUs than `num_workers`.
        needed: files and folders that every machine must have at the same path.
        workspace: a folder that every machine must share.

    Raises:
        UsageError: Ray is not installed, there is no cluster at the address, or no GPU in it.
        WorkspaceError: a machine does not share the workspace, or does not have a file.
        WorkerError: a machine has another version of this program, or no worker can be started.
    """
    ray = _connected(address)
    cluster = ray.cluster_resources()
    num_gpus = int(cluster.get("GPU", 0))
    if uses_gpu and not num_gpus:
        raise UsageError("ray: the cluster has no GPU; use --device cpu")
    num_workers = num_workers or (num_gpus if uses_gpu else int(cluster.get("CPU", 1))) or 1
    share = 1 / math.ceil(num_workers / num_gpus) if uses_gpu else 0
    with _token(workspace) as token:
        paths = {str(path.absolute()): str(path) for path in needed}
        if workspace is not None:
            paths[str(token)] = str(workspace.root)
        _check_machines(ray, paths)
        actor = ray.remote(num_cpus=1, num_gpus=share)(_Worker)
        pool = _Pool(ray, lambda: actor.remote(os.getcwd()), paths)
        yield from pool.run(function, items, num_workers)


class _Worker:
    """What an actor is."""

    def __init__(self, folder: str) -> None:
        import ray

        use_one_thread()
        if not ray.get_gpu_ids():  # Ray hides the GPUs of others only from actors that have one
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        with suppress(OSError):  # paths on the command line are relative to it
            os.chdir(folder)

    def find_missing(self, paths: list[str]) -> list[str]:
        return _find_missing(paths)

    def work(self, function: Callable[[Any], Any], item: Any) -> tuple[Any, Exception | None]:
        outcome = outcome_of(function, item)
        return outcome.value, outcome.error


class _Pool:
    """Actors that are starting, idle and at work; `start` makes one, `paths` are what each must see: path -> shown."""

    def __init__(self, ray: Any, start: Callable[[], Any], paths: dict[str, str]) -> None:
        self._ray, self._start, self._paths = ray, start, paths
        self._starting: dict[Any, Any] = {}  # reference -> actor
        self._running: dict[Any, tuple[Any, int]] = {}  # reference -> actor, number of the item
        self._idle: list[Any] = []
        self._num_failed = 0  # starts since the last one that worked

    def run(self, function: Callable[[Any], Any], items: Sequence[Any], num_workers: int) -> Iterator[Outcome]:
        waiting, tries = deque(range(len(items))), Counter[int]()
        try:
            while waiting or self._running:
                self._fill(num_workers, len(waiting))
                while self._idle and waiting:
                    actor, number = self._idle.pop(), waiting.popleft()
                    self._running[actor.work.remote(function, items[number])] = actor, number
                (done,), _ = self._ray.wait([*self._starting, *self._running])
                if done in self._starting:
                    self._take_in(done)
                    continue
                actor, number = self._running.pop(done)
                outcome = self._outcome(done, items[number])
                if outcome is not None:
                    self._idle.append(actor)
                    yield outcome
                    continue
                self._end(actor)
                tries[number] += 1
                if tries[number] < NUM_TRIES:
                    waiting.appendleft(number)
                else:
                    what = f"its worker died {NUM_TRIES} times (killed or out of memory); try fewer --workers"
                    yield Outcome(items[number], error=WorkerError(what))
        finally:
            for actor in (*self._starting.values(), *self._idle, *(actor for actor, _ in self._running.values())):
                self._end(actor)

    def _fill(self, num_workers: int, num_waiting: int) -> None:
        """Starts actors for what is waiting, and ends those for which nothing is left: others may need their place."""
        while self._idle and len(self._idle) > num_waiting:
            self._end(self._idle.pop())
        num_actors = len(self._starting) + len(self._idle) + len(self._running)
        num_useful = len(self._running) + num_waiting
        for _ in range(num_actors, min(num_workers, num_useful)):
            actor = self._start()
            self._starting[actor.find_missing.remote(list(self._paths))] = actor

    def _take_in(self, started: Any) -> None:
        actor = self._starting.pop(started)
        try:
            missing = self._ray.get(started)
        except self._ray.exceptions.RayError as error:
            self._num_failed += 1
            if self._num_failed == NUM_TRIES:
                raise WorkerError(f"ray: no worker can be started ({_last_line(error)}); see Ray's logs") from error
            return
        if missing:  # a machine that joined later
            raise WorkspaceError(_not_shared(self._paths[missing[0]], ["a machine that joined the cluster"]))
        self._num_failed = 0
        self._idle.append(actor)

    def _outcome(self, done: Any, item: Any) -> Outcome | None:
        """None if the actor died."""
        try:
            value, error = self._ray.get(done)
        except self._ray.exceptions.RayTaskError as failure:  # what cannot be sent back
            return Outcome(item, error=WorkerError(f"its result cannot be sent ({_last_line(failure)})"))
        except self._ray.exceptions.RayError:
            return None
        return Outcome(item, value, error)

    def _end(self, actor: Any) -> None:
        self._ray.kill(actor)


def _connected(address: str) -> Any:
    """The module `ray`, connected to a cluster."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        way_out = "install it with `pip install 'homologous-deepfake[ray]'`, or use --engine local"
        raise UsageError(f"ray: not installed; {way_out}") from error
    if ray.is_initialized():
        return ray
    handler = signal.getsignal(signal.SIGTERM)
    named = address or os.environ.get("RAY_ADDRESS", "")
    host, colon, port = named.rpartition(":")
    try:
        if colon and port.isdigit() and "/" not in host:  # else Ray tries for two minutes
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address or None, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        way_out = "name one that runs, HOST:PORT as `ray start` prints it, from a machine that belongs to it"
        raise UsageError(f"ray: no cluster to be used at '{named}' ({_last_line(error)}); {way_out}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own
    return ray


@contextmanager
def _token(workspace: Workspace | None) -> Iterator[Path | None]:
    """A new file in the workspace, by which another machine is known to have the very same folder."""
    if workspace is None:
        yield None
        return
    path = workspace.staging_path(f"ray-{secrets.token_hex(8)}")
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _check_machines(ray: Any, paths: dict[str, str]) -> None:
    """Looks at every machine that takes work, before there is any.

    Args:
        ray: the module, connected.
        paths: what each machine must have -> how it is shown.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    machines = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            machines[look.options(scheduling_strategy=there).remote(list(paths))] = node["NodeManagerAddress"]
    without: dict[str, list[str]] = {}
    for seen, machine in machines.items():
        try:
            version, missing = ray.get(seen)
        except ray.exceptions.RayError as error:
            way_out = f"install homologous-deepfake {__version__} there, or take the machine out of the cluster"
            raise WorkerError(f"ray: machine {machine} cannot work ({_last_line(error)}); {way_out}") from error
        if version != __version__:
            raise WorkerError(f"ray: machine {machine} has version {version} of this program; install {__version__}")
        for path in missing:
            without.setdefault(paths[path], []).append(machine)
    for shown, names in without.items():
        raise WorkspaceError(_not_shared(shown, names))


def _look(paths: list[str]) -> tuple[str, list[str]]:
    return __version__, _find_missing(paths)


def _find_missing(paths: list[str]) -> list[str]:
    return [path for path in paths if not os.path.exists(path)]


def _not_shared(path: str, machines: Sequence[str]) -> str:
    named = listed(sorted(set(machines)), MOST_NAMED)
    return f"{path}: is not shared with {named}; mount the same folder at the same path on every machine"


def _last_line(error: BaseException) -> str:
    """What Ray's own message, which ends with a traceback's last line, says in the end."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
