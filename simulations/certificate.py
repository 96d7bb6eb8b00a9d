"""The privacy section of a result: both populations priced, cross-checked, and what is not covered."""

from __future__ import annotations

from collections.abc import Sequence

from fedward.privacy.accounting import epsilon
from fedward.privacy.dpsgd.crosscheck import NOT_COVERED, Certificate, certify
from fedward.privacy.events import Event
from fedward.run import Schedule
from fedward.simulations.result import CrossCheck, Privacy, Release, SecureSum
from fedward.units import UNITS

_SHARES = (
    "Statistics carry shares of the noise: their part of epsilon holds against the coordinator as long as at least "
    "{honest} hospitals in every sum add theirs and the secure sum hides each vector."
)
_SHARED_STEPS = (
    "Gradients and statistics carry shares of the noise: epsilon holds as long as at most {colluders} of the hospitals "
    "leave theirs out or disclose them (c = {colluders}), so that at least {honest} (t - c) honest ones remain in "
    "every sum of at least {threshold} (t), and the secure sum hides each vector."
)
_TWICE_IN_A_SUM = (
    "A {unit} of two hospitals is in each sum twice: for such a {unit} epsilon doubles and delta is multiplied by "
    "1 + exp(epsilon)."
)
_SHARED_MECHANISM = (
    "Poisson-subsampled clipped gradient sums and statistics with discrete Gaussian noise shares inside a secure sum, "
    "priced as Gaussian (ADR 0002, ADR 0005)"
)
_CLIPPING = {
    "fixed": "",
    "adaptive": "; clip norm by a noised count of {units} within the same noise multiplier (Andrew et al. 2021)",
    "automatic": "; automatic clipping (Bu et al. 2023)",
}
_EXACT_EVALUATION = "Evaluation {units}: their statistics left without noise (unsafe_exact_evaluation)."
_RESULT = "The scores, intervals and {unit} counts in this result: exact, and known to the simulator only."
_COMPARISON = "The local and central models of the comparison, which exist in this simulation only."


def certificate(schedule: Schedule, *, private: bool, secure_sum: SecureSum) -> Privacy:
    """Prices everything a run released about a unit.

    Args:
        schedule: of the plan with its noise.
        private: whether the noise is secret; if not, the numbers are nominal.
        secure_sum: t and c, from which follows into how many shares noise is split.

    Raises:
        IntegrityError: FW-DP-020, the cross-check fails, so no certificate is issued.
    """
    plan = schedule.plan
    if not plan.privacy.private:
        return _without_privacy(schedule)
    training, delta, unit = schedule.all_training_events, plan.privacy.delta, UNITS[plan.privacy.unit]
    certified = certify(training, delta, unit=unit.name, clip=plan.privacy.clip)
    worst = certified.spent.epsilon
    releases = [event for event in training if event.kind == "release"]
    evaluation = schedule.all_evaluation_events
    if evaluation:
        # Evaluation units are others than training units, so the larger of the two counts.
        worst = max(worst, certify(evaluation, delta).spent.epsilon)
    return Privacy(
        private=private,
        epsilon_max=worst,
        delta=delta,
        unit=unit.name,
        placement=plan.privacy.placement,
        mechanism=(_SHARED_MECHANISM if schedule.sums_gradients else certified.mechanism)
        + _CLIPPING[plan.privacy.clipping].format(units=unit.plural),
        sampler=certified.sampler,
        sampling_rate=plan.privacy.sampling_rate,
        steps=plan.training.rounds * schedule.private_steps,
        expected_batch=plan.privacy.expected_batch,
        noise_multiplier=plan.privacy.noise_multiplier,
        clip=plan.privacy.clip,
        accountant=certified.spent.accountant,
        cross_check=_cross_check(certified),
        release=_release(("mean clipped loss", f"number of {unit.plural}"), releases, delta) if releases else None,
        evaluation=_evaluation(evaluation, delta, schedule),
        assumptions=(*certified.assumptions, *_shares(schedule, secure_sum)),
        not_covered=tuple(_not_covered(schedule)),
    )


def _shares(schedule: Schedule, secure_sum: SecureSum) -> list[str]:
    numbers = {
        "threshold": secure_sum.threshold,
        "colluders": secure_sum.colluders,
        "honest": secure_sum.threshold - secure_sum.colluders,
    }
    if schedule.sums_gradients:
        return [_SHARED_STEPS.format(**numbers), _TWICE_IN_A_SUM.format(unit=schedule.plan.privacy.unit)]
    return [_SHARES.format(**numbers)]


def _not_covered(schedule: Schedule) -> list[str]:
    unit = UNITS[schedule.plan.privacy.unit]
    exact = [] if schedule.noises_evaluation else [_EXACT_EVALUATION.format(units=unit.plural)]
    return [*NOT_COVERED, *exact, _RESULT.format(unit=unit.name), _COMPARISON]


def _cross_check(certified: Certificate) -> CrossCheck:
    check = certified.cross_check
    return CrossCheck(
        accountant=check.accountant, epsilon=check.epsilon, rdp_epsilon=certified.spent.rdp_epsilon, agrees=True
    )


def _release(statistics: tuple[str, ...], events: Sequence[Event], delta: float) -> Release:
    return Release(
        statistics=statistics,
        releases=len(events),
        noise_multiplier=events[0].noise_multiplier,
        epsilon=epsilon(events, delta).epsilon,
        delta=delta,
    )


def _evaluation(events: Sequence[Event], delta: float, schedule: Schedule) -> Release | None:
    statistics = tuple(f"sums for {measure.title}" for measure in schedule.task.released)
    if not statistics:
        return None
    if events:
        return _release(statistics, events, delta)
    return Release(
        statistics=statistics,
        releases=schedule.evaluation_releases,
        noise_multiplier=None,
        epsilon=None,
        delta=None,
    )


def _without_privacy(schedule: Schedule) -> Privacy:
    plan = schedule.plan
    return Privacy(
        private=False,
        epsilon_max=None,
        delta=None,
        unit=plan.privacy.unit,
        placement="none",
        mechanism="none",
        sampler=f"Poisson over {UNITS[plan.privacy.unit].plural}",
        sampling_rate=plan.privacy.sampling_rate,
        steps=plan.training.rounds * schedule.private_steps,
        expected_batch=plan.privacy.expected_batch,
        noise_multiplier=None,
        clip=None,
        accountant=None,
        not_covered=("Everything: the run had no differential privacy.",),
    )
