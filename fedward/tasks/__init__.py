"""Tasks by name: what can be learnt, and how it is judged. numpy only; the coordinator imports them.

Adding one is one file and one line here, and one file and one line in :mod:`fedward.client.tasks`.
"""

import difflib

from fedward.errors import ConfigError
from fedward.registry import by_name
from fedward.tasks import (
    choice,
    clm,
    dialogue,
    discharge,
    los3,
    los_days,
    mlm,
    mortality,
    phenotypes,
    preference,
    pubmedqa,
    readmission,
    sft,
)
from fedward.tasks.task import Head, HeadKind, Task

DEFAULT = mortality.TASK.name
"""The task of a plan or scenario that names none."""

_ENTRIES = (
    mortality,
    los3,
    los_days,
    readmission,
    discharge,
    phenotypes,
    pubmedqa,
    sft,
    dialogue,
    clm,
    mlm,
    choice,
    preference,
)
TASKS: dict[str, Task] = by_name((module.TASK.name, module.__name__, module.TASK) for module in _ENTRIES)


def task_named(name: str) -> Task:
    """The task ``name``. Raises FW-CONFIG-040 (there is none; names the nearest one)."""
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known tasks: {', '.join(sorted(TASKS))}."
    raise ConfigError(f"There is no task {name!r}.", code="FW-CONFIG-040", fix=hint)


__all__ = ["DEFAULT", "TASKS", "Head", "HeadKind", "Task", "task_named"]
