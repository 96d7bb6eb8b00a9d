"""Each strategy on the secure ring sum, on the plain ring sum, and in float64 maths."""

from dataclasses import dataclass

import numpy as np
import pytest

from fedward.adapter import AdapterLayout, Vector, unflatten
from fedward.client.models.adapter_model import LoraSettings, expected_layout
from fedward.client.models.registry import resolve
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg.encoding import RingVector, VectorLayout, decode, encode
from fedward.run import EVALUATION, TRAINING, Run
from fedward.strategies.contrib.fedask import change_across, change_along, recovered, sketch_basis
from fedward.strategies.factor import product
from fedward.strategies.fedsvd import refactored
from fedward.strategies.optimizers import NOTHING, Memory
from fedward.strategies.registry import STRATEGIES, find_strategy
from fedward.strategies.strategy import Step, Trained, kind_of, nested_positions, positions_of, stems

SITES = ["a", "b", "c", "d"]
RANK = 4
PLAIN = {
    name: kind.declaration
    for name, kind in ((name, find_strategy(name)) for name in sorted(STRATEGIES))
    if not kind.declaration.trains_in_every_phase and not kind.declaration.personal
}
"""Those whose update is made of the deltas alone; ``tests/property/test_strategy_sums.py`` has the sums of all."""
NAMES = sorted(PLAIN)
EXACT = [name for name in sorted(STRATEGIES) if find_strategy(name).declaration.exact]
MIXED = [name for name in EXACT if find_strategy(name).declaration.mixed_ranks]
EXACT_TO = 1e-12
SKETCHED_TO = 1e-10


def state_layout(name) -> AdapterLayout:
    declared = find_strategy(name).declaration
    lora = LoraSettings(rank=RANK, top_layers=1, train_a=declared.trains_a, core=declared.has_core)
    return expected_layout(resolve("tiny-clinical").config(), lora)


class Federation:
    """Hospitals that answer every phase with what a training of random result would lead to."""

    def __init__(self, plan_of, name, *, ranks=None, rounds=3, seed=0, **fields):
        adapter = {"rank": RANK, "ranks": ranks or {}, "top_layers": 1}
        self.plan = plan_of(name, adapter=adapter, training={"rounds": rounds, "local_steps": 2}, **fields)
        self.layout = state_layout(name)
        self.run = Run.resolve(self.plan, self.layout)
        self.strategy = self.run.strategy
        self.random = np.random.default_rng(seed)
        self.state = self.random.normal(scale=0.3, size=self.layout.size).astype(np.float32)
        self.trained = {}

    def messages(self, number, memory):
        step = self.run.step(number)
        if step.opens:
            self.trained = {site: self.train(site, step) for site in SITES}
        return {site: self.strategy.messages(step, self.trained[site], memory, site) for site in SITES}

    def train(self, site, step):
        kinds = self.strategy.trained(step.round, 0) | self.strategy.trained(step.round, 1)
        held = np.zeros(self.layout.size, bool)
        held[nested_positions(self.layout, self.plan.adapter.rank_of(site))] = True
        moving = np.zeros(self.layout.size, bool)
        moving[positions_of(self.layout, kinds)] = True
        delta = self.random.normal(scale=0.1, size=self.layout.size).astype(np.float32)
        variate = np.zeros(self.layout.size, np.float32) if self.strategy.declaration.variates else None
        return Trained(step.round, self.state, np.where(held & moving, delta, np.float32(0.0)), variate)

    def vector_layout(self, number):
        layout = self.run.vector_layout(number, n0=len(SITES), honest=2)
        return VectorLayout(tuple(s for s in layout.segments if s.name not in (TRAINING, EVALUATION)))

    def step(self, number, memory, sums):
        return self.run.advance(number, self.state, memory, sums, SITES)


def masks(layout: VectorLayout):
    """Random ring vectors that cancel over the hospitals, as pairwise masks do."""
    numbers, parts = np.random.default_rng(5), [RingVector.zeros(layout) for _ in SITES]
    for segment in layout.segments:
        words = 2**segment.ring_bits
        for i in range(len(SITES)):
            for j in range(i):
                mask = numbers.integers(0, words, size=segment.size, dtype=np.uint64)
                for vector, sign in ((parts[i], 1), (parts[j], -1)):
                    kept = vector.segment(segment.name)
                    moved = (kept.astype(np.int64) + sign * mask.astype(np.int64)) % words
                    kept[:] = moved.astype(kept.dtype)
    return parts


def added(vectors):
    total = vectors[0].copy()
    for vector in vectors[1:]:
        total.add_(vector)
    return total


def test_strategies_are_found_by_what_they_declare():
    assert {"ffa", "fedit", "rolora", "fedsvd", "fedsb", "fedask", "hetlora"} <= set(NAMES)
    assert {"ffa", "fedsvd", "fedsb", "fedask"} <= set(MIXED)
    assert set(EXACT) <= set(NAMES)
    assert {"ffa", "rolora", "fedsvd", "fedsb", "fedask"} <= set(EXACT)
    assert not {"fedit", "hetlora"} & set(EXACT)


