"""`fedward simulate` and `fedward sweep`: one federation on this machine, or many, compared."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from fedward.cli.shared import Epsilon, JsonLines, Placement, Quiet, Rounds, ScenarioName, tried
from fedward.errors import ConfigError, RunFailedError

if TYPE_CHECKING:
    from fedward.planning.scenario import Scenario
    from fedward.simulations.sweep.play import Grid, Outcome

LONGEST_RANGE = 1000


def simulate(
    scenario: ScenarioName = "default",
    out: Annotated[Path, Option(callback=tried, help="Folder for the result; must not hold one yet.")] = Path("run"),
    seed: Annotated[int | None, Option(min=0, help="Another draw of the hospitals.")] = None,
    epsilon: Epsilon = None,
    no_dp: Annotated[bool, Option("--no-dp", help="Without differential privacy; marked NON-PRIVATE.")] = False,
    privacy: Annotated[
        Placement | None,
        Option(
            help="Who adds the noise: local (each hospital, all of it, at every step) or secure-grad (each a share, "
            "inside the secure sum of one step per round). Instead of the scenario's."
        ),
    ] = None,
    strategy: Annotated[
        str | None, Option(help="Aggregation strategy, such as ffa or fedsvd; docs/strategies.md compares them.")
    ] = None,
    rounds: Rounds = None,
    hospitals: Annotated[
        int | None, Option(min=3, max=1000, help="So many, whatever scenario and strategy say.")
    ] = None,
    dropouts: Annotated[int, Option(min=0, help="Hospitals that vanish at a random leg of a random round.")] = 0,
    federated_only: Annotated[
        bool, Option("--federated-only", help="Skip the local and central models trained for comparison.")
    ] = False,
    state: Annotated[Path | None, Option(help="Folder of the hospitals' privacy ledgers; outlives runs.")] = None,
    lifetime_epsilon: Annotated[float, Option(min=1e-6, help="Lifetime cap over all runs in --state.")] = 8.0,
    statistics: Annotated[
        bool, Option("--statistics", help="Train nothing: count the units of all hospitals, noised and charged.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Replace an earlier result in --out.")] = False,
    unsafe_seeded_noise: Annotated[
        bool,
        Option("--unsafe-seeded-noise", help="Reproducible noise for tests; anyone who knows the seed can remove it."),
    ] = False,
    as_json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Train one adapter across several hospitals, on this machine, with the real protocol.

    Without arguments: six synthetic hospitals learn in-hospital mortality at epsilon 8 per patient. Each
    trains privately, the coordinator only adds masked vectors, and the result is compared with every
    hospital alone and with all data pooled. Needs no network, no GPU and no data.

    Examples:

      fedward simulate --out run

      fedward simulate no-dp --out run-no-dp

      fedward simulate notes --out run-notes

      fedward simulate eicu --out run-eicu

      fedward simulate --privacy secure-grad --epsilon 1 --out run-shared

      fedward simulate --strategy group-median --hospitals 21 --out run-median

      fedward simulate my-scenario.toml --seed 7 --out run-7

      fedward simulate --statistics --epsilon 0.5 --out counts

    Scenarios: default (six synthetic hospitals), no-dp (the same without privacy), notes (a small language model learns
    their notes), eicu (five regions of the eICU demo, needs its tables and MiniLM), eicu-public (the same
    regions start at published severity tables), mimic-demo (the MIMIC-III demo tables), medquad-sft and pubmedqa
    (SmolLM2 learns to answer; need the data sets of these names and the model), cn-dialogue (answers in Chinese, needs
    cn-med-dialogue), or a TOML file of your own.

    Writes to --out: result.json, report.html, scenario.json and adapter/ (loadable with peft), or statistics.json.
    Nothing is written if the run fails.

    Exit status: 0 done, 3 a setting is wrong, 4 the data cannot be used, 6 the privacy budget is used up,
    10 too few hospitals remained; `fedward explain` lists all codes and their fixes.
    """
    from fedward.cli.statistics import print_statistics
    from fedward.planning.scenario import hospitals_for, load_scenario
    from fedward.simulations.run import Options, run_scenario
    from fedward.simulations.statistics import run_statistics
    from fedward.simulations.terminal import open_console
    from fedward.survey import STATISTICS_FILE

    loaded = load_scenario(scenario)
    options = Options(
        out=out,
        force=force,
        seed=seed,
        epsilon=epsilon,
        no_dp=no_dp,
        placement=None if privacy is None else privacy.value,
        strategy=strategy,
        rounds=rounds,
        hospitals=hospitals or hospitals_for(loaded.data, strategy or loaded.strategy),
        dropouts=dropouts,
        federated_only=federated_only,
        state=state,
        lifetime_epsilon=lifetime_epsilon,
        unsafe_seeded_noise=unsafe_seeded_noise,
        display="json" if as_json else "quiet" if quiet else "auto",
    )
    if not statistics:
        run_scenario(loaded, options)
        return
    result = run_statistics(loaded, options)
    if as_json:
        typer.echo(json.dumps({"event": "result", "folder": str(out), "result": result.model_dump(mode="json")}))
    else:
        print_statistics(result, open_console())
        typer.echo(f"Written    {out / STATISTICS_FILE}")


