"""Mutants: one guard broken at a time, and the tests that must notice it.

``tests/mutants/*.toml`` lists deliberate one-line breaks. Each is applied to a private copy of the tree, never to the
working tree, and its tests run there. A mutant is *killed* if every test it names fails in its own body: a test that
cannot be collected, a name that does not exist or a time-out kills nothing, as it says nothing about the guard. A
mutant whose line is no longer in its file, or is there twice, is an error: the guard has moved, and so must the list.

    python -m scripts.mutants                  all, as `make mutants` does
    python -m scripts.mutants --tenth          one in ten, another tenth with every commit
    python -m scripts.mutants --only ledger    those whose name or list holds the word
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(__file__).resolve().parents[1]
LISTS = ROOT / "tests" / "mutants"
SECONDS = 240.0  # for the tests of one mutant; they need a few
BROKEN_CODE = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError", "UnboundLocalError")
"""A test that fails of one of these has met a typing error, not the missing guard."""


class MutantError(Exception):
    """A mutant that cannot be judged, and why."""


class Mutant(BaseModel):
    """One break: the text of a line that guards something, and what stands there instead."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    file: str  # below the root
    line: str = Field(min_length=8)  # occurs exactly once in the file; without its indentation, so that it may move
    becomes: str
    tests: tuple[str, ...] = Field(min_length=1)  # node ids, each of which must fail
    means: str = Field(min_length=10)  # what whoever has the broken code loses
    area: str = ""  # the list it stands in

    def applied(self, source: str) -> str:
        """Returns the file's text with the break in it; raises MutantError (not there, there twice, not Python)."""
        found = source.count(self.line)
        if found != 1:
            raise MutantError(f"its line occurs {found} times in {self.file}")
        broken = source.replace(self.line, self.becomes)
        if broken == source:
            raise MutantError("it changes nothing")
        try:
            compile(broken, self.file, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise MutantError(f"it is not Python: {error.msg}") from error
        return broken


class Verdict(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Outcome:
    """A judged mutant."""

    mutant: Mutant
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """What one run of pytest said: failed tests with the kind of their error, and those that never got to their body.

    A test is its path, class and name as a node id without parameters.
    """

    failed: dict[str, set[str]]
    broken: tuple[str, ...]
    passed: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Report:
        """Reads pytest's JUnit file; raises MutantError (pytest did not get to the end)."""
        try:
            cases = list(ElementTree.parse(path).iter("testcase"))  # noqa: S314 - pytest has just written it
        except (OSError, ElementTree.ParseError) as error:
            raise MutantError("pytest wrote no report") from error
        failed: dict[str, set[str]] = {}
        broken, passed = [], set()
        for case in cases:
            name = f"{case.get('classname', '')}::{case.get('name', '').partition('[')[0]}"
            if (failure := case.find("failure")) is not None:
                failed.setdefault(name, set()).add(failure.get("message", "").partition(":")[0].strip())
            elif case.find("error") is not None:
                broken.append(name)
            elif case.find("skipped") is None:
                passed.add(name)
        return cls(failed, tuple(broken), frozenset(passed))


def reported_name(node: str) -> str:
    """The name under which pytest's report has a node id: ``tests/a/test_b.py::C::test_d`` is tests.a.test_b.C::test_d.

    Parameters are left out.
    """
    path, *parts = node.partition("[")[0].split("::")
    return "::".join([".".join([path.removesuffix(".py").replace("/", "."), *parts[:-1]]), parts[-1]])


class Copy:
    """A private copy of the tree in which one worker breaks one line at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _files():
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink() or source.is_file():
                shutil.copy2(source, target, follow_symlinks=False)
        self._changes = 0

    @contextmanager
    def broken(self, mutant: Mutant) -> Iterator[None]:
        """Applies a mutant; puts the file back afterwards."""
        path = self.folder / mutant.file
        if not path.is_file():
            raise MutantError(f"there is no file {mutant.file}")
        before, stat = path.read_text(), path.stat()
        path.write_text(mutant.applied(before))
        # Compiled files are told apart by size and time in whole seconds: each change gets a time of its own.
        self._changes += 1
        os.utime(path, (self._changes, self._changes))
        try:
            yield
        finally:
            path.write_text(before)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def run(self, tests: Sequence[str], seconds: float = SECONDS) -> Report:
        """Runs tests in the copy; raises MutantError (too long, or pytest could not run them)."""
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", f"--junitxml={report}", "-o", "addopts="]
        command = [sys.executable, "-m", "pytest", "--import-mode=importlib", *options, *tests]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise MutantError(f"its tests took longer than {seconds:.0f} s") from error
        if process.returncode not in (0, 1):
            last = " ".join(output.strip().splitlines()[-3:])
            raise MutantError(f"pytest ended with {process.returncode}: {last[-300:]}")
        return Report.read(report)

    def check_home(self) -> None:
        """Makes sure that tests here import the code of this copy and not that of an installation."""
        command = [sys.executable, "-c", "import fedward; print(fedward.__file__)"]
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        found = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=True)
        if not Path(found.stdout.strip()).is_relative_to(self.folder):
            raise MutantError(f"the tests of a copy import {found.stdout.strip()}")


def _files() -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({name for name in listed.split("\0") if name})


def read_lists(folder: Path = LISTS) -> list[Mutant]:
    """All mutants, in the order of their lists; raises ValueError (a name stands twice, or an entry is malformed)."""
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        entries = tomllib.loads(path.read_text())["mutant"]
        mutants += [Mutant.model_validate({**entry, "area": path.stem}) for entry in entries]
    twice = [name for name, count in Counter(mutant.name for mutant in mutants).items() if count > 1]
    if twice:
        raise ValueError(f"Mutants share a name: {', '.join(twice)}.")
    return mutants


def judge(copy: Copy, mutant: Mutant, seconds: float = SECONDS) -> Outcome:
    """Applies one mutant in a copy, runs its tests and says what became of it."""
    started = time.monotonic()

    def outcome(verdict: Verdict, reason: str = "") -> Outcome:
        return Outcome(mutant, verdict, reason, time.monotonic() - started)

    try:
        with copy.broken(mutant):
            report = copy.run(mutant.tests, seconds)
    except MutantError as error:
        return outcome(Verdict.ERROR, str(error))
    if report.broken:
        return outcome(Verdict.ERROR, f"a test did not get to its body: {report.broken[0]}")
    names = {node: reported_name(node) for node in mutant.tests}
    passed = [node for node, name in names.items() if name not in report.failed]
    if passed:
        return outcome(Verdict.SURVIVED, f"did not fail: {', '.join(passed)}")
    typing = [name for name in names.values() if report.failed[name] <= set(BROKEN_CODE)]
    if typing:
        return outcome(Verdict.ERROR, f"{typing[0]} failed of {', '.join(report.failed[typing[0]])} alone")
    return outcome(Verdict.KILLED)


def sound_tests(copy: Copy, mutants: Iterable[Mutant]) -> None:
    """Runs every named test on unbroken code: one that fails anyway proves nothing; raises MutantError."""
    tests = sorted({node for mutant in mutants for node in mutant.tests})
    report = copy.run(tests, SECONDS * max(1, len(tests) // 4))
    wanted = {reported_name(node) for node in tests}
    bad = sorted({*report.failed, *report.broken} | (wanted - report.passed))
    if bad:
        raise MutantError(f"these tests do not pass on unbroken code: {', '.join(bad)}")


def judge_all(mutants: Sequence[Mutant], workers: int) -> list[Outcome]:
    """Judges mutants in parallel, each worker in a copy of its own, and prints each as it ends."""
    with tempfile.TemporaryDirectory(prefix="fedward-mutants-") as folder:
        copies = [Copy(Path(folder, str(number))) for number in range(workers)]
        copies[0].check_home()
        parts = [mutants[number::workers] for number in range(workers)]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(sound_tests, copies, parts))
            free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
            for copy in copies:
                free.put(copy)
            futures = [pool.submit(_judge_in_any, free, mutant) for mutant in mutants]
            outcomes = []
            for count, future in enumerate(as_completed(futures), start=1):
                outcomes.append(outcome := future.result())
                words = f"{count:4d}/{len(mutants)} {outcome.verdict.value:8s} {outcome.seconds:6.1f} s  "
                print(f"{words}{outcome.mutant.area}/{outcome.mutant.name}  {outcome.reason}", flush=True)
    return outcomes


def _judge_in_any(free: queue.SimpleQueue[Copy], mutant: Mutant) -> Outcome:
    copy = free.get()
    try:
        return judge(copy, mutant)
    finally:
        free.put(copy)


def table(outcomes: Sequence[Outcome]) -> str:
    """Mutants and killed ones by list, as text."""
    counts = Counter((outcome.mutant.area, outcome.verdict) for outcome in outcomes)
    areas = sorted({area for area, _ in counts})
    rows = [(area, *(counts[area, verdict] for verdict in Verdict)) for area in areas]
    rows.append(("all", *(sum(row[place] for row in rows) for place in (1, 2, 3))))
    head = f"{'list':14s}{'mutants':>9s}{'killed':>9s}{'survived':>10s}{'errors':>8s}"
    return "\n".join([head, *(f"{a:14s}{k + s + e:9d}{k:9d}{s:10d}{e:8d}" for a, k, s, e in rows)])


def chosen_tenth(mutants: Sequence[Mutant], commits: int) -> list[Mutant]:
    """Every tenth mutant; ``commits`` modulo ten says which tenth."""
    return list(mutants[commits % 10 :: 10])


def main(arguments: Sequence[str] | None = None) -> int:
    """Judges the chosen mutants; returns 0 if every one was killed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.mutants", description=__doc__)
    parser.add_argument("--tenth", action="store_true", help="a tenth of them, by the number of commits")
    parser.add_argument("--only", default="", help="those whose list/name holds this text")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    mutants = [mutant for mutant in read_lists() if options.only in f"{mutant.area}/{mutant.name}"]
    if options.tenth:
        command = ["git", "rev-list", "--count", "HEAD"]
        commits = int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        mutants = chosen_tenth(mutants, commits)
    if not mutants:
        print("No mutant was chosen.")
        return 2
    started = time.monotonic()
    try:
        outcomes = judge_all(mutants, max(1, min(options.workers, len(mutants))))
    except MutantError as error:
        print(f"No mutant was judged: {error}.")
        return 1
    print(f"\n{table(outcomes)}\n{time.monotonic() - started:.0f} s")
    return 0 if all(outcome.verdict is Verdict.KILLED for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
