"""Terminal output: what a person or a program sees of a run: while it is going on, and as the final table.

:class:`RunDisplay` keeps the state (phase, progress, expected time left) and hands it to one of five
faces: bars on a terminal, plain lines in a log, JSON lines for a program, nothing until the end, or nothing.
:func:`print_result` says in one screen what ``report.html`` says.
"""

import json
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from fedward.measures import MEASURES
from fedward.simulations import wording
from fedward.simulations.result import CurvePoint, RunResult
from fedward.units import UNITS, UnitName

Item = TypeVar("Item")
Found = TypeVar("Found")
Mode: TypeAlias = Literal["auto", "json", "quiet", "silent"]
LOG_WIDTH = 100  # columns of the tables where no terminal says how wide it is
_SHOWN = 2  # released measures on the line of a round


@dataclass(frozen=True)
class Plan:
    """What will be run, as far as a reader of the display cares."""

    kind: ClassVar = "start"
    name: str
    hospitals: int
    rounds: int
    epsilon: float | None
    unit: UnitName

    def __str__(self) -> str:
        spent = f"epsilon {wording.epsilon(self.epsilon)} per {self.unit}"
        budget = "NON-PRIVATE, no epsilon" if self.epsilon is None else spent
        hospitals, rounds = wording.counted(self.hospitals, "hospital"), wording.counted(self.rounds, "round")
        return f"{self.name}: {hospitals}, {rounds}, {budget}"


@dataclass(frozen=True)
class Progressed:
    """A phase at one moment; ``eta_seconds`` is None until something is done."""

    kind: ClassVar = "progress"
    phase: str
    done: int
    total: int
    eta_seconds: float | None


@dataclass(frozen=True)
class RoundDone:
    """What the coordinator saw of a round: noised in private runs, None where nothing was released."""

    kind: ClassVar = "round"
    round: int
    rounds: int
    measures: Mapping[str, float | None]
    epsilon: float | None
    seconds: float
    eta_seconds: float | None

    def __str__(self) -> str:
        shown = list(self.measures.items())[:_SHOWN]
        seen = "".join(_seen(name, value) + "  " for name, value in shown)
        return f"round {self.round}/{self.rounds}  {seen}epsilon {wording.epsilon(self.epsilon)}"


def _seen(name: str, value: float | None) -> str:
    known = MEASURES.get(name)
    return f"{name if known is None else known.title} {wording.score(value, 3 if known is None else known.digits)}"


Event: TypeAlias = Plan | Progressed | RoundDone


