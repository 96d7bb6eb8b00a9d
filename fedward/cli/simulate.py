"""`fedward simulate`: a whole federation on this machine."""

from pathlib import Path
from typing import Annotated

from typer import Option

from fedward.cli.shared import Epsilon, JsonLines, Placement, Quiet, Rounds, ScenarioName


def simulate(
    scenario: ScenarioName = "default",
    out: Annotated[Path, Option(help="Folder for the result; must not hold one yet.")] = Path("run"),
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

      fedward simulate eicu --out run-eicu

      fedward simulate --privacy secure-grad --epsilon 1 --out run-shared

      fedward simulate --strategy group-median --hospitals 21 --out run-median

      fedward simulate my-scenario.toml --seed 7 --out run-7

    Scenarios: default (six synthetic hospitals), no-dp (the same without privacy), eicu (five regions of the eICU
    demo, needs its tables and MiniLM), mimic-demo (the MIMIC-III demo tables), or a TOML file of your own.

    Writes to --out: result.json, report.html, scenario.json and adapter/ (loadable with peft). Nothing is
    written if the run fails.

    Exit status: 0 done, 3 a setting is wrong, 4 the data cannot be used, 6 the privacy budget is used up,
    10 too few hospitals remained; `fedward explain` lists all codes and their fixes.
    """
    from fedward.planning.scenario import hospitals_for, load_scenario
    from fedward.simulations.run import Options, run_scenario

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
    run_scenario(loaded, options)
