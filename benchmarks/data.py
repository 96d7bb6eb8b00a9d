"""Readers of data: every format, one patient in every layout, and large tables beside pandas.

    python -m benchmarks.data --json data.json

With ``FEDWARD_DATA`` the folders of public data sets and format examples in it are read too. Large tables are made up:
a MIMIC-III folder of 1 GB, quoted as the published one is, and a MIMIC-IV folder, each as CSV and packed with gzip, and
the second as parquet. fedward turns their rows into its internal form; pandas reads the same columns of the same files,
times as text. Each reading is a process of its own, the two in turn. Speed is pandas' seconds over fedward's, the least
of each, on the folder where that is lowest. "As fast" is what a person waits for, so the target holds for the clock,
on a machine that does nothing else; seconds of processor, which count every thread and hardly depend on who else is
there, are printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import data_folders
from benchmarks.targets import Target, table
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
COLLECTIONS = frozenset({"formats", "format-fixtures", "restricted", "ehr-same-patients"})
"""Folders that hold data sets and are none."""

NO_DATA = frozenset({"scenarios"})
TASKS = ("mortality", "los3", "readmission", "phenotypes")

TARGETS = (
    Target("formats_missed", "folders and examples that `data check` does not read whole", at_most=0.0),
    Target("formats_read", "folders and examples read whole"),
    Target("layouts_agree", "one patient gives one example in every layout (1 = yes)", at_least=1.0),
    Target("rows_vs_pandas", "rows of CSV and csv.gz, times as fast as pandas, least of four folders", at_least=0.5),
    Target("rows_vs_pandas_cpu", "the same by processor time"),
    Target("parquet_vs_pandas", "rows of parquet, times as fast as pandas"),
    Target("peak_gb", "most memory while a folder of 1 GB is read, GB", at_most=1.0),
    Target("deid_recall", "identifiers masked, least of the classes with a target", at_least=0.99),
    Target("deid_precision", "masked spans that are identifiers, least of the languages", at_least=0.95),
    Target("deid_look_alikes_masked", "look-alikes masked", at_most=0.0),
)


def measure_formats() -> dict[str, Any]:
    """Whether `fedward data check` reads every folder whole."""
    from fedward.client.folder import check_folder

    read, missed = [], []
    for folder in [each for root in _roots() for each in _data_sets(root)]:
        report = check_folder(folder)
        if report.read_whole:
            read.append(f"{folder.name}: {report.format}")
        else:
            missed.append(f"{folder.name}: {', '.join(problem.code for problem in report.problems)}")
    count = len(read) + len(missed)
    return {"formats_read": len(read), "formats": count, "formats_missed": len(missed), "read": read, "missed": missed}


def _roots() -> list[Path]:
    own = os.environ.get("FEDWARD_DATA")
    return [FIXTURES, *([Path(own)] if own else [])]


def _data_sets(root: Path) -> Iterator[Path]:
    for folder in sorted(each for each in root.iterdir() if each.is_dir()):
        if folder.name in COLLECTIONS:
            yield from _data_sets(folder)
        elif folder.name not in NO_DATA:
            yield folder


def measure_layouts(patients: int) -> dict[str, Any]:
    """1.0 if the same drawn patients give the same examples from every layout, for every task, else 0.0."""
    from fedward.client.corpora import corpus_named
    from fedward.client.tasks import local_task
    from fedward.simulations.synthetic import HospitalSpec, draw
    from fedward.simulations.synthetic.layouts import LAYOUTS

    (hospital,) = draw([HospitalSpec("A", patients, covariate_shift=0.3)], 15)
    found: dict[str, list[Any]] = {}
    with tempfile.TemporaryDirectory(prefix="fedward-layouts-") as scratch:
        for name, write in LAYOUTS.items():
            write(hospital, Path(scratch) / name)
            examples = (local_task(task).examples(corpus_named(name), Path(scratch) / name) for task in TASKS)
            found[name] = [[(each.patient_id, each.label, each.text) for each in some] for some in examples]
    first, *others = found.values()
    return {"layouts_agree": float(all(other == first for other in others)), "layouts": list(found)}


def measure_rows(size: int, repeats: int) -> dict[str, Any]:
    """Seconds and memory of both readers on large folders."""
    readings: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="fedward-rows-", dir=os.environ.get("FEDWARD_SCRATCH")) as scratch:
        for layout, write in data_folders.WRITERS.items():
            plain, packed = Path(scratch) / layout, Path(scratch) / f"{layout} gzip"
            write(plain, size)
            data_folders.packed(plain, packed)
            readings[f"{layout} csv"] = _readings(plain, repeats)
            readings[f"{layout} csv.gz"] = _readings(packed, repeats)
        data_folders.as_parquet(plain, Path(scratch) / "parquet")
        readings[f"{layout} parquet"] = _readings(Path(scratch) / "parquet", repeats)
    text = [each for name, each in readings.items() if "csv" in name]
    return {
        "rows_vs_pandas": min(each["wall_ratio"] for each in text),
        "rows_vs_pandas_cpu": min(each["cpu_ratio"] for each in text),
        "parquet_vs_pandas": readings[f"{layout} parquet"]["wall_ratio"],
        "peak_gb": max(each["peak_gb"] for each in readings.values()),
        "folder_bytes": size,
        "readings": readings,
    }


def _readings(folder: Path, repeats: int) -> dict[str, Any]:
    """Both readers in turn; ratios of their least times, which a busy machine disturbs least."""
    ours, theirs = [], []
    columns = folder.with_name(f"{folder.name}.columns.json")
    for _ in range(repeats):
        found = _read("fedward", folder)
        columns.write_text(json.dumps(found.pop("columns")), encoding="utf-8")
        ours.append(found)
        theirs.append(_read("pandas", folder, columns))
    least = {key: [min(each[key] for each in some) for some in (ours, theirs)] for key in ("cpu_s", "wall_s")}
    return {
        "cpu_ratio": least["cpu_s"][1] / least["cpu_s"][0],
        "wall_ratio": least["wall_s"][1] / least["wall_s"][0],
        "peak_gb": statistics.median(each["peak_bytes"] for each in ours) / 1e9,
        "fedward": ours,
        "pandas": theirs,
    }


def _read(reader: str, *paths: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.data_read", reader, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure_deid() -> dict[str, Any]:
    """Figures of de-identification, see ``data_deid.py``."""
    if find_spec("benchmarks.data_deid") is None:
        return {}
    from benchmarks import data_deid

    return data_deid.measure()


def main() -> None:
    """Measures, prints a table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="large folders of 20 MB, read once")
    options = parser.parse_args()
    size, repeats, patients = (20_000_000, 1, 60) if options.quick else (1_000_000_000, 3, 400)
    found = measure_formats() | measure_layouts(patients) | measure_rows(size, repeats) | measure_deid()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({**found, "machine": machine()}, indent=2), encoding="utf-8")
    Console().print(table("Readers of data", TARGETS, found))


if __name__ == "__main__":
    main()
