"""What a person is shown of a plan follows from plan and base model, whatever the plan file says of itself."""

import json

import pytest

from fedward.adapter import adapter_hash
from fedward.client.daemon.approvals import Approvals, Spent, describe_plan
from fedward.client.daemon.recomputed import Recomputed, check_said, recompute
from fedward.client.models.adapter_model import start_of
from fedward.client.models.registry import resolve
from fedward.errors import FedwardError
from fedward.plan import NO_MODEL, NO_MODEL_SHA256, Plan, StatisticsPlan
from fedward.privacy.secagg.roster import Member, Roster, RunPolicy
from tests.codes import raises

TINY = resolve("tiny-clinical")
NOISE = {"noise_multiplier": 4.0, "evaluation_noise_multiplier": 20.0, "release_noise_multiplier": 40.0}


def made(**changes):
    return Plan(**{"name": "icu", "base_model_sha256": TINY.sha256, "privacy": NOISE, **changes})


def said(plan):
    """What an honest coordinator writes beside ``plan``."""
    found = recompute(plan)
    return {
        "adapter_layout_hash": found.run.layout.hash(),
        "initial_adapter_hash": found.start,
        "family": found.family,
        "parameters": found.run.layout.size,
    }


@pytest.fixture
def approvals(configure, joined, at):
    config = configure(allowed_base_models=[f"sha256:{TINY.sha256}"])
    return Approvals(config, joined, joined.identity("st-anna"), clock=lambda: at.now)


@pytest.fixture
def shown(approvals, ca):
    """A plan as a person reads it."""

    def show(path, *, found="here", agreed=None):
        verified = approvals.open(path)
        facts = recompute(verified.plan) if found == "here" else found
        sections = describe_plan(
            verified, approvals.config, ca.identity.public, spent=Spent(), found=facts, agreed=agreed
        )
        return {title: dict(lines) for title, lines in sections}

    return show


def test_numbers_that_the_coordinator_made_up_are_neither_shown_nor_accepted(approvals, propose, shown):
    """Broken: a plan that says 12 numbers and 48 bytes is shown so, whatever it trains."""
    plan = made()
    path = propose(plan=plan, **{**said(plan), "parameters": 12})
    text = json.dumps(shown(path))
    size = recompute(plan).run.layout.size
    assert f"{size:,} numbers" in text
    assert "12 numbers" not in text and "48 bytes" not in text
    with raises("FW-INTEGRITY-304", match="number of trained values"):
        approvals.decide(approvals.open(path), accept=True, by="DPO")


@pytest.mark.parametrize(
    "lie", [{"adapter_layout_hash": b"l" * 32}, {"initial_adapter_hash": b"i" * 32}, {"parameters": 2**39}, {}]
)
def test_whatever_else_the_file_says_of_itself_has_to_follow_from_it(approvals, propose, lie):
    plan = made()
    verified = approvals.open(propose(plan=plan, **{**said(plan), **lie}))
    if lie:
        with raises("FW-INTEGRITY-304"):
            approvals.check(verified)
    else:
        approvals.check(verified)


def test_noise_for_fewer_numbers_than_are_trained_is_refused(approvals, propose):
    privacy = {**NOISE, "placement": "secure-grad", "parameters": 12}
    plan = made(privacy=privacy, training={"local_steps": 1})
    with raises("FW-INTEGRITY-304", match="noise is priced for"):
        approvals.check(approvals.open(propose(plan=plan, **said(plan))))


def test_without_the_base_model_its_numbers_are_not_known_and_not_guessed(propose, shown, approvals):
    plan = made(base_model_sha256="ab" * 32)
    assert recompute(plan) is None
    assert recompute(made(base_model="nowhere-to-be-found")) is None
    text = shown(propose(plan=plan, parameters=12))
    assert text["What is trained"]["what is learned"].startswith("not known")
    assert "not known" in text["What leaves this hospital"]["each sum"]


def test_the_vector_is_as_large_as_the_protocol_will_ask_for(propose, shown):
    plan = made()
    found = recompute(plan)
    layout = found.run.vector_layout(1, n0=8, honest=4)
    assert found.vector_bytes >= layout.nbytes >= 4 * found.parameters
    assert (
        f"{found.vector_bytes:,} bytes"
        in shown(propose(plan=plan, **said(plan)))["What leaves this hospital"]["each sum"]
    )


