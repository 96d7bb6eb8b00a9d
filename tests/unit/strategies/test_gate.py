"""The holdout gate: exact scores, the decision, and a memory that survives as bits."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedward.adapter import AdapterLayout
from fedward.measures.auroc import Auroc
from fedward.measures.calibration import ObservedOverExpected
from fedward.measures.histogram import HISTOGRAM
from fedward.plan import GatePlan, Plan
from fedward.run import Run, Schedule
from fedward.strategies import optimizers
from fedward.strategies.combinations import check_strategy
from fedward.strategies.optimizers import NOTHING, Best, pack, unpack
from tests.codes import raises

LAYOUT = AdapterLayout.of([("head.bias", (1,)), ("layer.lora_B.weight", (2, 2))])
STATE = np.arange(3, dtype=np.float32)


def histogram(auroc):
    """100 negatives in the lowest cell; of 100 positives, so many in the highest that the AUROC is ``auroc``."""
    cells, high = np.zeros(HISTOGRAM.cells), 100 * (2 * auroc - 1)
    cells[0], cells[HISTOGRAM.cells // 2], cells[-1] = 100.0, 100.0 - high, high
    return cells


def judge(cells, candidate, memory, best, tolerance=0.05):
    """The gate's decision on a released histogram."""
    score = Auroc().exact({HISTOGRAM.name: tuple(map(Fraction, cells.tolist()))})
    return optimizers.judge(score, candidate, memory, best, gate=GatePlan(tolerance=tolerance), measure=Auroc())


def auroc_of(cells):
    """In float64, as its definition says; None where a class is not there."""
    negatives, positives = np.split(cells, 2)
    if negatives.sum() <= 0 or positives.sum() <= 0:
        return None
    right = np.triu(np.outer(negatives, positives), 1).sum() + 0.5 * (negatives * positives).sum()
    return min(1.0, max(0.0, right / (negatives.sum() * positives.sum())))


@given(
    hnp.arrays(np.float64, HISTOGRAM.cells, elements=st.integers(-(2**20), 2**24).map(lambda n: n * 2.0**-12)),
)
def test_the_exact_score_is_the_one_that_everybody_reads(cells):
    schedule, sums = Schedule.of(Plan(name="run", base_model_sha256="0" * 64)), {"evaluation": cells}
    expected, exact, read = auroc_of(cells), schedule._score(sums), schedule.quality(sums)["auroc"]
    assert (expected is None) == (exact is None) == (read is None)
    if exact is not None:
        assert float(exact) == read == pytest.approx(expected, abs=1e-9)


def test_a_clear_fall_is_taken_back_and_a_small_one_is_not():
    best = judge(histogram(0.80), STATE, NOTHING, None)
    assert best.score == 0.8
    assert judge(histogram(0.76), STATE + 1, NOTHING, best) is best
    assert judge(histogram(0.74), STATE + 1, NOTHING, best) is None
    assert judge(histogram(0.81), STATE + 1, NOTHING, best).state[0] == 1


def test_calibration_is_taken_back_on_either_side():
    def judge(score, candidate, best):
        gate = GatePlan(tolerance=0.2, measure="observed_over_expected")
        return optimizers.judge(score, candidate, NOTHING, best, gate=gate, measure=ObservedOverExpected())

    far_off = judge(Fraction(30), STATE, judge(None, STATE - 1, None))
    assert far_off.score == 30, "any value is better than none"
    best = judge(Fraction(11, 10), STATE, far_off)
    assert best.score == 1.1
    assert judge(Fraction(8, 10), STATE + 1, best) is best
    assert judge(Fraction(6, 10), STATE + 1, best) is None
    assert judge(Fraction(14, 10), STATE + 1, best) is None
    assert judge(Fraction(95, 100), STATE + 1, best).score == 0.95


def test_a_measure_that_improves_downwards_is_taken_back_when_it_rises():
    class Mistakes(Auroc):
        better, highest = "lower", None

    def judge(score, candidate, best):
        return optimizers.judge(score, candidate, NOTHING, best, gate=GatePlan(tolerance=0.05), measure=Mistakes())

    best = judge(Fraction(1, 5), STATE, judge(None, STATE - 1, None))
    assert best.score == 0.2
    assert judge(Fraction(24, 100), STATE + 1, best) is best
    assert judge(Fraction(26, 100), STATE + 1, best) is None
    assert judge(Fraction(19, 100), STATE + 1, best).state[0] == 1


def test_a_histogram_without_a_score_decides_nothing():
    empty = np.zeros(4)
    best = Best(0.7, STATE, NOTHING)
    assert judge(empty, STATE, NOTHING, best) is best
    first = judge(empty, STATE, NOTHING, None)
    assert judge(histogram(0.5), STATE + 1, NOTHING, first).score == 0.5


@pytest.mark.parametrize("memory", [NOTHING, np.array([0.1, -2.0])])
@pytest.mark.parametrize("remembered", [NOTHING, np.array([3.0, 1 / 3, 5.0])])
def test_packing_keeps_every_bit(memory, remembered):
    best = Best(1 / 3, np.array([1e-45, -0.0, 3.3], np.float32), remembered)
    again, rest = unpack(np.frombuffer(pack(best, memory).tobytes()), 3)
    assert again.score == best.score
    assert again.state.tobytes() == best.state.tobytes()
    assert again.memory.tobytes() == remembered.tobytes()
    assert rest.tobytes() == memory.tobytes()
    nothing, rest = unpack(pack(None, memory), 3)
    assert nothing is None
    assert rest.tobytes() == memory.tobytes()


