"""Measures of several classes, labels and numbers, and what every registered measure promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedward.measures import MEASURES, Outcomes, bootstrap_interval
from fedward.measures.auroc import Auroc
from fedward.measures.bounded_mean import Accuracy, BoundedMean, MeanLoss, SquaredError
from fedward.measures.f1 import MicroF1
from fedward.measures.macro_auroc import MacroAuroc
from fedward.privacy.noise import ReleaseSpec
from fedward.tasks import TASKS
from tests.codes import raises

K = 3


def labels(n: int, seed: int, units: int | None = None) -> Outcomes:
    rng = np.random.default_rng(seed)
    scores = rng.random((n, K))
    targets = (rng.random((n, K)) < scores).astype(np.float32)
    # Whoever has many records has low scores, so that counting records and counting units differ.
    owner = np.arange(n) if units is None else (units * scores[:, 0] ** 3).astype(np.int64)
    return Outcomes(np.unique(owner, return_inverse=True)[1], targets, scores, rng.random(n))


def one(outcomes: Outcomes, kind: str) -> Outcomes:
    """The same records as one class of several, or as numbers."""
    if kind == "classes":
        return Outcomes(outcomes.units, outcomes.targets.argmax(axis=1), outcomes.scores, outcomes.losses)
    return Outcomes(outcomes.units, outcomes.targets[:, 0], outcomes.scores[:, 0], outcomes.losses)


RELEASED = [
    (Auroc(), lambda o: one(o, "numbers")),
    (Accuracy(), lambda o: one(o, "classes")),
    (SquaredError(4.0), lambda o: one(o, "numbers")),
    (MeanLoss(0.5), lambda o: o),
    (MacroAuroc(K), lambda o: o),
    (MicroF1(), lambda o: o),
]


def sums_of(measure, outcomes):
    """What hospitals add up, by way of the release's own bounds and grid."""
    release = ReleaseSpec(measure.statistics)
    rows = {name: outcomes.per_unit(cells) for name, cells in measure.contributions(outcomes).items()}
    return release.decode(release.encode(rows))


@pytest.mark.parametrize(("measure", "form"), RELEASED, ids=lambda each: getattr(each, "name", ""))
def test_a_sum_over_hospitals_says_what_one_machine_would(measure, form):
    per_unit = isinstance(measure, BoundedMean | MicroF1)  # the others count records on one machine
    outcomes = form(labels(4000, 1, units=900 if per_unit else None))
    parts = [sums_of(measure, outcomes.chosen(outcomes.units % 3 == start)) for start in range(3)]
    total = {name: sum(part[name] for part in parts) for name in parts[0]}
    tolerance = 0.01 if "auroc" in measure.name else 1e-3  # a histogram has ties
    assert measure.of_sum(total) == pytest.approx(measure.local(outcomes), abs=tolerance)


@pytest.mark.parametrize(("measure", "form"), RELEASED, ids=lambda each: getattr(each, "name", ""))
@given(records=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_one_unit_moves_its_sums_by_no_more_than_their_bounds(measure, form, records, seed):
    """Whatever it has: many records, all labels at once, losses without end."""
    alone = labels(records, seed, units=1)
    alone = form(Outcomes(alone.units, alone.targets, alone.scores, alone.losses * 1e6))
    release = ReleaseSpec(measure.statistics)
    rows = {name: alone.per_unit(cells) for name, cells in measure.contributions(alone).items()}
    assert np.linalg.norm(release.encode(rows)) <= release.l2_sensitivity_grid


def test_macro_auroc_and_f1_equal_sklearn():
    from sklearn.metrics import f1_score, roc_auc_score

    outcomes = labels(500, 2)
    assert MacroAuroc(K).local(outcomes) == pytest.approx(roc_auc_score(outcomes.targets, outcomes.scores))
    decided = (outcomes.scores > 0.5).astype(int)
    assert MicroF1().local(outcomes) == pytest.approx(f1_score(outcomes.targets, decided, average="micro"))


def test_f1_counts_units_and_not_records():
    """Nine right records of one patient weigh as much as the one wrong record of another; so they do in a sum."""
    outcomes = Outcomes(np.repeat([0, 1], [9, 1]), np.ones(10), np.repeat([1.0, 0.0], [9, 1]), np.zeros(10))
    assert MicroF1().local(outcomes) == MicroF1().of_sum(sums_of(MicroF1(), outcomes)) == pytest.approx(2 / 3)


def test_f1_cuts_a_unit_on_one_machine_as_in_a_sum():
    targets, scores = np.ones((2, 20)), np.repeat([[1.0], [0.0]], 20, axis=1)
    targets[1, 4:] = 0  # twenty right labels count four, and four missed ones four
    outcomes = Outcomes(np.arange(2), targets, scores, np.zeros(2))
    assert MicroF1().local(outcomes) == MicroF1().of_sum(sums_of(MicroF1(), outcomes)) == pytest.approx(2 / 3)


def test_a_unit_drawn_twice_by_the_bootstrap_counts_twice():
    drawn = []

    class Seen(Accuracy):
        def local(self, outcomes):
            drawn.append(super().local(outcomes))
            return drawn[-1]

    scores = np.array([0.0, 0.0, 1.0, 0.0])
    bootstrap_interval(Seen(), Outcomes(np.array([0, 0, 1, 2]), np.zeros(4, np.int64), scores, np.zeros(4)), n=100)
    assert {round(6 * value) for value in drawn} == {0, 2, 4, 6}  # of three units, whole ones are right


def test_a_label_without_both_outcomes_is_left_out_of_the_mean():
    outcomes = labels(200, 3)
    outcomes.targets[:, 0] = 0
    rest = [
        Auroc().local(Outcomes(outcomes.units, outcomes.targets[:, k], outcomes.scores[:, k], outcomes.losses))
        for k in (1, 2)
    ]
    assert MacroAuroc(K).local(outcomes) == pytest.approx(np.mean(rest))


def test_labels_of_another_kind_are_refused():
    outcomes = labels(10, 4)
    for measure in (Auroc(), Accuracy(), SquaredError()):
        with raises("FW-DATA-090"):
            measure.local(outcomes)
    with raises("FW-DATA-090"):
        MacroAuroc(K + 1).local(outcomes)


def test_registered_measures_are_those_of_the_tasks_and_more():
    used = {type(measure) for task in TASKS.values() for measure in task.measures}
    assert used <= set(MEASURES.values())
    assert all(name == kind.name for name, kind in MEASURES.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_headline_can_be_judged_by_all_alike(task):
    """The gate decides by it at every hospital, so it must leave, and have an exact form."""
    headline = task.headline
    assert headline.statistics
    assert headline.about
    cells = {s.name: np.full(s.cells, 20.0) for s in headline.statistics}
    assert headline.of_sum(cells) is not None
    names = [statistic.name for statistic in task.statistics]
    assert len(set(names)) == len(names)
