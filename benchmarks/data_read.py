"""One reading of a folder in a fresh process: by fedward to its internal form, by pandas, or as `fedward data check`.

    python -m benchmarks.data_read fedward FOLDER
    python -m benchmarks.data_read pandas FOLDER COLUMNS.json

Prints one JSON object: seconds of processor and clock after imports, peak memory of the process with them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.resident import peak

Work = Callable[[], dict[str, Any]]


def fedward(folder: Path) -> Work:
    """Every stay, and all results up to the end of its first day, in columns; says which columns were read."""
    from fedward.client.corpora import StayCorpus, detect
    from fedward.client.data.batch import Batch
    from fedward.client.data.columns import Table
    from fedward.client.data.drops import Drops
    from fedward.client.data.events import Chosen, prediction_hours

    asked: dict[str, list[str]] = {}
    read = Table.read

    def noted(table: Table, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[Batch]:
        there = [name for name in (*columns, *optional) if table.has(name)]
        asked[str(table.path.relative_to(folder))] = there
        return read(table, columns, optional=optional)

    def work() -> dict[str, Any]:
        Table.read = noted  # type: ignore[method-assign]
        corpus, place = detect(folder)
        assert isinstance(corpus, StayCorpus)
        chosen = [Chosen(stay, prediction_hours(stay.outcome)) for stay in corpus.stays(place)]
        timeline = corpus.timeline(place, chosen, Drops())
        return {"stays": len(chosen), "events": timeline.size, "columns": asked}

    return work


def pandas(folder: Path, columns: dict[str, list[str]]) -> Work:
    """The same columns of the same files, one table after another."""
    import pandas as pd

    def work() -> dict[str, Any]:
        rows = 0
        for name, wanted in columns.items():
            path, lower = folder / name, frozenset(wanted)
            if path.suffix == ".parquet":
                frame = pd.read_parquet(path, columns=wanted)
            else:
                frame = pd.read_csv(path, usecols=lambda column, lower=lower: column.lower() in lower, low_memory=False)
            rows += len(frame)
        return {"rows": rows}

    return work


def check(folder: Path) -> Work:
    """Everything that `fedward data check` says."""
    from fedward.client.folder import check_folder

    def work() -> dict[str, Any]:
        report = check_folder(folder)
        return {"stays": report.records, "read_whole": report.read_whole}

    return work


def main() -> None:
    """Reads and prints."""
    reader, folder, *more = sys.argv[1:]
    if reader == "pandas":
        work = pandas(Path(folder), json.loads(Path(more[0]).read_text(encoding="utf-8")))
    else:
        work = {"fedward": fedward, "check": check}[reader](Path(folder))
    start, clock = time.process_time(), time.perf_counter()
    found = work()
    seconds = {"cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - clock}
    json.dump({**seconds, "peak_bytes": peak(), **found}, sys.stdout)


if __name__ == "__main__":
    main()
