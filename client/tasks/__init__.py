"""Tasks at a hospital, by name: the same names as in :mod:`fedward.tasks`, with what they do to records.

Adding one is one file and one line here. ``task.py`` is the interface, with the sources that make examples of corpora;
``prediction.py`` has the kinds with a head on one vector per text, ``language.py`` those of language models.
"""

from fedward.client.tasks import (
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
from fedward.client.tasks.task import LocalTask
from fedward.registry import by_name
from fedward.tasks import task_named

LOCAL_TASKS: dict[str, LocalTask] = by_name(
    (module.LOCAL.declaration.name, module.__name__, module.LOCAL)
    for module in (
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
)


def local_task(name: str) -> LocalTask:
    """The hospital's side of the task ``name``; raises FW-CONFIG-040 (there is no such task)."""
    return LOCAL_TASKS[task_named(name).name]


__all__ = ["LOCAL_TASKS", "LocalTask", "local_task"]
