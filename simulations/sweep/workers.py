"""Runs side by side, each in a process of its own that neither outlives the sweep nor ends it. Imports little."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

from fedward.errors import RunFailedError

Key = TypeVar("Key")
Found = TypeVar("Found")


class WorkerLostError(RunFailedError, code="FW-RUN-012"):
    """A process of a sweep was ended from outside, and with it the runs that were under way."""


def side_by_side(
    jobs: int, work: Callable[..., Found], arguments: Mapping[Key, tuple[object, ...]]
) -> Iterator[tuple[Key, Found | WorkerLostError]]:
    """Calls ``work``, a function of a module, with each of ``arguments`` in ``jobs`` processes; yields as they end."""
    # Spawned: a fork would copy the threads' locks of numerical libraries in whatever state they are.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        running: dict[Future[Found], Key] = {pool.submit(work, *each): key for key, each in arguments.items()}
        try:
            for future in as_completed(running):
                try:
                    yield running[future], future.result()
                except BrokenProcessPool:  # the pool gives up all that is not finished
                    yield running[future], WorkerLostError("A process of the sweep was ended from outside.")
        finally:
            for future in running:
                future.cancel()


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone; a pool's process would wait for work for ever."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
