"""`fedward plan`: what a run would cost, before any data is read, and the file that hospitals are asked to approve."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option, Typer

from fedward.cli.shared import AsJson, Epsilon, Placement, Rounds, ScenarioName, say, titled, tried
from fedward.units import UNITS

if TYPE_CHECKING:
    from fedward.planning.budget import Room
    from fedward.planning.estimate import Estimate, Statistics
    from fedward.planning.prices import Price
    from fedward.planning.statistics import StatisticsEstimate


app = Typer(no_args_is_help=True)
Rows = Sequence[tuple[str, str]]
_EVERYBODY = "none: everybody is in every release"
_FITS = "Ledgers: the run fits, and this would be left"


class Unit(StrEnum):
    """Whose participation is to be hidden."""

    patient = "patient"
    question = "question"
    document = "document"
    hospital = "hospital"


@app.command("estimate")
def estimate_command(
    scenario: ScenarioName = "default",
    epsilon: Epsilon = None,
    rounds: Rounds = None,
    privacy: Annotated[
        Placement | None, Option(help="Who adds the noise, local or secure-grad, instead of the scenario's.")
    ] = None,
    hospitals: Annotated[
        int | None, Option(min=3, help="Number of hospitals, where only the data would say it.")
    ] = None,
    unit: Annotated[
        Unit | None, Option(help="Whom privacy is for: the data say it; hospital is refused, with the numbers why.")
    ] = None,
    state: Annotated[
        Path | None, Option(help="Folder of ledgers that the run must fit into; they are only read.")
    ] = None,
    lifetime_epsilon: Annotated[
        float | None, Option(min=1e-6, help="Lifetime cap instead of the one each ledger began with.")
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="Of the run: another split of the records, for --state.")] = None,
    statistics: Annotated[
        bool, Option("--statistics", help="Price the statistics before training instead; --epsilon is theirs.")
    ] = False,
    no_time: Annotated[bool, Option("--no-time", help="Take no steps to see how long it would run.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Say what a run would cost: epsilon, noise, steps, ledgers and time. Reads no record and charges nothing.

    Examples:

      fedward plan estimate

      fedward plan estimate --epsilon 1 --privacy secure-grad

      fedward plan estimate my-scenario.toml --state ledgers --json

      fedward plan estimate my-scenario.toml --statistics

    Time is measured with a few steps on random tokens. A score is printed only for settings that were measured.

    Exit status: 0 the run is possible, 3 a setting is wrong, 6 it does not fit into a ledger of --state.
    """
    from fedward.client.models.registry import resolve
    from fedward.planning.estimate import estimate, refuse_hospital_unit
    from fedward.planning.scenario import load_scenario
    from fedward.planning.statistics import estimate_statistics
    from fedward.simulations.run import Options, apply_options

    own = None if statistics else epsilon
    options = Options(
        out=Path(), seed=seed, epsilon=own, rounds=rounds, placement=None if privacy is None else privacy.value
    )
    changed = apply_options(load_scenario(scenario), options)
    if statistics:
        counted = estimate_statistics(
            changed, epsilon=epsilon, hospitals=hospitals, state=state, lifetime_epsilon=lifetime_epsilon
        )
        _say_statistics(counted, as_json=as_json)
        return
    files = resolve(changed.model)
    if unit is Unit.hospital:
        refuse_hospital_unit(changed, files, hospitals)
    if unit is not None:
        asked = changed.privacy.model_copy(update={"unit": unit.value})
        changed.model_copy(update={"privacy": asked}).check()
    found = estimate(
        changed, files, hospitals=hospitals, state=state, lifetime_epsilon=lifetime_epsilon, measure_time=not no_time
    )
    if as_json:
        typer.echo(json.dumps(found.to_value(), sort_keys=True, allow_nan=False))
    else:
        _print(found, Console(soft_wrap=True))


def _say_statistics(found: StatisticsEstimate, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.to_value(), sort_keys=True, allow_nan=False))
        return
    console, units = Console(soft_wrap=True), UNITS[found.unit].plural
    console.print(f"Statistics {found.name}: nothing was read, nothing was spent", style="bold")
    console.print()
    console.print(
        _pairs(f"Privacy of all {units}, whether they will train or evaluate", _cost(found.price, _EVERYBODY))
    )
    whole = found.deviation_all
    rows = [
        (name, f"{found.cells.get(name, 1)}", f"{certain:,.1f}", "" if whole is None else f"{whole[name]:,.1f}")
        for name, certain in found.deviation.items()
    ]
    count = "all" if found.hospitals is None else f"all {found.hospitals}"
    of_one = "certain shares" if found.shared else "of one hospital"
    headings = ("variable", "cells", of_one, f"sum of {count} hospitals")
    console.print()
    console.print(titled(f"Noise in a count of {units} (one standard deviation)", headings, rows))
    if found.ledgers is not None:
        console.print()
        console.print(_pairs(_FITS, _rooms(found.ledgers)))


