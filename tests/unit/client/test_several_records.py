"""Several records of a patient in a step, where the plan allows it: every eligible stay, clipped together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedward.client.data.example import Example, fixed_records
from fedward.client.examples import load_examples, split_for, training_records
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import GradientSummer
from fedward.plan import Plan
from fedward.planning.estimate import Estimate, draft_plan, estimate
from fedward.planning.scenario import Scenario, load_scenario
from fedward.privacy.noise import SecureStream
from fedward.run import Schedule

pytestmark = pytest.mark.torch

SEVERAL = Path(__file__).parents[2] / "fixtures" / "mimic3-several"


def patients(**options: bool) -> list[tuple[str, object]]:
    found = load_examples(SEVERAL, format="mimic-iii", task="mortality", **options)  # type: ignore[arg-type]
    return [(example.unit, example.label) for example in found]


def plan(**privacy: object) -> Plan:
    noise = {"noise_multiplier": 1.0, "release_noise_multiplier": 9.0, "evaluation_noise_multiplier": 9.0}
    return Plan.model_validate({"name": "icu", "base_model_sha256": "ab" * 32, "privacy": {**noise, **privacy}})


def test_a_plan_of_one_record_takes_the_first_stay_and_of_several_every_eligible_one() -> None:
    assert patients() == patients(every=False) == [("21", 0), ("22", 1), ("23", 0), ("24", 0)]
    assert patients(every=True) == [("21", 0), ("21", 0), ("21", 0), ("22", 1), ("23", 0), ("24", 0)]


@pytest.mark.parametrize("task", ["readmission", "discharge", "los-days", "phenotypes"])
def test_tasks_with_a_record_of_each_stay_are_as_they_were(task: str) -> None:
    assert load_examples(SEVERAL, format="mimic-iii", task=task, every=True) == load_examples(
        SEVERAL, format="mimic-iii", task=task
    )


def test_a_patients_records_stay_on_one_side() -> None:
    examples = load_examples(SEVERAL, format="mimic-iii", task="mortality", every=True)
    train, evaluation = split_for(plan(records_per_unit=3), examples)
    assert not {example.unit for example in train} & {example.unit for example in evaluation}
    assert sorted(map(str, [*train, *evaluation])) == sorted(map(str, examples))


def test_the_price_of_several_records_is_that_of_one() -> None:
    one, several = Schedule.of(plan()), Schedule.of(plan(records_per_unit=7, records_chosen="fixed"))
    assert one.all_training_events() == several.all_training_events()
    assert one.all_evaluation_events() == several.all_evaluation_events()
    assert one.evaluation_release == several.evaluation_release


def test_fixed_records_are_chosen_by_a_hash_and_stay_chosen() -> None:
    examples = [Example(f"p{i % 3}", "", f"stay {i}", 0) for i in range(30)]
    kept = fixed_records(examples, most=4, salt="s")
    assert kept == [example for example in examples if example in kept]
    assert [sum(each.unit == f"p{i}" for each in kept) for i in range(3)] == [4, 4, 4]
    assert kept != fixed_records(examples, most=4, salt="t")
    assert fixed_records(examples[::-1], most=4, salt="s") == kept[::-1], "the order of the tables does not matter"
    others = [example for example in examples if example.unit != "p1"]
    assert [e for e in kept if e.unit != "p1"] == fixed_records(others, most=4, salt="s")
    assert fixed_records(examples, most=10, salt="s") == examples


def gradients(
    most: int,
    clip: float,
    examples: list[Example] | None = None,
    *,
    clipping: str = "fixed",
    chosen: str = "each-step",
    microbatch: int | None = None,
) -> tuple[NDArray[np.float64], float, int]:
    """Noiseless sum of all patients' clipped gradients, the bound on it, and the most records of one in a sample."""
    scenario: Scenario = load_scenario("default")
    own = {"records_per_unit": most, "clip": clip, "clipping": clipping, "records_chosen": chosen}
    privacy = scenario.privacy.model_copy(update={"placement": "secure-grad", "sampling_rate": 1.0, **own})
    training = scenario.training.model_copy(update={"local_steps": 1})
    scenario = scenario.model_copy(update={"privacy": privacy, "training": training})
    files = resolve(scenario.model)
    draft = draft_plan(scenario, files)
    noised = draft.privacy.model_copy(update={"noise_multiplier": 1e-9, "parameters": 1})
    run = resolve_run(draft.model_copy(update={"privacy": noised}), files.config())
    model = build_model(run, files)
    if examples is None:
        examples = load_examples(SEVERAL, format="mimic-iii", task="mortality", every=most > 1)
    kept = training_records(run.plan, examples)
    records = Records.encode(kept, local_task("mortality"), files, model, max_tokens=64)
    stream = SecureStream(bytes(32))
    summer = GradientSummer(model, records, run, local_task("mortality"), stream, microbatch=microbatch)
    rows, units = summer._sampler.sample()
    total = summer._engine.gradient_sum(summer._losses, rows, units, grid_step=2.0**-20) * 2.0**-20
    return total, clip * len(set(units.tolist())), int(np.bincount(units).max())


