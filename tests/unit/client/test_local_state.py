"""A hospital's own side: what stays, what leaves, and what a restart or a dropout does to it."""

import numpy as np
import pytest

from fedward.client.models.adapter_model import (
    adapter_parameters,
    build_model,
    get_vector,
    layout_of,
    resolve_run,
    set_vector,
    trainable,
)
from fedward.client.models.inputs import prepare
from fedward.client.models.registry import resolve
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import LOCAL, PERSONAL, TRAINED, VARIATE, LocalState, LocalTrainer
from fedward.plan import AdapterPlan, Plan, PrivacyPlan, SecureSumPlan, TrainingPlan
from fedward.privacy.noise import UnsafeSeededStream
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.strategy import kind_of
from tests.codes import raises


class Site:
    """One hospital between two starts of its process, if it is given the journal of another one."""

    def __init__(self, strategy, journal=None, secure_sum=None, **options):
        plan = Plan(
            name="own",
            base_model_sha256=resolve("tiny-clinical").sha256,
            strategy=strategy,
            strategy_options=options,
            adapter=AdapterPlan(top_layers=1),
            training=TrainingPlan(rounds=3, local_steps=2),
            privacy=PrivacyPlan(noise_multiplier=1.0, units_per_site=20, sampling_rate=0.5),
            secure_sum=SecureSumPlan(**(secure_sum or {})),
        )
        self.journal = MemoryJournal() if journal is None else journal
        self.run = resolve_run(plan, resolve("tiny-clinical").config())
        self.model = build_model(self.run, resolve("tiny-clinical"))
        ids = np.random.default_rng(0).integers(0, self.model.config.vocabulary, size=(12, 10))
        numbers = np.arange(12, dtype=np.int64)
        inputs = prepare(self.model, Tokens(ids, np.ones_like(ids)))
        self.records = Records(inputs, (numbers % 2).astype(np.float32), numbers, tuple(map(str, numbers)), numbers)
        self.strategy, self.task = self.run.strategy, local_task("mortality")
        self.state = get_vector(self.model)
        self.trainer = LocalTrainer(self.model, self.records, self.run, self.task, UnsafeSeededStream(bytes(32)))
        self.side = LocalState("site-0", self.run, self.model, self.state.size, self.journal)

    def train(self, number, followed=0, memory=NOTHING):
        self.side.ready("run", followed)
        return self.side.train(self.trainer, self.run.step(number), self.state, memory)

    def personal(self):
        kinds = self.strategy.declaration.personal
        parts = {n: p.detach().numpy().copy() for n, p in adapter_parameters(self.model).items() if kind_of(n) in kinds}
        return np.concatenate([parts[name].ravel() for name in sorted(parts)])

    def moments(self):
        """What Adam remembers, by what was trained."""
        found = {}
        for (purpose, _), moments in self.trainer._moments.items():
            found.setdefault(purpose, []).append(moments)
        return found

    def scores(self):
        set_vector(self.model, self.side.scored(self.state))
        return self.task.outcomes(self.model, self.records).scores

    def kept(self, name, size):
        return self.side._store.get(name, size)


def test_a_strategy_that_keeps_nothing_stores_nothing():
    site = Site("ffa")
    delta, variate = site.train(1)
    site.side.follow("run", 1, ("site-0",))
    assert delta.any()
    assert variate is None
    assert site.journal.load() is None
    np.testing.assert_array_equal(site.side.scored(site.state), site.state)


def test_only_the_shared_factor_is_in_what_fedsa_sends():
    site = Site("fedsa")
    before = site.personal()
    delta, _ = site.train(1)
    assert {kind_of(tensor.name) for tensor in layout_of(site.model).tensors} == {"A"}
    assert delta.size == layout_of(site.model).size
    assert (site.personal() != before).any()


