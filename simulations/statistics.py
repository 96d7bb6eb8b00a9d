"""Statistics of a simulated federation before any training: one noised, charged secure sum, by the code of a run.

The hospitals and the coordinator are those of :mod:`fedward.simulations.federation`; their plan counts instead of
training, so none of them has a model.
"""

from fedward.errors import ConfigError
from fedward.planning.scenario import Scenario
from fedward.planning.statistics import make_statistics_plan
from fedward.privacy.accounting import epsilon_everybody
from fedward.privacy.dpsgd.crosscheck import OWN_KEYS, certify
from fedward.run import Run, shares_among
from fedward.simulations import result as document
from fedward.simulations.federation import Setting, play
from fedward.simulations.parties import EncodedSite, Randomness, make_sites
from fedward.simulations.result import Privacy, SecureSum, write_atomically
from fedward.simulations.run import (
    SEEDED,
    SHARES,
    TWICE_IN_A_SUM,
    Options,
    against_everybody,
    apply_options,
    check_output,
    finite,
    open_budget,
    staged,
)
from fedward.simulations.terminal import RunDisplay
from fedward.survey import STATISTICS_FILE, StatisticsResult, statistics_result
from fedward.units import UNITS

_MECHANISM = "Statistics with discrete Gaussian noise{shares} inside a secure sum, priced as Gaussian (ADR 0002)"


def run_statistics(scenario: Scenario, options: Options) -> StatisticsResult:
    """Counts the units of ``scenario`` and writes ``statistics.json`` and the ledgers to ``options.out``.

    Raises FW-DP-021 (without noise), FW-BUDGET-010 (a ledger has no room for it), FW-CONFIG-062 (no such variable);
    nothing is written then.
    """
    scenario = apply_options(scenario, options)
    if not scenario.privacy.private:
        raise ConfigError("Statistics without noise would be exact counts of the hospitals.", code="FW-DP-021")
    check_output(options, STATISTICS_FILE)
    randomness = Randomness(scenario.seed if options.unsafe_seeded_noise else None)
    display = RunDisplay(options.display)
    with display, staged(options) as folder:
        plan = make_statistics_plan(scenario, epsilon=options.epsilon)
        run, sites = Run.of_statistics(plan), make_sites(scenario, plan)
        display.start(plan.name, hospitals=len(sites), rounds=1, epsilon=plan.privacy.epsilon, unit=plan.privacy.unit)
        budget = open_budget(run, options, folder)
        counted = [EncodedSite.count(site, run) for site in sites]
        setting = Setting(run, scenario.speed, display, randomness)
        with budget.open(site.name for site in sites) as ledgers:
            played = play(setting, counted, ledgers, budget=budget, dropouts=options.dropouts, fault_seed=scenario.seed)
        summary = played.coordinator.summaries[-1]
        found = statistics_result(run, summary.statistics, deviation=summary.deviation, hospitals=summary.survivors)
        reasons = (SEEDED,) if options.unsafe_seeded_noise else ()
        shares = shares_among(run, len(sites))
        priced = survey_certificate(run, private=not reasons, secure_sum=played.secure_sum, shares=shares)
        priced_too = {"certificate": priced.model_dump(mode="json"), "epsilon_everybody": priced.epsilon_everybody}
        result = found.model_copy(update={"non_private_reasons": reasons, **priced_too})
        write_atomically(folder / STATISTICS_FILE, result.model_dump_json(indent=2) + "\n")
    return result


def survey_certificate(run: Run, *, private: bool, secure_sum: SecureSum, shares: int) -> Privacy:
    """Prices the statistics for each unit, cross-checked; arguments and refusal as of a run's ``certificate``."""
    plan, statistics, unit = run.plan, run.counts, UNITS[run.plan.privacy.unit]
    delta, noise = plan.privacy.delta, statistics.noise_multiplier
    events = run.all_training_events(honest=shares)
    certified, everybody = certify(events, delta, unit=unit.name), epsilon_everybody(events, delta)
    spent, check, t, c = certified.spent, certified.cross_check, secure_sum.threshold, secure_sum.colluders
    released = document.Release(
        statistics=(f"number of {unit.plural}", *statistics.variables),
        releases=1,
        noise_multiplier=noise,
        epsilon=spent.epsilon,
        epsilon_everybody=finite(everybody),
        delta=delta,
    )
    assumptions = certified.assumptions
    if run.splits_noise:
        told = SHARES.format(honest=t - c), against_everybody(everybody)
        assumptions = (OWN_KEYS, *told, TWICE_IN_A_SUM.format(unit=unit.name))
    return Privacy(
        private=private,
        epsilon_max=spent.epsilon,
        epsilon_everybody=finite(everybody),
        delta=delta,
        unit=unit.name,
        placement="shares" if run.splits_noise else "local",
        mechanism=_MECHANISM.format(shares=" shares" if run.splits_noise else ""),
        sampler=f"none: all {unit.plural} are in the sum",
        sampling_rate=1.0,
        steps=0,
        expected_batch=0.0,
        noise_multiplier=noise,
        clip=None,
        accountant=spent.accountant,
        cross_check=document.CrossCheck(
            accountant=check.accountant, epsilon=check.epsilon, rdp_epsilon=spent.rdp_epsilon, agrees=True
        ),
        release=released,
        assumptions=assumptions,
    )