def test_a_patient_moves_the_sum_by_no_more_than_the_clip_with_several_records() -> None:
    total, bound, most = gradients(3, clip=1e-3)
    assert most == 3, "all three stays of one patient take part"
    assert np.linalg.norm(total) <= bound * (1 + 1e-3)
    _, _, single = gradients(1, clip=1e-3)
    assert single == 1


def test_an_unclipped_patient_adds_every_record() -> None:
    three, _, _ = gradients(3, clip=1e3)
    one, _, _ = gradients(1, clip=1e3)
    assert np.linalg.norm(three) > np.linalg.norm(one) > 0


RECORDS, GRID = 50, 2.0**-20
OTHERS = [Example(f"p{i}", "", f"age decade 60s . heart rate high . creatinine {i}", i % 2) for i in range(12)]
"""Patients beside the one who is attacked."""


def person(count: int) -> list[Example]:
    """One patient's records, all alike and all of the outcome that is less likely, so that their gradients add up."""
    return [Example("attacked", "", f"lactate high . lactate high . lactate high {i % 2}", 1) for i in range(count)]


@pytest.mark.parametrize(
    ("most", "clipping", "chosen", "microbatch"),
    [
        (RECORDS, "fixed", "each-step", None),
        (RECORDS, "fixed", "each-step", 4),  # fewer than the patient has: a micro-batch never splits a patient
        (RECORDS, "automatic", "each-step", 4),
        (7, "fixed", "each-step", 4),
        (7, "fixed", "fixed", None),
        (1, "fixed", "fixed", None),
    ],
)
def test_a_person_with_fifty_records_moves_the_sum_as_one_person(
    most: int, clipping: str, chosen: str, microbatch: int | None
) -> None:
    clip = 0.05
    how = {"clipping": clipping, "chosen": chosen, "microbatch": microbatch}
    with_them, _, taken = gradients(most, clip, [*OTHERS, *person(RECORDS)], **how)  # type: ignore[arg-type]
    without, _, _ = gradients(most, clip, OTHERS, **how)  # type: ignore[arg-type]
    assert taken == most
    moved = float(np.linalg.norm(with_them - without))
    rounding = GRID * np.sqrt(with_them.size)
    assert 0.8 * clip < moved <= clip + rounding, "the bound is reached, and not passed"


def test_without_clipping_the_fifty_records_would_have_moved_it_fifty_times_as_far() -> None:
    without, _, _ = gradients(RECORDS, 1e5, OTHERS)
    moved = [
        float(np.linalg.norm(gradients(RECORDS, 1e5, [*OTHERS, *person(count)])[0] - without)) for count in (1, RECORDS)
    ]
    assert moved[1] > 40 * moved[0] > 0


def test_records_that_a_person_adds_move_nobody_elses_choice() -> None:
    """Fixed records depend on their own unit alone, so that a neighbouring data set differs in one unit's records."""
    several = [Example(f"q{i}", "", f"stay {k}", 0) for i in range(4) for k in range(9)]
    kept = fixed_records([*several, *person(RECORDS)], most=3, salt="s")
    assert [each for each in kept if each.unit != "attacked"] == fixed_records(several, most=3, salt="s")
    assert len(kept) == 5 * 3


def test_estimates_are_those_of_one_record() -> None:
    def priced(**privacy: object) -> Estimate:
        scenario = load_scenario("default")
        changed = scenario.privacy.model_copy(update=privacy)
        files = resolve(scenario.model)
        return estimate(scenario.model_copy(update={"privacy": changed}), files, measure_time=False)

    one, several = priced(), priced(records_per_unit=RECORDS, records_chosen="fixed")
    assert (one.training, one.evaluation, one.step) == (several.training, several.evaluation, several.step)