class RunDisplay:
    """Progress of one run; use it as a context manager so that a failing run leaves a clean terminal.

    Order of calls: :meth:`start`, then for each phase :meth:`phase` followed by :meth:`round_done` (in
    the federated phase) or :meth:`advance`, and :meth:`finish` once.

    ``mode`` *auto* draws bars on a terminal and prints lines elsewhere; *json* prints one JSON object per line on
    standard output, *quiet* the final table only, *silent* nothing. People read ``console``, which is standard output
    by default; ``clock`` gives monotonic seconds.
    """

    def __init__(
        self, mode: Mode = "auto", *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        console = console or open_console()
        faces = {"auto": _Bars if console.is_terminal else _Lines, "json": _JsonLines, "quiet": _Quiet, "silent": _Face}
        self._face, self._clock, self._rounds = faces[mode](console), clock, 0
        self._phase, self._done, self._total, self._began = "", 0, 0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._face.close()

    def start(self, name: str, *, hospitals: int, rounds: int, epsilon: float | None, unit: UnitName) -> None:
        """Announces the run; ``epsilon`` is the budget per ``unit``, None without differential privacy."""
        self._rounds = rounds
        self._face.show(Plan(name, hospitals, rounds, epsilon, unit))

    def phase(self, name: str, total: int) -> None:
        """Begins a phase of ``total`` steps; the phase before it counts as over."""
        self._phase, self._done, self._total, self._began = name, 0, total, self._clock()
        self._face.show(Progressed(name, 0, total, None))

    def advance(self, steps: int = 1) -> None:
        """Counts ``steps`` of the current phase as done."""
        self._done = min(self._total, self._done + steps)
        self._face.show(Progressed(self._phase, self._done, self._total, self._eta()))

    def over(self, name: str, work: Callable[[Item], Found], items: Sequence[Item], *, threads: int) -> list[Found]:
        """Does ``work`` on each of ``items``, on some threads, as a phase of its own; what it gives, in their order."""
        self.phase(name, len(items))
        done = []
        with ThreadPoolExecutor(max_workers=threads) as pool:
            for found in pool.map(work, items):
                done.append(found)
                self.advance()
        return done

    def round_done(self, point: CurvePoint, seconds: float) -> None:
        """Shows what the coordinator saw of a round; one step of the phase, but for round 0, the untrained adapter."""
        if point.round > 0:
            self._done = min(self._total, self._done + 1)
        self._face.show(RoundDone(point.round, self._rounds, point.measures, point.epsilon, seconds, self._eta()))

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


class _Face:
    """One way to show a run; this one says nothing, for runs whose caller does the talking."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: Event) -> None:
        """The run begins, a phase begins (``done`` is 0) or moves, or a round ends, which moves the phase by one."""

    def finish(self, result: RunResult, out: Path | None) -> None:
        """The run ended well."""

    def close(self) -> None:
        """Nothing more comes before the result; may be called twice."""


class _Quiet(_Face):
    """Nothing but the final table."""

    def finish(self, result: RunResult, out: Path | None) -> None:
        print_result(result, self._console, out)


class _Lines(_Quiet):
    """One line per round or tenth of a phase, for logs and pipes."""

    def show(self, event: Event) -> None:
        match event:
            case Progressed(done=0):
                self._say(event.phase)
            case Progressed(done=done, total=total):
                if done % max(1, total // 10) == 0 or done == total:
                    self._say(f"  {done}/{total}{_left(event)}")
            case RoundDone(seconds=seconds):
                self._say(f"  {event}  {wording.duration(seconds)}{_left(event)}")
            case Plan():
                self._say(str(event))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


class _Bars(_Quiet):
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

    def show(self, event: Event) -> None:
        match event:
            case Plan():
                self._console.print(str(event), markup=False, style="bold")
                self._live.start()
            case Progressed(phase=phase, done=done):
                if phase not in self._tasks:
                    self._tasks[phase] = self._bars.add_task(phase, total=event.total, left="")
                self._bars.update(self._tasks[phase], completed=done, left=_left(event).strip(", "))
            case RoundDone():
                self._latest.plain = f"  {event}"
                if self._tasks:
                    newest = list(self._tasks.values())[-1]
                    self._bars.update(newest, completed=event.round, left=_left(event).strip(", "))

    def close(self) -> None:
        self._live.stop()  # its last state stays on the screen


class _JsonLines(_Face):
    """One JSON object per line on standard output; the last one is the whole result."""

    def show(self, event: Event) -> None:
        self._write(event.kind, **vars(event))

    def finish(self, result: RunResult, out: Path | None) -> None:
        self._write("result", folder=None if out is None else str(out), result=result.model_dump(mode="json"))

    def _write(self, kind: str, **fields: Any) -> None:
        sys.stdout.write(json.dumps({"event": kind, **fields}, allow_nan=False) + "\n")
        sys.stdout.flush()


def _left(event: Progressed | RoundDone) -> str:
    left = event.eta_seconds
    return "" if left is None or left <= 0 else f", {wording.duration(left)} left"


def print_result(result: RunResult, console: Console, out: Path | None = None) -> None:
    """Prints comparison, hospitals, privacy and traffic of ``result``, and where its files are.

    Without a terminal the tables have no frames and no colours, so the output can be searched and mailed.
    """
    if not result.privacy.private:
        console.print(Text("NON-PRIVATE: this run gives no privacy guarantee.", style="bold red"))
        for reason in result.non_private_reasons:
            console.print(Text(f"  {reason}", style="red"))
    outcome, units = result.scenario.outcome, UNITS[result.privacy.unit].plural
    console.print(Text(f"Predicting {outcome}, evaluation {units} of all hospitals", style="bold"))
    console.print(_comparison_table(result, units, framed=console.is_terminal))
    others = [_seen(name, value) for name, value in result.scores.others.items() if value is not None]
    if others:
        console.print(Text(f"Federated, by other measures: {', '.join(others)}"), soft_wrap=True)
    console.print(Text("\nHospital by hospital (simulator's omniscient view: no coordinator sees this)", style="bold"))
    console.print(_hospital_table(result, units, framed=console.is_terminal))
    console.print()
    for line in _closing_lines(result, out):
        console.print(line, soft_wrap=True)


def open_table(*headings: str, numbers: Collection[str] = (), framed: bool) -> Table:
    """A table without rows; what stands under a heading of ``numbers`` is aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD if framed else None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numbers else "left")
    return table


