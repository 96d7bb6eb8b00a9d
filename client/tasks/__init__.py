"""Tasks at a hospital, by name: the same names as in :mod:`fedward.tasks`, with what they do to records.

Adding one is one file and one line here. ``task.py`` is the interface, ``prediction.py`` has the kinds with a head on
one vector per text.
"""

from __future__ import annotations

from fedward.client.tasks.prediction import Binary
from fedward.client.tasks.task import LocalTask
from fedward.tasks import task_named
from fedward.tasks.los3 import TASK as LOS3
from fedward.tasks.mortality import TASK as MORTALITY

LOCAL_TASKS: dict[str, LocalTask] = {task.declaration.name: task for task in (Binary(MORTALITY), Binary(LOS3))}


def local_task(name: str) -> LocalTask:
    """The hospital's side of the task ``name``.

    Raises:
        ConfigError: FW-CONFIG-040, there is no such task.
    """
    return LOCAL_TASKS[task_named(name).name]


__all__ = ["LOCAL_TASKS", "LocalTask", "local_task"]