def test_strategy_options_task_measures_rounds_and_readers_are_shown(propose, shown):
    plan = made(strategy="feddpa", strategy_options={"personal_steps": 3, "personal_weight": 0.5})
    roster = Roster(
        "demo", b"c" * 32, tuple(Member(f"site-{i}", bytes([i]) * 32) for i in range(7)), 2, RunPolicy(6, 30, False),
        base_model_hash=b"b" * 32, adapter_layout_hash=b"l" * 32, code_hash=b"c" * 32,
    )  # fmt: skip
    text = shown(propose(plan=plan, **said(plan)), agreed=roster)
    trained, learners = text["What is trained"], text["Who could learn what"]
    assert "feddpa" in trained["strategy"]
    assert "personal_steps 3" in trained["its options"] and "personal_weight 0.5" in trained["its options"]
    assert trained["task"] == "mortality, version 1"
    assert "AUROC" in trained["judged by"]
    assert trained["rounds"].startswith("10, each of 4 steps")
    assert "0.2 of the patients" in trained["each step"]
    assert "2 of" in learners["other hospitals"] or "up to 2" in learners["coordinator"]
    assert "at least 3 hospitals" in learners["coordinator"]  # n0 = 6, c = 2: t = 5
    assert "stays here" in learners


def test_a_plan_of_statistics_needs_no_model(propose, shown, approvals):
    counts = StatisticsPlan(variables={"age": ("young", "old")}, noise_multiplier=4.0)
    plan = made(base_model=NO_MODEL, base_model_sha256=NO_MODEL_SHA256, statistics=counts)
    facts = Recomputed.of(plan, None)
    assert (facts.parameters, facts.family) == (0, NO_MODEL)
    verified = approvals.open(propose(plan=plan, **said(plan)))
    check_said(verified, facts)
    assert "nothing" in shown(propose(plan=plan, **said(plan)))["What is trained"]["what is learned"]


def test_the_start_is_that_of_the_model_that_is_trained():
    plan = made()
    found = recompute(plan)
    assert found.start == adapter_hash(start_of(found.run, TINY.config()), found.run.layout)


ABSURD = [
    ({"privacy": {"clip": 1e30}}, "privacy.clip"),
    ({"privacy": {"clip": 1e-30}}, "privacy.clip"),
    ({"privacy": {"noise_multiplier": 1e-300}}, "privacy.noise_multiplier"),
    ({"privacy": {"noise_multiplier": 1e300}}, "privacy.noise_multiplier"),
    ({"privacy": {"sampling_rate": 1e-300}}, "privacy.sampling_rate"),
    ({"privacy": {"delta": 1e-300}}, "privacy.delta"),
    ({"privacy": {"units_per_site": 10**30}}, "privacy.units_per_site"),
    ({"privacy": {"parameters": 2**60}}, "privacy.parameters"),
    ({"training": {"learning_rate_head": 1e300}}, "training.learning_rate_head"),
    ({"training": {"rounds": 10**9}}, "training.rounds"),
    ({"adapter": {"alpha": 1e30}}, "adapter.alpha"),
    ({"adapter": {"init_seed": 2**70}}, "adapter.init_seed"),
    ({"adapter": {"top_layers": 10**9}}, "adapter.top_layers"),
    ({"adapter": {"targets": ["q"] * 1000}}, "adapter.targets"),
    ({"secure_sum": {"delta_step": 1e-300}}, "secure_sum.delta_step"),
    ({"secure_sum": {"leg_seconds": 10**15}}, "secure_sum.leg_seconds"),
    ({"optimizer": {"rule": "fedadam", "stabiliser": 1e300}}, "optimizer.stabiliser"),
    ({"split_salt": "x" * 10_000}, "split_salt"),
]


@pytest.mark.parametrize(("changes", "where"), ABSURD)
def test_absurd_values_are_refused_by_name_before_anything_is_computed(approvals, propose, changes, where):
    document = made().model_dump(mode="json")
    for section, values in changes.items():
        document[section] = {**document[section], **values} if isinstance(values, dict) else values
    with raises("FW-POLICY-320", match=where.replace(".", r"\.")):
        approvals.open(propose(plan=made(), plan_bytes=json.dumps(document).encode()))


@pytest.mark.parametrize("days", [10**9, 10**12])
def test_dates_beyond_the_calendar_are_refused(approvals, propose, days):
    with raises("FW-POLICY-320", match="calendar"):
        approvals.open(propose(days=days))


@pytest.mark.parametrize(("noise", "rate"), [(0.0, 0.2), (1e-3, 1.0)])
def test_noise_that_protects_nobody_is_refused_and_shown_as_without_bound(approvals, propose, shown, noise, rate):
    """Broken: a loss distribution that fills the memory of whoever looks at the plan."""
    privacy = {"noise_multiplier": noise, "evaluation_noise_multiplier": noise, "release_noise_multiplier": noise}
    plan = made(privacy={**privacy, "sampling_rate": rate}, training={"rounds": 50, "local_steps": 100})
    path = propose(plan=plan, **said(plan))
    assert "epsilon" in shown(path)["What it costs in privacy"]["this run"]
    with pytest.raises(FedwardError):
        approvals.check(approvals.open(path))
