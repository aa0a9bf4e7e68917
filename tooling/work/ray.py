"""The same work on a Ray cluster. Ray is an extra, imported only when requested.

Plain tasks, not a pool of actors: a pool that takes every processor deadlocks on a small machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tooling.errors import UsageError, WorkerError

NUM_TRIES = 3  # of an item whose worker dies


def run_on_ray(
    function: Callable[[Any], Any], items: Sequence[Any], num_workers: int
) -> Iterator[tuple[Any, Any, Exception | None]]:
    """Calls a module-level function on every item; yields item, value and error as they end.

    Args:
        function: importable on every machine of the cluster, with the workspace at the same path.
        items: all of them.
        num_workers: at most so many at a time; 0 takes one for each processor of the cluster.

    Raises:
        UsageError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        way_out = "install it with `pip install 'homologous-deepfake[ray]'`, or use --engine local"
        raise UsageError(f"ray: not installed; {way_out}") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    task = ray.remote(num_cpus=1, max_retries=NUM_TRIES - 1)(function)
    most = num_workers or int(ray.cluster_resources().get("CPU", 1))
    waiting = list(items)[::-1]
    running: dict[Any, Any] = {}
    while waiting or running:
        while waiting and len(running) < most:
            item = waiting.pop()
            running[task.remote(item)] = item
        (done,), _ = ray.wait(list(running), num_returns=1)
        item = running.pop(done)
        try:
            yield item, ray.get(done), None
        except ray.exceptions.RayTaskError as error:
            yield item, None, error.as_instanceof_cause() if not isinstance(error.cause, Exception) else error.cause
        except ray.exceptions.RayError:
            yield item, None, WorkerError(f"its worker died {NUM_TRIES} times (killed or out of memory)")
