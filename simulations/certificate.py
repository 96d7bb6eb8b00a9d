"""The privacy section of a result: both populations priced, cross-checked, and what is not covered."""

from __future__ import annotations

from collections.abc import Sequence

from fedward.client.accounting import run_evaluation_events, run_training_events
from fedward.plan import Plan
from fedward.privacy.accounting import Event, epsilon
from fedward.privacy.dpsgd.crosscheck import ASSUMPTIONS, NOT_COVERED, Certificate, certify
from fedward.privacy.segments import noises_evaluation
from fedward.simulations.result import CrossCheck, Privacy, Release

_SHARES = (
    "Statistics carry shares of the noise: their part of epsilon holds against the coordinator as long as at least "
    "{honest} hospitals in every sum add theirs and the secure sum hides each vector."
)
_EXACT_EVALUATION = "Evaluation patients: their score histograms left without noise (unsafe_exact_evaluation)."
_RESULT = "The scores, intervals and patient counts in this result: exact, and known to the simulator only."
_COMPARISON = "The local and central models of the comparison, which exist in this simulation only."


def certificate(plan: Plan, *, private: bool, honest: int) -> Privacy:
    """Prices everything a run of ``plan`` released about a patient.

    Args:
        plan: with its noise.
        private: whether the noise is secret; if not, the numbers are nominal.
        honest: t - c, the hospitals into which the noise of statistics is shared.

    Raises:
        AccountantsDisagreeError: the cross-check fails, so no certificate is issued.
    """
    if not plan.privacy.private:
        return _without_privacy(plan)
    training, delta = run_training_events(plan), plan.privacy.delta
    certified = certify(training, delta, clip=plan.privacy.clip)
    worst = certified.spent.epsilon
    releases = [event for event in training if event.kind == "release"]
    evaluation = run_evaluation_events(plan)
    if evaluation:
        # Evaluation patients are others than training patients, so the larger of the two counts.
        worst = max(worst, certify(evaluation, delta).spent.epsilon)
    return Privacy(
        private=private,
        epsilon_max=worst,
        delta=delta,
        placement=plan.privacy.placement,
        mechanism=certified.mechanism,
        sampler=certified.sampler,
        sampling_rate=plan.privacy.sampling_rate,
        steps=plan.training.rounds * plan.training.local_steps,
        expected_batch=plan.privacy.expected_batch,
        noise_multiplier=plan.privacy.noise_multiplier,
        clip=plan.privacy.clip,
        accountant=certified.spent.accountant,
        cross_check=_cross_check(certified),
        release=_release(("mean clipped loss", "number of patients"), releases, delta) if releases else None,
        evaluation=_evaluation(evaluation, delta, plan),
        assumptions=(*ASSUMPTIONS, _SHARES.format(honest=honest)),
        not_covered=tuple(_not_covered(plan)),
    )


def _not_covered(plan: Plan) -> list[str]:
    return [*NOT_COVERED, *([] if noises_evaluation(plan) else [_EXACT_EVALUATION]), _RESULT, _COMPARISON]


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


def _evaluation(events: Sequence[Event], delta: float, plan: Plan) -> Release:
    statistics = ("score histogram by outcome",)
    if events:
        return _release(statistics, events, delta)
    return Release(
        statistics=statistics,
        releases=plan.evaluation_releases,
        noise_multiplier=None,
        epsilon=None,
        delta=None,
    )


def _without_privacy(plan: Plan) -> Privacy:
    return Privacy(
        private=False,
        epsilon_max=None,
        delta=None,
        placement="none",
        mechanism="none",
        sampler="Poisson over patients",
        sampling_rate=plan.privacy.sampling_rate,
        steps=plan.training.rounds * plan.training.local_steps,
        expected_batch=plan.privacy.expected_batch,
        noise_multiplier=None,
        clip=None,
        accountant=None,
        not_covered=("Everything: the run had no differential privacy.",),
    )