def test_personal_tensors_survive_a_restart():
    site = Site("fedsa")
    site.train(1)
    site.side.follow("run", 1, ("others",))
    again = Site("fedsa", site.journal)
    assert (again.personal() != site.personal()).any()
    again.side.ready("run", 1)
    np.testing.assert_array_equal(again.personal(), site.personal())
    np.testing.assert_array_equal(again.scores(), site.scores())


def test_a_local_adapter_changes_what_is_scored_and_not_what_is_sent():
    dual, plain = Site("feddpa", personal_steps=3), Site("ffa")
    delta, _ = dual.train(1)
    np.testing.assert_array_equal(delta, plain.train(1)[0])  # same noise, same steps
    np.testing.assert_array_equal(dual.scores(), plain.scores())  # not before the round has ended
    dual.side.follow("run", 1, ("site-0",))
    local = dual.kept(LOCAL, dual.state.size)
    assert local.any()
    np.testing.assert_array_equal(dual.side.scored(dual.state), dual.state + local)
    assert (dual.scores() != plain.scores()).any()


def test_a_smaller_weight_scores_with_less_of_the_local_adapter():
    site = Site("feddpa", personal_weight=0.5)
    site.train(1)
    site.side.follow("run", 1, ())
    np.testing.assert_array_equal(site.side.scored(site.state), site.state + 0.5 * site.kept(LOCAL, site.state.size))


def test_personal_steps_are_charged_like_all_others():
    (event, *_), (plain, *_) = (Site(*of).run.all_training_events() for of in (("feddpa",), ("ffa",)))
    assert (event.steps, plain.steps) == (4, 2)
    assert Site("fedsa").run.all_training_events() == Site("ffa").run.all_training_events()


def test_a_variate_is_the_mean_noised_gradient_and_moves_only_with_the_sum():
    site = Site("scaffold")
    _, change = site.train(1)
    np.testing.assert_array_equal(change, site.trainer.mean_gradient)
    site.side.follow("run", 1, ("others",))
    assert not site.kept(VARIATE, site.state.size).any()
    _, second = site.train(2, followed=1)
    site.side.follow("run", 2, ("site-0",))
    np.testing.assert_array_equal(site.kept(VARIATE, site.state.size), second)
    again = Site("scaffold", site.journal)
    again.side.ready("run", 2)
    np.testing.assert_array_equal(again.kept(VARIATE, site.state.size), second)


def test_changes_of_a_variate_add_up_to_it_within_the_bound_of_what_is_sent():
    """So the coordinator's sum of changes is the sum of the variates that the hospitals hold."""
    site, total = Site("scaffold"), 0
    for number in (1, 2, 3):
        _, change = site.train(number, followed=number - 1)
        site.side.follow("run", number, ("site-0",))
        total = total + change
    np.testing.assert_allclose(site.kept(VARIATE, site.state.size), total, rtol=0, atol=1e-6)
    np.testing.assert_allclose(total, site.trainer.mean_gradient, rtol=0, atol=1e-6)
    tight = Site("scaffold", secure_sum={"delta_bound": 0.01})
    _, change = tight.train(1)
    tight.side.follow("run", 1, ("site-0",))
    assert np.abs(tight.trainer.mean_gradient).max() > np.abs(change).max() == np.float32(0.01)
    np.testing.assert_array_equal(tight.kept(VARIATE, tight.state.size), change)


def test_the_local_adapter_goes_on_from_where_it_stood_with_moments_of_its_own():
    site, steps = Site("feddpa", personal_steps=3), []
    site.train(1)
    site.side.follow("run", 1, ())
    first = site.kept(LOCAL, site.state.size)
    run = site.trainer.run
    site.trainer.run = lambda adapter, *rest, **named: (steps.append(adapter), run(adapter, *rest, **named))[1]
    site.train(2, followed=1)
    site.side.follow("run", 2, ())
    np.testing.assert_array_equal(steps[1], site.state + first)
    moved = site.kept(LOCAL, site.state.size)
    ended = np.concatenate([p.detach().numpy().ravel() for _, p in sorted(trainable(site.model).items())])
    np.testing.assert_allclose(site.state + moved, ended, rtol=0, atol=1e-6)
    taken = {purpose: {int(m["step"]) for m in found} for purpose, found in site.moments().items()}
    assert taken == {"global": {4}, LOCAL: {6}}


