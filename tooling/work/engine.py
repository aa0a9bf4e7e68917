"""A function called on many items side by side, in worker processes or on Ray; results arrive as they finish."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tooling.errors import UsageError, WorkerError
from tooling.work.outcome import Outcome, outcome_of, use_one_thread
from tooling.workspace.layout import Workspace

ENGINES = re.compile(r"local|ray(:[^:/]+:[0-9]+)?")
MANAGER_SECONDS = 5.0  # for the thread of a stopped pool to end

Progress = Callable[[int, int, str], None]
"""Called with items done (kept ones too), items in all, and the name of the item that ended last, or else of what is
being done ("" if nothing needs to be said)."""


def no_progress(done: int, total: int, name: str) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class Engine:
    """Where items are worked on.

    Attributes:
        name: "local": worker processes of this machine. "ray:HOST:PORT": the Ray cluster at that address, of which this
            machine is one. "ray": that of RAY_ADDRESS, else one that runs on this machine, else a new one on it alone.
        uses_gpu: whether each worker is to have a GPU of the cluster; "local" leaves GPUs to the function.
        needed: files and folders beside the workspace that each machine of a cluster must have at the same path.

    Raises:
        UsageError: no such engine.
    """

    name: str = "local"
    uses_gpu: bool = False
    needed: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not ENGINES.fullmatch(self.name):
            raise UsageError(f"{self.name}: no such engine; use local, ray or ray:HOST:PORT")

    @property
    def is_ray(self) -> bool:
        return self.name.partition(":")[0] == "ray"

    @property
    def address(self) -> str:
        """Of the cluster; "" if none is named."""
        return self.name.partition(":")[2]


LOCAL = Engine()


def run_side_by_side(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    num_workers: int = 0,
    engine: Engine = LOCAL,
    workspace: Workspace | None = None,
) -> Iterator[Outcome]:
    """Calls a module-level function on every item in worker processes; yields outcomes as they end.

    Only a few items are in flight at a time, so memory does not grow with their number. If a worker dies (killed,
    out of memory), the items that were in flight are tried again, each alone; one whose worker dies again and again
    then ends with a WorkerError.

    Args:
        function: importable in another process.
        items: picklable.
        num_workers: processes; 0 takes one for each processor (of a cluster: of all its machines, or one for each GPU
            if the engine uses them), 1 works in this process.
        engine: where.
        workspace: in which the function works; each machine of a cluster must share it.

    Raises:
        UsageError, WorkspaceError, WorkerError: see `tooling.work.ray.run_on_ray`.
    """
    items = list(items)
    if engine.is_ray and items:
        from tooling.work.ray import run_on_ray

        where: dict[str, Any] = {"address": engine.address, "uses_gpu": engine.uses_gpu, "needed": engine.needed}
        yield from run_on_ray(function, items, num_workers, **where, workspace=workspace)
        return
    num_workers = min(num_workers or len(os.sched_getaffinity(0)), len(items))
    if num_workers <= 1:
        yield from (outcome_of(function, item) for item in items)
        return
    waiting: deque[Any] = deque(items)
    while waiting:
        lost = yield from _run_pool(function, waiting, num_workers)
        for item in lost:
            tries = 0
            while tries < 2 and (yield from _run_pool(function, deque([item]), 1)):
                tries += 1
            if tries == 2:
                error = WorkerError("its worker process died twice (killed or out of memory); try fewer --workers")
                yield Outcome(item, error=error)


def _run_pool(
    function: Callable[[Any], Any], waiting: deque[Any], num_workers: int
) -> Generator[Outcome, None, list[Any]]:  # returns the items lost with a dead worker
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_prepare_worker)
    running: dict[Future[Outcome], Any] = {}
    lost: list[Any] = []
    try:
        while (waiting or running) and not lost:
            while waiting and len(running) < num_workers + 1:
                item = waiting.popleft()
                with _interrupts_held():
                    running[pool.submit(outcome_of, function, item)] = item
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(item)
                else:
                    yield future.result()
        lost += running.values()
        if not lost:
            pool.shutdown()  # workers end by themselves and give back what they hold
    finally:
        _stop(pool)
    return lost


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds back for a moment what interrupts a command, so that no worker is started and not yet known.

    Workers that are started meanwhile never see Ctrl-C: a terminal sends it to all processes, and this one ends them.
    """
    held: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which workers inherit
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if is_main else ()  # only it can set handlers
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if held:
            signal.raise_signal(held[0])


def _stop(pool: ProcessPoolExecutor) -> None:
    processes, manager = list((pool._processes or {}).values()), pool._executor_manager_thread
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    if manager is not None:  # else it may close its pipe while the exit of the interpreter writes to it
        manager.join(MANAGER_SECONDS)  # type: ignore[attr-defined]  # typeshed names another class


def _prepare_worker() -> None:
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    use_one_thread()


def _end_with_parent() -> None:
    """Ends this worker when its parent is gone, however that ended: nobody would take its results."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
