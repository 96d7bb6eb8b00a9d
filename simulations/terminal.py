"""What a person or a program sees while a run is going on.

:class:`RunDisplay` keeps the state (phase, progress, expected time left) and hands it to one of five
faces: bars on a terminal, plain lines in a log, JSON lines for a program, nothing until the end, or nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TextIO, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from fedward.measures import MEASURES
from fedward.simulations import wording
from fedward.simulations.result import CurvePoint, RunResult
from fedward.simulations.table import print_result
from fedward.units import UnitName

Mode: TypeAlias = Literal["auto", "json", "quiet", "silent"]
LOG_WIDTH = 100
"""Columns of the tables where no terminal says how wide it is."""


@dataclass(frozen=True)
class Plan:
    """What will be run, as far as a reader of the display cares."""

    name: str
    hospitals: int
    rounds: int
    epsilon: float | None
    unit: UnitName


@dataclass(frozen=True)
class Progressed:
    """A phase at one moment; ``eta_seconds`` is None until something is done."""

    phase: str
    done: int
    total: int
    eta_seconds: float | None


@dataclass(frozen=True)
class RoundDone:
    """What the coordinator saw of a round: noised in private runs, None where nothing was released."""

    round: int
    rounds: int
    measures: Mapping[str, float | None]
    epsilon: float | None
    seconds: float
    eta_seconds: float | None

    def __str__(self) -> str:
        seen = "".join(
            f"{MEASURES[n].title if n in MEASURES else n} {wording.score(v)}  " for n, v in self.measures.items()
        )
        return f"round {self.round}/{self.rounds}  {seen}epsilon {wording.epsilon(self.epsilon)}"


class Face(Protocol):
    """One way to show a run."""

    def start(self, plan: Plan) -> None:
        """The run begins."""

    def progress(self, state: Progressed) -> None:
        """A phase begins (``done`` is 0) or moves."""

    def round_done(self, summary: RoundDone) -> None:
        """A round ended, which also moves the phase by one."""

    def finish(self, result: RunResult, out: Path | None) -> None:
        """The run ended well."""

    def close(self) -> None:
        """Nothing more comes before the result; may be called twice."""


class RunDisplay:
    """Progress of one run; use it as a context manager so that a failing run leaves a clean terminal.

    Order of calls: :meth:`start`, then for each phase :meth:`phase` followed by :meth:`round_done` (in
    the federated phase) or :meth:`advance`, and :meth:`finish` once.

    Args:
        mode: ``auto`` draws bars on a terminal and prints lines elsewhere; ``json`` prints one JSON
            object per line on standard output; ``quiet`` prints the final table only, ``silent`` nothing.
        console: where people read; standard output by default.
        clock: seconds, monotonic.
    """

    def __init__(
        self, mode: Mode = "auto", *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._face = _face(mode, console or open_console())
        self._rounds = 0
        self._phase, self._done, self._total, self._began = "", 0, 0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._face.close()

    def start(self, name: str, *, hospitals: int, rounds: int, epsilon: float | None, unit: UnitName) -> None:
        """Announces the run; ``epsilon`` is the budget per ``unit``, None without differential privacy."""
        self._rounds = rounds
        self._face.start(Plan(name, hospitals, rounds, epsilon, unit))

    def phase(self, name: str, total: int) -> None:
        """Begins a phase of ``total`` steps; the phase before it counts as over."""
        self._phase, self._done, self._total, self._began = name, 0, total, self._clock()
        self._face.progress(Progressed(name, 0, total, None))

    def advance(self, steps: int = 1) -> None:
        """Counts ``steps`` of the current phase as done."""
        self._done = min(self._total, self._done + steps)
        self._face.progress(Progressed(self._phase, self._done, self._total, self._eta()))

    def round_done(self, point: CurvePoint, seconds: float) -> None:
        """Shows what the coordinator saw of a round, and counts it as one step of the phase.

        Round 0, the evaluation before training, is shown but is no step.
        """
        if point.round > 0:
            self._done = min(self._total, self._done + 1)
        self._face.round_done(RoundDone(point.round, self._rounds, point.measures, point.epsilon, seconds, self._eta()))

    def _eta(self) -> float | None:
        if not self._done:
            return None
        return (self._clock() - self._began) / self._done * (self._total - self._done)

    def finish(self, result: RunResult, out: Path | None = None) -> None:
        """Shows the result and, if given, the folder that holds it."""
        self._face.close()
        self._face.finish(result, out)


def open_console() -> Console:
    """Standard output, as wide as its terminal or as a page of a log."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=LOG_WIDTH)