def _print(found: Estimate, console: Console) -> None:
    console.print(f"Plan {found.name}: nothing was read, nothing was spent", style="bold")
    if not found.private:
        console.print("NON-PRIVATE: no clipping, no noise, no epsilon.", style="bold red")
    for title, rows in _sections(found):
        console.print()
        console.print(_pairs(title, rows))
    for line in _remarks(found):
        console.print()
        console.print(line, markup=False)


def _pairs(title: str, rows: Rows) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    return table


def _cost(price: Price, sampler: str) -> Rows:
    from fedward.simulations.wording import delta, epsilon

    everybody = "none can be stated: noise is shared, in too many parts or nobody knows in how many"
    if price.epsilon_everybody is not None:
        everybody = f"{epsilon(price.epsilon_everybody)}, all other hospitals and the coordinator together"
    return (
        ("epsilon", f"{epsilon(price.epsilon)} at delta {delta(price.delta)}"),
        ("  against everybody", everybody),
        ("unit, relation", f"{price.unit}, {price.relation}"),
        ("sampler", sampler),
        ("accountant", f"{price.accountant} (RDP, an upper bound: {epsilon(price.rdp_epsilon)})"),
    )


def _rooms(ledgers: Sequence[Room]) -> Rows:
    from fedward.simulations.wording import epsilon

    rows = []
    for room in ledgers:
        left = f"{epsilon(room.spent)} spent, {epsilon(room.spent_after)} after the run, cap {room.cap:g}"
        rows.append((room.site or "a hospital without a ledger", f"epsilon {left}"))
    return rows


def _sections(found: Estimate) -> Iterator[tuple[str, Rows]]:
    units = UNITS[found.unit].plural
    for price, whose in ((found.training, "training"), (found.evaluation, "evaluation")):
        if price is not None:
            sampler = price.sampler if whose == "training" else _EVERYBODY
            yield f"Privacy of {whose} {units}, whole run", _cost(price, sampler)
    yield "Steps", _steps(found)
    for statistics, what in (
        (found.training_statistics, "Released training statistics (part of the epsilon above)"),
        (found.evaluation_statistics, "Released evaluation statistics"),
    ):
        if statistics is not None:
            yield what, _statistics(statistics)
    if found.ledgers is not None:
        yield _FITS, _rooms(found.ledgers)


def _steps(found: Estimate) -> Rows:
    from fedward.simulations.wording import duration

    count = "as many as the data hold" if found.hospitals is None else str(found.hospitals)
    rows = [
        ("hospitals, placement of noise", f"{count}, {found.placement}"),
        ("rounds, steps", f"{found.rounds}, {found.steps}"),
    ]
    if (step := found.step) is not None:
        units, sigma = UNITS[found.unit].plural, f"{step.noise_multiplier:.4g}"
        if step.gradient_noise_multiplier != step.noise_multiplier:
            sigma += f"; {step.gradient_noise_multiplier:.4g} on gradients, the rest pays for the clipping count"
        whose = "in the mean of all hospitals' sums" if found.placement == "secure-grad" else "at one hospital"
        rows += [
            ("sigma", sigma),
            ("clipping", f"{found.clipping}, C = {step.clip:g}"),
            ("trained parameters d", f"{step.parameters:,}"),
            ("expected batch q N", f"{step.expected_batch:g} {units} a hospital (q = {step.sampling_rate:g})"),
            ("noise / clip, one step", f"{step.noise_to_clip:.3g} times C {whose}"),
        ]
        if step.noise_to_clip_all is not None and step.noise_to_clip_certain is None:
            rows.append(("  mean over all hospitals", f"{step.noise_to_clip_all:.3g} times C"))
        if step.noise_to_clip_certain is not None:
            rows.append(("  with certain shares only", f"{step.noise_to_clip_certain:.3g} times C"))
    held = f"{duration(found.reply_seconds)} after they are asked for" if found.reply_seconds else "when they are ready"
    rows.append(("answers leave a hospital", held))
    if (time := found.time) is not None:
        rows.append(("time of a step (estimate)", duration(time.step_seconds) + " at one hospital"))
        if time.training_seconds is not None:
            rows.append(("time of all steps (estimate)", f"{duration(time.training_seconds)}, {time.at_once} at once"))
    return rows