@pytest.mark.parametrize("packed", [np.ones(1), np.ones(4), np.array([9.0, 0.5, 1, 2, 3]), np.array([np.nan, 0.0])])
def test_a_memory_of_another_adapter_is_refused(packed):
    with raises("FW-STRATEGY-011"):
        unpack(packed, 3)


def advanced(plan, aurocs):
    """States after each of a run's rounds, whose sums add 1 to each entry and bring these scores."""
    run, state, memory, states = Run.resolve(plan, LAYOUT), np.zeros(5, np.float32), NOTHING, []
    for number, score in enumerate(aurocs, start=1):
        sums = {"delta": np.ones(5), "evaluation": histogram(score)}
        dropped = run.takes_back(state, memory, sums)
        state, memory = run.advance(number, state, memory, sums, ["a"])
        states.append((float(state[0]), dropped))
        memory = np.frombuffer(memory.tobytes())  # a restart at every round
    return states


GATE = {"gate": {"enabled": True, "tolerance": 0.05}, "training": {"rounds": 3}}


def test_a_run_goes_on_from_its_best_adapter(plan_of):
    # scored before round 1: 0.6; adapter 1 is better; adapter 2 falls and is dropped with its sum; adapter 1 ends it
    assert advanced(plan_of(**GATE), [0.6, 0.8, 0.6, 0.8]) == [(1, False), (2, False), (1, True), (1, False)]
    assert advanced(plan_of(**GATE), [0.6, 0.8, 0.78, 0.7]) == [(1, False), (2, False), (3, False), (1, True)]


def test_the_best_adapter_does_not_fail_by_a_score_it_owes_to_luck(plan_of):
    """Without a new score for it, every later round would be taken back: it and its own noise differ by more."""
    plan = plan_of(gate={"enabled": True, "tolerance": 0.05}, training={"rounds": 6})
    found = advanced(plan, [0.70, 0.80, 0.74, 0.74, 0.74, 0.74])
    assert found == [(1, False), (2, False), (1, True), (2, False), (3, False), (4, False)]
    best = judge(histogram(0.80), STATE, NOTHING, None)
    assert judge(histogram(0.70), STATE.copy(), NOTHING, best).score == 0.7
    assert judge(np.zeros(4), STATE.copy(), NOTHING, best) is best


def test_a_gate_changes_nothing_while_scores_hold(plan_of):
    assert advanced(plan_of(training={"rounds": 3}), [0.6, 0.7, 0.7, 0.7]) == advanced(
        plan_of(**GATE), [0.6, 0.7, 0.7, 0.7]
    )


def test_an_optimizers_memory_goes_back_with_the_adapter(plan_of):
    plan, sums = plan_of(optimizer={"rule": "fedavgm"}, **GATE), {"delta": np.ones(5)}
    run = Run.resolve(plan, LAYOUT)
    first, memory = run.advance(1, np.zeros(5, np.float32), NOTHING, sums | {"evaluation": histogram(0.8)}, ["a"])
    back, after = run.advance(2, first, memory, sums | {"evaluation": histogram(0.6)}, ["a"])
    assert not back.any()
    assert unpack(after, 5)[1].size == 0
    again, _ = run.advance(3, back, after, sums, ["a"])
    assert again.tobytes() == first.tobytes()


@pytest.mark.parametrize("name", ["scaffold", "fedsa", "feddpa", "group-median"])
def test_a_gate_that_could_not_take_everything_back_is_refused(name, plan_of):
    with raises("FW-STRATEGY-017"):
        check_strategy(plan_of(name, gate={"enabled": True}))


def test_a_gate_that_would_judge_several_rounds_at_once_is_refused(plan_of):
    check_strategy(plan_of(gate={"enabled": True}, privacy={"evaluate_every": 1}))
    with raises("FW-STRATEGY-017"):
        check_strategy(plan_of(gate={"enabled": True}, privacy={"evaluate_every": 2}))


@pytest.mark.parametrize("tolerance", [0.0, -1])
def test_a_tolerance_out_of_range_is_refused(tolerance, plan_of):
    with pytest.raises(ValueError, match="tolerance"):
        plan_of(gate={"tolerance": tolerance})


def test_a_tolerance_that_hardly_any_fall_exceeds_is_refused(plan_of):
    Schedule.of(plan_of(gate={"enabled": True, "tolerance": 0.49}))
    with raises("FW-CONFIG-041", match="AUROC"):
        Schedule.of(plan_of(gate={"enabled": True, "tolerance": 0.5}))


@pytest.mark.parametrize("measure", ["auprc", "log_loss", "auroc2"])
def test_a_measure_that_is_not_released_exactly_cannot_judge(measure, plan_of):
    assert Schedule.of(plan_of(gate={"enabled": True, "measure": "auroc"})).judge.name == "auroc"
    with raises("FW-CONFIG-041", match=measure):
        Schedule.of(plan_of(gate={"enabled": True, "measure": measure}))