def sweep(
    scenario: ScenarioName = "default",
    strategies: Annotated[
        str | None, Option(help="Names with commas, such as ffa,fedsvd; all is all that the scenario allows.")
    ] = None,
    ranks: Annotated[str | None, Option(help="LoRA ranks with commas, such as 4,8.")] = None,
    epsilons: Annotated[str | None, Option(help="Epsilons with commas; none is a run without privacy.")] = None,
    seeds: Annotated[str | None, Option(help="Seeds with commas or a range, such as 1-5.")] = None,
    out: Annotated[Path, Option(callback=tried, help="Folder of the sweep; finished runs are kept.")] = Path("sweep"),
    jobs: Annotated[int, Option(min=1, max=64, help="Runs at the same time.")] = 1,
    compare: Annotated[bool, Option("--compare", help="Train the local and central models of every run too.")] = False,
    as_json: JsonLines = False,
    quiet: Quiet = False,
) -> None:
    """Run every combination of strategies, ranks, budgets and seeds, and compare them on the same hospitals.

    What is not named stays as the scenario has it. Every run is planned before the first one starts; then each
    becomes an ordinary run under --out. Start the same command again after an interruption: finished runs are kept.

    Examples:

      fedward sweep --strategies ffa,fedit --epsilons none,8,1 --seeds 1-3 --out sweep

      fedward sweep my-scenario.toml --ranks 4,8,16 --seeds 1-5 --jobs 2 --out ranks

    Writes to --out: sweep.html (plots), sweep.json, sweep.csv and runs/.

    Exit status: 0 done, 3 a setting is wrong, 9 some runs failed; they are tried again next time.
    """
    from fedward.planning.scenario import load_scenario
    from fedward.simulations.result import write_atomically
    from fedward.simulations.sweep.play import run_sweep
    from fedward.simulations.sweep.summary import DOCUMENT, PAGE, TABLE, as_csv, render, summarise, table
    from fedward.simulations.terminal import open_console

    base = load_scenario(scenario)
    grid = _grid(base, strategies, ranks, epsilons, seeds)
    console = open_console()
    voice = _Voice(len(grid), as_json=as_json, quiet=quiet)
    outcomes = run_sweep(base, grid, out, federated_only=not compare, jobs=jobs, on_outcome=voice.settled)
    document = summarise(base.name, base.task, outcomes, unit=base.privacy.unit)
    write_atomically(out / DOCUMENT, document.model_dump_json(indent=2) + "\n")
    write_atomically(out / TABLE, as_csv(document))
    write_atomically(out / PAGE, render(document))
    if as_json:
        typer.echo(json.dumps({"event": "result", "folder": str(out), "result": document.model_dump(mode="json")}))
    else:
        console.print(table(document, framed=console.is_terminal))
        console.print(f"Written    {out / PAGE}, {out / DOCUMENT}, {out / TABLE}", markup=False, soft_wrap=True)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        found = f"{len(failed)} of {len(outcomes)} runs failed, the first with {failed[0].error}."
        raise RunFailedError(found, code="FW-RUN-011")