def _statistics(statistics: Statistics) -> Rows:
    from fedward.simulations.wording import epsilon

    noise = ", ".join(f"{name} {deviation:.3g}" for name, deviation in statistics.deviation.items())
    return (
        ("releases", str(statistics.releases)),
        ("epsilon on their own", f"{epsilon(statistics.epsilon)} (sigma {statistics.noise_multiplier:.4g})"),
        ("standard deviation of a sum", noise),
    )


def _remarks(found: Estimate) -> Iterator[str]:
    if found.step is not None:
        yield "Noise / clip: above 1 the noise of a step is longer than the mean of clipped gradients can ever be."
    if (utility := found.utility) is not None:
        yield (
            f"Measured {utility.measure} at these settings: {utility.federated:.3f} federated, "
            f"{utility.alone:.3f} hospitals alone, {utility.pooled:.3f} pooled "
            f"(mean of {utility.draws} draws, {utility.sweep})."
        )
    else:
        yield "Utility: no measured sweep exists for these settings, so none is quoted."
    if (whole := found.hospital_unit) is not None:
        yield (
            f"Privacy for hospitals instead of {UNITS[found.unit].plural} is not offered: at the same epsilon the "
            f"noise in each round's mean would be {whole.noise_to_clip:.3g} times the longest update of a hospital."
        )
    if found.time is not None:
        yield f"Time: {found.time.basis}"


Folder = Annotated[Path, Argument(metavar="PLAN", help="Plan folder.", file_okay=False)]


@app.command("new")
def new_command(
    scenario: Annotated[str, Argument(metavar="SCENARIO", help="A shipped scenario or a TOML file.")],
    out: Annotated[Path, Option(callback=tried, help="New plan folder.", file_okay=False)],
    statistics: Annotated[
        bool, Option("--statistics", help="Count the units of all hospitals, noised; train nothing.")
    ] = False,
) -> None:
    """Make a plan from a scenario: noise calibrated, starting adapter, hashes. Needs fedward[client]; reads no record.

    Example: fedward plan new icu.toml --out icu-plan
    """
    from fedward.planning.estimate import write_plan
    from fedward.planning.scenario import load_scenario

    plan, terms = write_plan(load_scenario(scenario), out, statistics=statistics)
    if plan.statistics is not None:
        typer.echo(f"Wrote {out}: {plan.name}, statistics of {', '.join(plan.statistics.variables)}; trains nothing.")
        return
    typer.echo(f"Wrote {out}: {plan.name}, {terms.parameters:,} parameters, {plan.training.rounds} rounds.")


@app.command("check")
def check_command(folder: Folder, as_json: AsJson = False) -> None:
    """Check that a plan folder holds together, and say what it promises.

    Exit status 11 if its files do not belong together.

    Example: fedward plan check icu-plan
    """
    from fedward.server.deployment.records import check_folder

    found = check_folder(folder)
    say(found, (f"{name.replace('_', ' ')}: {value}" for name, value in found.items()), as_json=as_json)


@app.command("sign")
def sign_command(
    folder: Folder,
    run: Annotated[str, Option(help="Name of the run, never used before.")],
    config: Annotated[Path, Option(envvar="FEDWARD_SERVER_CONFIG", help="The coordinator's server.toml.")],
    days: Annotated[int, Option(min=1, max=366, help="How long hospitals may answer for it.")] = 30,
) -> None:
    """Sign a plan for one run with the coordinator's key; writes plan.fedward, the file to send to hospitals.

    Example: fedward plan sign icu-plan --run icu-1 --config server.toml
    """
    from fedward.server.deployment.records import SIGNED_FILE, sign_folder
    from fedward.server.deployment.settings import ServerFolders, load_server_config

    settings = load_server_config(config)
    identity = ServerFolders(settings.folder).identity()
    signed = sign_folder(folder, run=run, federation=settings.federation.name, identity=identity, days=days)
    typer.echo(f"Wrote {folder / SIGNED_FILE}. Plan fingerprint: {signed.fingerprint}")