@dataclass
class Turn:
    """One protocol round: the decoded sums, and beside them the float64 sums of what was sent."""

    step: Step
    before: Vector
    after: Vector
    memory: Memory
    sums: dict
    exact: dict
    trained: dict


def run(federation, *, secure):
    """Every protocol round of the run."""
    memory, history = NOTHING, []
    rounding = SecureStream(bytes(32))
    last = federation.plan.training.rounds * federation.strategy.sums(federation.plan)
    for number in range(1, last + 1):
        layout, messages = federation.vector_layout(number), federation.messages(number, memory)
        vectors = [encode(layout, messages[site], rounding.uniform32) for site in SITES]
        if secure:
            for vector, mask in zip(vectors, masks(layout), strict=True):
                vector.add_(mask)
        sums = decode(added(vectors))
        exact = {name: sum(messages[site][name].astype(np.float64) for site in SITES) for name in sums}
        before = federation.state
        federation.state, memory = federation.step(number, memory, sums)
        step = federation.run.step(number)
        history.append(Turn(step, before, federation.state, memory, sums, exact, federation.trained))
    return history


def products(state, layout):
    """``B A``, ``B R A`` or what stands for it, per layer, and the head; float64. Fixed factors are left out."""
    tensors = {name: part.astype(np.float64) for name, part in unflatten(state, layout).items()}
    out = {name: part for name, part in tensors.items() if kind_of(name) == "head"}
    for stem in stems(layout):
        if f"{stem}.lora_A.weight" in tensors:
            out[stem] = tensors[f"{stem}.lora_B.weight"] @ tensors[f"{stem}.lora_A.weight"]
        else:
            out[stem] = tensors[f"{stem}.lora_{'R' if f'{stem}.lora_R.weight' in tensors else 'B'}.weight"]
    return out


@pytest.mark.parametrize("name", NAMES)
def test_the_secure_sum_leads_to_the_bits_of_the_plain_sum(plan_of, name):
    secure, plain = (run(Federation(plan_of, name), secure=secure) for secure in (True, False))
    for one, other in zip(secure, plain, strict=True):
        assert {name: sums.tobytes() for name, sums in one.sums.items()} == {
            name: sums.tobytes() for name, sums in other.sums.items()
        }
        assert one.after.tobytes() == other.after.tobytes()
        assert one.memory.tobytes() == other.memory.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_decoded_sum_is_within_the_grid_of_the_float_sum(plan_of, name):
    federation = Federation(plan_of, name)
    grid = {segment.name: segment.step for number in (1, 2) for segment in federation.vector_layout(number).segments}
    for turn in run(federation, secure=True):
        for part, values in turn.sums.items():
            assert np.abs(values - turn.exact[part]).max() < len(SITES) * grid[part]


@pytest.mark.parametrize(
    ("name", "ranks"), [(name, None) for name in EXACT] + [(name, {"a": 2, "c": 1}) for name in MIXED]
)
def test_the_new_product_is_the_mean_of_the_hospitals_products(plan_of, name, ranks):
    """Within n grid units, float32 and all; the tests of the float64 maths below do without both."""
    federation = Federation(plan_of, name, ranks=ranks)
    grid = federation.plan.secure_sum.delta_step
    for turn in run(federation, secure=True):
        if not turn.step.closes:
            continue
        trained = turn.trained.values()
        locals_ = [products(hospital.start + hospital.delta, federation.layout) for hospital in trained]
        for part, found in products(turn.after, federation.layout).items():
            mean = sum(local[part] for local in locals_) / len(SITES)
            assert np.abs(found - mean).max() < len(SITES) * grid, part


def test_a_refactorisation_keeps_the_product_to_working_precision():
    numbers = np.random.default_rng(2)
    b, a = numbers.normal(size=(64, 8)), numbers.normal(size=(8, 64))
    b[:, 3] = 0.0
    new_b, new_a = refactored(b, a)
    scale = np.abs(b @ a).max()
    assert np.abs(product(new_b, new_a) - b @ a).max() <= EXACT_TO * scale
    np.testing.assert_allclose(new_a @ new_a.T, np.eye(8), rtol=0, atol=1e-14)
    lengths = np.linalg.norm(new_b, axis=0)
    assert np.array_equal(lengths, np.sort(lengths)[::-1])
    assert np.linalg.matrix_rank(np.concatenate([a, new_a])) == 8  # no direction of A is lost


