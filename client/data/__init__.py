"""Building blocks of every reader: tables, events, the leakage guard, de-identification, text and the split by unit.

May import the kernel only. Data sets and layouts are in :mod:`fedward.client.corpora`, what tasks take from them in
:mod:`fedward.client.tasks`; the way from a folder to examples is :mod:`fedward.client.examples`.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from fedward.client.data.example import Example, split_patients


def load_examples(path: Path, *, format: str, task: str, **options: Any) -> list[Example]:
    """The function of that name in :mod:`fedward.client.examples`, which imports this package, for scripts."""
    load = import_module("fedward.client.examples").load_examples
    found: list[Example] = load(path, format=format, task=task, **options)
    return found


__all__ = ["Example", "load_examples", "split_patients"]