class _Voice:
    """Says after each run what came of it and how long the rest will take."""

    def __init__(self, total: int, *, as_json: bool, quiet: bool) -> None:
        self._total, self._json, self._quiet = total, as_json, quiet
        self._settled, self._run, self._began = 0, 0, time.monotonic()

    def settled(self, outcome: Outcome) -> None:
        """One run more is finished, kept or failed."""
        self._settled += 1
        self._run += outcome.state != "kept"
        spent = time.monotonic() - self._began
        left = spent / self._run * (self._total - self._settled) if self._run else None
        result = outcome.result
        title = "" if result is None else result.headline.title
        score = None if result is None else result.scores.federated
        if self._json:
            event = {
                "event": "run",
                "name": outcome.cell.name,
                "state": outcome.state,
                **({} if result is None else {result.headline.name: score}),
                "error": outcome.error or None,
                "done": self._settled,
                "total": self._total,
                "eta_seconds": left,
            }
            typer.echo(json.dumps(event))
        elif not self._quiet:
            typer.echo(self._line(outcome, title, score, left))

    def _line(self, outcome: Outcome, title: str, score: float | None, left: float | None) -> str:
        from fedward.simulations import wording

        found = f"failed with {outcome.error}" if outcome.state == "failed" else f"{title} {wording.score(score)}"
        spent = "kept" if outcome.state == "kept" else wording.duration(outcome.seconds)
        rest = f", {wording.duration(left)} left" if left else ""
        return f"{self._settled}/{self._total}  {outcome.cell.name}  {found}  {spent}{rest}"


def _grid(base: Scenario, strategies: str | None, ranks: str | None, epsilons: str | None, seeds: str | None) -> Grid:
    from fedward.config import parse
    from fedward.simulations.sweep.play import Grid

    own = base.privacy.epsilon if base.privacy.private else None
    names = _all_of(base) if strategies == "all" else _items(strategies)
    values: dict[str, Sequence[object]] = {
        "strategies": names or [base.strategy],
        "ranks": [_number(item, "--ranks") for item in _items(ranks)] or [None],
        "epsilons": [_epsilon(item) for item in _items(epsilons)] or [own],
        "seeds": _seeds(seeds) or [base.seed],
    }
    for option, found in values.items():
        if len(set(found)) != len(found):
            raise _refused(f"--{option} lists a value twice.", "List each value once.")
    try:
        return parse(values, Grid, source="The sweep")
    except ConfigError as error:
        raise _refused(error.message, "Choose values within range; fedward sweep --help shows some.") from None


def _refused(message: str, fix: str) -> ConfigError:
    return ConfigError(message, code="FW-CONFIG-038", fix=fix)


def _all_of(base: Scenario) -> list[str]:
    """Every strategy that the scenario's hospitals, ranks and optimizer allow, as far as that is known without data."""
    from fedward.planning.scenario import MIN_HOSPITALS, known_hospitals
    from fedward.simulations.sweep.play import Cell, CellRefusedError
    from fedward.strategies.registry import NAMES, base_of, find_strategy

    hospitals, own = known_hospitals(base.data) or MIN_HOSPITALS, base.privacy.epsilon if base.privacy.private else None
    names = []
    for name in sorted(n for n in NAMES if find_strategy(base_of(n)).declaration.fewest_hospitals <= hospitals):
        try:
            Cell(name, None, own, base.seed).planned(base, federated_only=True)
        except CellRefusedError as error:
            typer.echo(f"Left out  {error.message}", err=True)
        else:
            names.append(name)
    return names


def _items(text: str | None) -> list[str]:
    return [] if text is None else [item.strip() for item in text.split(",") if item.strip()]


def _number(text: str, option: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise _refused(f"{text!r} in {option} is not a whole number.", f"Write for example {option} 1,2,3.")
    return int(text)


def _epsilon(text: str) -> float | None:
    if text.lower() in ("none", "no-dp"):
        return None
    try:
        return float(text)
    except ValueError:
        raise _refused(f"{text!r} in --epsilons is not a number.", "Write for example --epsilons none,8,1.") from None


def _seeds(text: str | None) -> list[int]:
    found: list[int] = []
    for item in _items(text):
        first, dash, last = item.partition("-")
        low = _number(first, "--seeds")
        high = _number(last, "--seeds") if dash else low
        if not low <= high < low + LONGEST_RANGE:
            raise _refused(f"{item!r} in --seeds is not a range.", "Write for example --seeds 1-5.")
        found += range(low, high + 1)
    return found