@pytest.mark.parametrize("name", ["ffa", "fedsvd", "fedsb"])
def test_the_mean_is_exact_in_float64_maths(plan_of, name):
    """The strategy's own float64 mean, without grid and without the rounding of the state."""
    federation = Federation(plan_of, name)
    deltas = {site: federation.train(site, federation.run.step(1)).delta.astype(np.float64) for site in SITES}
    (part,) = federation.strategy.sends(federation.run.step(1))
    places = federation.strategy.positions(federation.strategy.sent(1))
    assert places.size == part.layout.size
    sums = {part.name: sum(deltas[site][places] for site in SITES)}
    mean = federation.strategy.mean(federation.run.step(1), sums, SITES)
    start = federation.state.astype(np.float64)
    tensors = unflatten64(start + mean, federation.layout)
    for stem in stems(federation.layout):
        left, right = sides(tensors, stem)
        locals_ = [sides(unflatten64(start + deltas[site], federation.layout), stem) for site in SITES]
        expected = sum(b @ a for b, a in locals_) / len(SITES)
        if name == "fedsvd":
            left, right = refactored(left, right)
        assert np.abs(left @ right - expected).max() <= EXACT_TO * np.abs(expected).max()


def low_rank(numbers, rank, shape=(64, 48)):
    return numbers.normal(size=(shape[0], rank)), numbers.normal(size=(rank, shape[1]))


@pytest.mark.parametrize(("trains_a", "oversampling"), [(False, 0), (False, 4), (True, 12)])
def test_a_sketch_as_wide_as_the_total_rank_recovers_the_mean(trains_a, oversampling):
    numbers, rank, count = np.random.default_rng(3), 4, 3
    before = low_rank(numbers, rank)
    after = []
    for _ in range(count):
        b, a = low_rank(numbers, rank)
        after.append((before[0] + 0.1 * b, before[1] + 0.1 * a if trains_a else before[1]))
    omega = numbers.uniform(-1, 1, size=(48, rank + oversampling))
    along = sum(change_along(before, one, omega) for one in after) / count
    basis = sketch_basis(before, along, omega)
    across = sum(change_across(before, one, basis) for one in after) / count
    mean = sum(b @ a for b, a in after) / count
    whole = basis @ (across + (before[0] @ before[1]).T @ basis).T
    assert np.abs(whole - mean).max() < SKETCHED_TO * np.abs(mean).max()
    new_b, new_a = recovered(before, basis, across)
    u, sizes, vt = np.linalg.svd(mean)
    best = (u[:, :rank] * sizes[:rank]) @ vt[:rank]  # of a mean of higher rank than r, the best r directions are kept
    assert np.abs(new_b @ new_a - best).max() < SKETCHED_TO * np.abs(mean).max()
    np.testing.assert_allclose(new_a @ new_a.T, np.eye(rank), rtol=0, atol=1e-13)


def test_a_narrow_sketch_does_not_recover_it():
    numbers = np.random.default_rng(3)
    before, after = low_rank(numbers, 4), low_rank(numbers, 4)
    omega = numbers.uniform(-1, 1, size=(48, 2))
    basis = sketch_basis(before, change_along(before, after, omega), omega)
    new_b, new_a = recovered(before, basis, change_across(before, after, basis))
    assert np.abs(new_b @ new_a - after[0] @ after[1]).max() > 0.1


def test_directions_that_the_mean_lost_stay_trainable():
    before = low_rank(np.random.default_rng(3), 4)
    nothing = (np.zeros((64, 4)), before[1])
    omega = np.random.default_rng(4).uniform(-1, 1, size=(48, 8))
    basis = sketch_basis(before, change_along(before, nothing, omega), omega)
    new_b, new_a = recovered(before, basis, change_across(before, nothing, basis))
    assert np.abs(new_b).max() < SKETCHED_TO
    assert np.linalg.matrix_rank(np.concatenate([before[1], new_a])) == 4


def unflatten64(vector, layout):
    return {t.name: vector[layout.slice_of(t.name)].reshape(t.shape) for t in layout.tensors}


def sides(tensors, stem):
    """The two factors that are multiplied; frozen ones, which are no state, are random but the same for all."""
    frozen = np.random.default_rng(7)
    if f"{stem}.lora_R.weight" in tensors:
        return frozen.normal(size=(64, RANK)) @ tensors[f"{stem}.lora_R.weight"], frozen.normal(size=(RANK, 64))
    a = tensors.get(f"{stem}.lora_A.weight", frozen.normal(size=(RANK, 64)))
    return tensors[f"{stem}.lora_B.weight"], a


@pytest.mark.parametrize("name", MIXED)
def test_hospitals_of_lower_rank_count_as_zero_where_they_train_nothing(plan_of, name):
    federation = Federation(plan_of, name, ranks={"a": 2, "c": 1})
    small = nested_positions(federation.layout, 1)
    history = run(federation, secure=True)
    assert len(history) == federation.plan.training.rounds * federation.strategy.sums(federation.plan)
    moved = history[-1].after - history[0].before
    assert np.count_nonzero(moved[small]) > 0
    assert np.count_nonzero(moved) > np.count_nonzero(moved[small])
