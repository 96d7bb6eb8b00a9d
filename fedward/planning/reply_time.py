"""Reply time: when answers that depend on records leave a hospital, sized on what everybody knows before a run.

How long a step takes tells how many patients were sampled, so an answer waits for a time that the plan fixes. It has to
be long enough for an unusually large sample at a slow hospital; what takes longer leaves at the next whole multiple.
"""

from __future__ import annotations

import math

from fedward.plan import Plan
from fedward.run import Schedule

SPEED = 2e10
"""Floating-point operations in a second that one slow core does; the packaged encoder does four times as many."""

FIXED_SECONDS = 1.0  # for keys, shares, ledger and files
TRAINING, SCORING = 6.0, 2.0  # operations per parameter and token: forward and backward, or forward alone
SPREAD = 6.0  # standard deviations of the number of sampled units above its expectation


def reply_seconds(schedule: Schedule, parameters: int) -> float:
    """Seconds after which an answer of a base model of so many ``parameters`` leaves; at most half a leg's time."""
    plan, privacy = schedule.plan, schedule.plan.privacy
    tokens = privacy.records_per_unit * plan.adapter.max_tokens * parameters
    sampled = privacy.expected_batch + SPREAD * math.sqrt(privacy.expected_batch)
    scored = 2 * privacy.units_per_site  # both populations
    work = tokens * (TRAINING * schedule.private_steps * sampled + SCORING * scored)
    seconds = FIXED_SECONDS + work / SPEED
    return float(min(math.ceil(seconds), plan.secure_sum.leg_seconds / 2))


def with_reply_time(plan: Plan, parameters: int) -> Plan:
    """``plan`` with a reply time, its own if it has one."""
    if plan.privacy.reply_seconds is not None:
        return plan
    seconds = reply_seconds(Schedule.of(plan), parameters)
    return plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"reply_seconds": seconds})})
