"""`fedward chaos`: breaks a federation of processes on this machine in every way there is, and checks its history."""

import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from typer import Option

from fedward.cli.shared import titled
from fedward.errors import ConfigError, RunFailedError
from fedward.storage import private_folder

if TYPE_CHECKING:
    from fedward.simulations.chaos.places import Places
    from fedward.simulations.chaos.processes import Nursery
    from fedward.simulations.chaos.runner import Case, Federation

LEG_SECONDS = 15
BEGIN, END = "<!-- begin: fedward chaos --write -->", "<!-- end of chaos -->"


class BrokenPromiseError(RunFailedError, code="FW-RUN-014"):
    """Under a fault that was injected, something happened that never must."""


@dataclass
class Played:
    """What came of the cases of one group."""

    cases: int = 0
    seconds: float = 0.0
    faults: int = 0  # failpoints that did something, and kills
    waited: int = 0  # times a run waited, or was taken up again
    violations: list[str] = field(default_factory=list)


def chaos(
    only: Annotated[
        list[str] | None, Option("--only", metavar="WORD", help="Cases or groups whose name holds the word.")
    ] = None,
    seed: Annotated[int | None, Option("--seed", help="Repeats what a run with this seed drew.")] = None,
    parts: Annotated[int, Option("--parts", min=1, help="Play one of so many parts of the failpoints.")] = 1,
    part: Annotated[int, Option("--part", min=0, help="Which of the parts; counted modulo their number.")] = 0,
    kills: Annotated[int, Option("--kills", min=0, help="Processes to kill at random.")] = 100,
    keep: Annotated[
        Path | None, Option("--keep", metavar="DIR", help="Keep states, logs and history of the last case here.")
    ] = None,
    json_file: Annotated[Path | None, Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
    write: Annotated[
        Path | None, Option("--write", metavar="FILE", help="Put the table into this file, docs/reliability.md.")
    ] = None,
) -> None:
    """Break a federation on this machine in every way there is, and check what must hold all the same.

    A coordinator and three hospitals with made-up patients run as processes. Each case kills one of them at a failpoint
    (a moment around a durable write or a send), fills its disk, or kills processes at random; then it is started again,
    and the run must end with the bits of the run that nothing happened to. The first violation ends the command with
    exit status 9 and leaves its history. Needs the client extra, and half an hour; no network.

    Example: fedward chaos --only kills --kills 10 --seed 7
    """
    drawn = secrets.randbelow(2**32) if seed is None else seed
    console = Console(highlight=False)
    console.print(f"seed {drawn}")
    played: dict[str, Played] = {}
    with _federation(keep) as stage:
        expected, cases = _listed(stage, drawn, kills, (parts, part), console)
        cases = [case for case in cases if not only or any(word in f"{case.group} {case.name}" for word in only)]
        if not cases:
            raise ConfigError("No case has such a name.", code="FW-CONFIG-045")
        try:
            for number, case in enumerate(cases, start=1):
                federation = stage.over(superlink=case.superlink)
                _play(federation, case, expected, played, f"{number}/{len(cases)}", console)
        finally:
            console.print(_table(played))
            _report(played, drawn, json_file)
    if write is not None:
        _write(write, played)


def _listed(
    stage: "Stage", seed: int, kills: int, share: tuple[int, int], console: Console
) -> tuple[str, list["Case"]]:
    """The adapter that every case must end with, and the cases; both roads are tried without faults first."""
    from fedward.simulations.chaos import cases

    expected, met = _fault_free(stage.over(superlink=False), console)
    again, sent = _fault_free(stage.over(superlink=True), console)
    if again != expected:
        raise BrokenPromiseError("The run over a SuperLink and the one over a socket end with other bits.")
    points = [*cases.failpoint_cases(met, seed), *cases.disk_cases(met)]
    points += cases.failpoint_cases(sent, seed, superlink=True)
    return expected, [*cases.share_of(points, *share), *cases.kill_cases(kills, seed)]


@contextmanager
def _federation(keep: Path | None) -> Iterator["Stage"]:
    from fedward.simulations.chaos.agreement import make
    from fedward.simulations.chaos.places import Places
    from fedward.simulations.chaos.processes import Nursery

    with tempfile.TemporaryDirectory(prefix="fedward-chaos-") as scratch, ExitStack() as held:
        places = Places(Path(scratch) if keep is None else private_folder(keep))
        make(places, hospitals=3, rounds=2, leg_seconds=LEG_SECONDS)
        nursery = Nursery(places)
        held.callback(nursery.close)
        yield Stage(places, nursery, held)


@dataclass
class Stage:
    """The federation over either kind of road; each is built when the first case wants it."""

    places: "Places"
    nursery: "Nursery"
    held: ExitStack
    built: dict[bool, "Federation"] = field(default_factory=dict)

    def over(self, *, superlink: bool) -> "Federation":
        """The federation, over a SuperLink or a socket."""
        from fedward.simulations.chaos.processes import Deployed, Forked
        from fedward.simulations.chaos.runner import Federation

        if superlink not in self.built:
            line = Deployed(self.places, self.nursery.sites) if superlink else Forked(self.places, self.nursery)
            self.held.callback(line.close)
            self.built[superlink] = Federation(self.places, self.nursery, line)
        return self.built[superlink]


def _fault_free(federation: "Federation", console: Console) -> tuple[str, list[dict[str, Any]]]:
    """The final adapter of a run that nothing happens to, and the failpoints that it meets."""
    from fedward.simulations.chaos.history import violations
    from fedward.simulations.chaos.runner import Case

    began = time.monotonic()
    trace = federation.play(Case("nothing happens", "none", counts=True))
    found = violations(trace)
    (end,) = [event for event in trace if event["kind"] == "ended"]
    if found or end["state"] != "completed":
        raise BrokenPromiseError(f"The run without faults did not go well: {found or end['state']}.")
    console.print(f"without faults: {time.monotonic() - began:.1f} s, adapter {end['adapter'][:16]}")
    return end["adapter"], trace


def _play(
    federation: "Federation", case: "Case", expected: str, played: dict[str, Played], at: str, console: Console
) -> None:
    """Plays one case; raises FW-RUN-014 where a rule was broken."""
    from fedward.simulations.chaos.history import violations

    began = time.monotonic()
    events = federation.play(case)
    seconds = time.monotonic() - began
    found = violations(events, expected=expected if case.same else None)
    group = played.setdefault(case.group, Played())
    group.cases += 1
    group.seconds += seconds
    group.faults += sum(event["kind"] in ("fault", "killed", "stopped") for event in events)
    group.waited += sum(event["kind"] == "waited" for event in events)
    group.violations += [f"{case.name}: {each.rule}, {each.words}" for each in found]
    console.print(f"{at} {seconds:6.1f} s  {case.name}{'' if not found else '  VIOLATION'}", markup=False)
    if found:
        for each in group.violations:
            console.print(each, markup=False)
        history = Path(tempfile.mkdtemp(prefix="fedward-chaos-history-")) / "events.json"
        history.write_text(json.dumps(events, indent=1), encoding="utf-8")
        raise BrokenPromiseError(f"Under {case.name!r} a promise was broken; its history is {history}.")


def _table(played: dict[str, Played]) -> Any:
    from fedward.simulations.chaos.cases import GROUPS

    rows = [
        (GROUPS.get(name, name), str(each.cases), str(each.faults), str(each.waited), str(len(each.violations)))
        for name, each in played.items()
    ]
    return titled("What was done to the federation", ("what", "cases", "faults", "taken up again", "violations"), rows)


def _report(played: dict[str, Played], seed: int, path: Path | None) -> None:
    if path is not None:
        document = {"seed": seed, "groups": {name: asdict(each) for name, each in played.items()}}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def _write(path: Path, played: dict[str, Played]) -> None:
    """Replaces what stands between the marks of ``path`` by the table."""
    from fedward.simulations.chaos.cases import GROUPS

    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = ["| what is done | cases | faults | taken up again | violations |", "|---|---|---|---|---|"]
    lines += [
        f"| {GROUPS[name]} | {each.cases} | {each.faults} | {each.waited} | {len(each.violations)} |"
        for name, each in played.items()
    ]
    path.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}", encoding="utf-8")