def _face(mode: Mode, console: Console) -> Face:
    if mode == "json":
        return JsonLines(sys.stdout)
    if mode == "silent":
        return Silent(console)
    if mode == "quiet":
        return Quiet(console)
    return Bars(console) if console.is_terminal else Lines(console)


class Quiet:
    """Nothing but the final table."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def start(self, plan: Plan) -> None:
        """Says nothing."""

    def progress(self, state: Progressed) -> None:
        """Says nothing."""

    def round_done(self, summary: RoundDone) -> None:
        """Says nothing."""

    def finish(self, result: RunResult, out: Path | None) -> None:
        """Prints the final table."""
        print_result(result, self._console, out)

    def close(self) -> None:
        """Has nothing to close."""


class Silent(Quiet):
    """Nothing at all: for runs whose caller does the talking."""

    def finish(self, result: RunResult, out: Path | None) -> None:
        """Says nothing."""


class Lines(Quiet):
    """One line per round or tenth of a phase, for logs and pipes."""

    def start(self, plan: Plan) -> None:
        """Prints what will be run."""
        self._say(_headline(plan))

    def progress(self, state: Progressed) -> None:
        """Prints at most eleven lines per phase, however many steps it has."""
        if state.done == 0:
            self._say(state.phase)
        elif state.done % max(1, state.total // 10) == 0 or state.done == state.total:
            self._say(f"  {state.done}/{state.total}{_left(state.eta_seconds)}")

    def round_done(self, summary: RoundDone) -> None:
        """Prints the round."""
        self._say(f"  {summary}  {wording.duration(summary.seconds)}{_left(summary.eta_seconds)}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


class Bars(Quiet):
    """A bar per phase and the latest round below them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]\N{CHECK MARK}"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", style="cyan", markup=False),
        )
        self._tasks: dict[str, TaskID] = {}
        self._latest = Text("", style="dim")
        self._live = Live(Group(self._bars, self._latest), console=console, refresh_per_second=8)

    def start(self, plan: Plan) -> None:
        """Prints what will be run and opens the live area."""
        self._console.print(_headline(plan), markup=False, style="bold")
        self._live.start()

    def progress(self, state: Progressed) -> None:
        """Adds or moves the bar of the phase."""
        if state.phase not in self._tasks:
            self._tasks[state.phase] = self._bars.add_task(state.phase, total=state.total, left="")
        self._move(self._tasks[state.phase], state.done, state.eta_seconds)

    def round_done(self, summary: RoundDone) -> None:
        """Shows the round below the bars and moves the newest one."""
        self._latest.plain = f"  {summary}"
        if self._tasks:
            self._move(list(self._tasks.values())[-1], summary.round, summary.eta_seconds)

    def close(self) -> None:
        """Ends the live area and leaves its last state on the screen."""
        self._live.stop()

    def _move(self, task: TaskID, done: int, eta_seconds: float | None) -> None:
        self._bars.update(task, completed=done, left=_left(eta_seconds).strip(", "))


class JsonLines:
    """One JSON object per line; the last one is the whole result."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def start(self, plan: Plan) -> None:
        """Writes an object with ``event`` = ``start``."""
        self._write("start", **vars(plan))

    def progress(self, state: Progressed) -> None:
        """Writes an object with ``event`` = ``progress``."""
        self._write("progress", **vars(state))

    def round_done(self, summary: RoundDone) -> None:
        """Writes an object with ``event`` = ``round``."""
        self._write("round", **vars(summary))

    def finish(self, result: RunResult, out: Path | None) -> None:
        """Writes an object with ``event`` = ``result``."""
        self._write("result", folder=None if out is None else str(out), result=result.model_dump(mode="json"))

    def close(self) -> None:
        """Has nothing to close."""

    def _write(self, event: str, **fields: Any) -> None:
        self._stream.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
        self._stream.flush()


def _headline(plan: Plan) -> str:
    spent = f"epsilon {wording.epsilon(plan.epsilon)} per {plan.unit}"
    budget = "NON-PRIVATE, no epsilon" if plan.epsilon is None else spent
    hospitals, rounds = wording.counted(plan.hospitals, "hospital"), wording.counted(plan.rounds, "round")
    return f"{plan.name}: {hospitals}, {rounds}, {budget}"


def _left(eta_seconds: float | None) -> str:
    return "" if eta_seconds is None or eta_seconds <= 0 else f", {wording.duration(eta_seconds)} left"