def _comparison_table(result: RunResult, units: str, *, framed: bool) -> Table:
    """Hospitals alone, federated, pooled and best possible, on the same evaluation units."""
    scores, headline, digits = result.scores, result.headline.title, result.headline.digits
    trained = sum(hospital.train_units for hospital in result.hospitals)
    table = open_table("Model", headline, "95 % interval", "Trained on", numbers=[headline], framed=framed)
    rows = [
        ("untrained", scores.untrained, None, result.scenario.model, ""),
        ("hospitals alone, mean", scores.local_mean, None, "one hospital each", ""),
        ("federated", scores.federated, scores.federated_interval, f"{result.scenario.hospitals} hospitals", "bold"),
        ("pooled central", scores.central, scores.central_interval, f"{trained:,} {units} in one place", ""),
        ("best possible (Bayes)", scores.best_possible, None, "the true probabilities", "dim"),
    ]
    for label, value, interval, source, style in rows:
        if value is not None:
            shown = wording.score(value, digits), wording.interval(interval, digits)
            table.add_row(label, *shown, Text(source, style="dim"), style=style)
    return table


def _hospital_table(result: RunResult, units: str, *, framed: bool) -> Table:
    """One row per hospital on its own evaluation units; exists only because this is a simulation."""
    numbers = [units.capitalize(), "Alone", "Federated", "Gain", "Epsilon"]
    headings = ["Hospital", *numbers[:2], "95 % interval", *numbers[2:]]
    table, digits = open_table(*headings, numbers=numbers, framed=framed), result.headline.digits
    for row in result.hospitals:
        table.add_row(
            Text(row.name),
            f"{row.train_units:,}",
            wording.score(row.alone, digits),
            wording.interval(row.alone_interval, digits),
            wording.score(row.federated, digits),
            wording.signed(result.headline.gain(row.federated, row.alone), digits),
            wording.epsilon(row.epsilon),
        )
    return table


def _closing_lines(result: RunResult, out: Path | None) -> list[Text]:
    privacy, seconds, told = result.privacy, result.seconds, "NON-PRIVATE"
    exact = "exact" if result.secure_sum.exact else "NOT EXACT"
    if privacy.private:
        checked = privacy.cross_check
        verdict = f", {checked.accountant} {checked.verdict}" if checked else ""
        together = wording.everybody(privacy.epsilon_max, privacy.epsilon_everybody)
        told = (
            f"epsilon {wording.epsilon(privacy.epsilon_max)}{together} at delta {wording.delta(privacy.delta)} per "
            f"{privacy.unit} ({privacy.relation.replace('-', ' ')}), {privacy.sampler}, {privacy.accountant}{verdict}"
        )
    lines = [
        f"Sent       {wording.size(result.bytes_per_round_per_hospital)} per round and hospital, masked; "
        f"secure sum {exact}; {wording.counted(result.rounds, 'round')}",
        f"Time       {wording.duration(seconds.total)} (federated {wording.duration(seconds.federated)}, "
        f"comparison {wording.duration(seconds.comparison)})",
    ]
    if out is not None:
        lines.append(f"Written    {out / 'report.html'}, {out / 'result.json'}, {out / 'adapter'}")
    return [Text(f"Privacy    {told}", style="" if privacy.private else "red"), *map(Text, lines)]
