"""The time at which answers leave: from public numbers alone, below the leg's timeout, or the plan's own."""

import pytest
from pydantic import ValidationError

from fedward.plan import Plan
from fedward.planning.reply_time import FIXED_SECONDS, reply_seconds, with_reply_time
from fedward.run import Schedule

PARAMETERS = 100_000


def plan_of(leg_seconds=600, training=None, **privacy):
    return Plan.model_validate(
        {
            "name": "run",
            "base_model_sha256": "0" * 64,
            "training": training or {},
            "secure_sum": {"leg_seconds": leg_seconds},
            "privacy": privacy,
        }
    )


def seconds(plan, parameters=PARAMETERS):
    return reply_seconds(Schedule.of(plan), parameters)


def test_it_grows_with_everything_that_takes_time_and_with_nothing_else():
    usual = seconds(plan_of(), 10 * PARAMETERS)
    assert seconds(plan_of(), 0) == FIXED_SECONDS
    assert usual > seconds(plan_of(sampling_rate=0.01, units_per_site=100), 10 * PARAMETERS)
    assert usual < seconds(plan_of(training={"local_steps": 8}), 10 * PARAMETERS)
    assert usual < seconds(plan_of(records_per_unit=4), 10 * PARAMETERS)
    assert usual == seconds(plan_of(epsilon=1.0, training={"rounds": 99}), 10 * PARAMETERS)


def test_it_leaves_half_of_the_legs_time_for_the_way():
    assert seconds(plan_of(), 10**9) == 300.0
    assert with_reply_time(plan_of(), PARAMETERS).privacy.reply_seconds == seconds(plan_of())


@pytest.mark.parametrize("own", [0.0, 0.2, 17.0])
def test_a_time_of_the_plans_own_is_kept(own):
    assert with_reply_time(plan_of(reply_seconds=own), PARAMETERS).privacy.reply_seconds == own


def test_a_time_beyond_the_leg_is_refused_and_another_time_is_another_plan():
    with pytest.raises(ValidationError, match="leg_seconds"):
        plan_of(leg_seconds=10, reply_seconds=10.0)
    assert plan_of(reply_seconds=1.0).hash() != plan_of(reply_seconds=2.0).hash()