def test_the_correction_reaches_the_local_steps():
    moved, plain = Site("scaffold"), Site("scaffold")
    step, size = moved.run.step(1), moved.state.size
    sums = {"delta": np.zeros(size), VARIATE: np.full(size, 0.5)}
    _, memory = moved.strategy.advance(step, moved.state, NOTHING, sums, ["other", "site-0"])
    assert (moved.train(1, memory=memory)[0] != plain.train(1)[0]).any()
    _, of_others = moved.strategy.advance(step, moved.state, NOTHING, sums, ["other"])
    newcomer, plain = Site("scaffold"), Site("scaffold")
    np.testing.assert_array_equal(newcomer.train(1, memory=of_others)[0], plain.train(1)[0])


def test_a_hospital_that_began_in_mid_run_says_that_its_moments_are_new(caplog):
    site = Site("ffa")
    site.train(1)
    site.train(2)
    assert not caplog.records
    Site("ffa").train(2)
    assert [record.getMessage() for record in caplog.records] == [
        "training round 2: the first of this process; Adam's moments begin anew"
    ]


@pytest.mark.parametrize("strategy", ["scaffold", "fedsa", "feddpa"])
def test_a_store_that_was_lost_is_refused(strategy):
    with raises("FW-INTEGRITY-025"):
        Site(strategy).train(3, followed=2)


def test_personal_tensors_of_a_lost_round_are_not_lost():
    site = Site("fedsa")
    site.train(1)
    trained = site.personal()
    site.side.follow("run", 2, ())  # round 1 never ended
    np.testing.assert_array_equal(site.kept(PERSONAL, trained.size), trained)


def test_a_delta_of_several_sums_is_kept_over_a_restart_until_the_last_of_them():
    site = Site("fedask")
    delta, _ = site.train(1)
    with raises("FW-POLICY-018"):
        site.side.trained("run", 1)  # not before it is known who was in the sum
    site.side.follow("run", 1, ("site-0", "other"))
    again = Site("fedask", site.journal)
    assert again.side.summed("run", 1) == {"site-0", "other"}
    assert again.side.trained("run", 1).tobytes() == delta.tobytes()
    for run, number in (("other", 1), ("run", 0), ("run", 2)):
        with raises("FW-POLICY-018"):
            again.side.summed(run, number)
        with raises("FW-POLICY-018"):
            again.side.trained(run, number)
    again.side.follow("run", 2, ("site-0", "other"))
    assert not again.side._store.holds(TRAINED)
    with raises("FW-POLICY-018"):
        Site("fedask", site.journal).side.trained("run", 2)


@pytest.mark.parametrize("before", [(), (1,)], ids=["the only one", "one after a lost second sum"])
def test_a_hospital_outside_the_first_sum_has_no_delta_for_the_second(before):
    site = Site("fedask")
    site.train(1)
    for number in before:
        site.side.follow("run", number, ("site-0", "other"))
    site.side.follow("run", 3, ("other",))
    assert not site.side._store.holds(TRAINED)
    with raises("FW-POLICY-018"):
        site.side.trained("run", 3)


def test_a_delta_is_gone_once_another_training_has_begun():
    site = Site("fedask")
    site.train(1)
    site.side.follow("run", 1, ("site-0", "other"))
    site.train(3, followed=1)  # round 2 was lost
    assert not site.side._store.holds(TRAINED)


def test_losing_a_delta_of_several_sums_costs_no_more_than_its_training_round():
    Site("fedask").train(3, followed=2)
    site = Site("fedask")
    site.train(1)
    site.journal.save(b"damaged")
    with raises("FW-INTEGRITY-025"):
        Site("fedsa", site.journal)
    Site("fedask", site.journal).train(3, followed=2)
