"""Every strategy does on a masked ring sum, bit for bit, what it does on the plain one."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.adapter import AdapterLayout
from fedward.plan import Plan
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg.encoding import RingVector, decode, encode
from fedward.run import EVALUATION, TRAINING, Run
from fedward.strategies.optimizers import NOTHING
from fedward.strategies.registry import ALIASES, base_of, find_strategy, spelt_out
from fedward.strategies.registry import NAMES as KNOWN
from fedward.strategies.strategy import Trained, kind_of, part_of

TENSORS = {"head.bias": (1,), "x.lora_A.weight": (2, 3), "x.lora_B.weight": (4, 2), "x.lora_R.weight": (2, 2)}
WHOLE = AdapterLayout.of(TENSORS.items())
SITES = [f"site-{number:02d}" for number in range(15)]
NAMES = sorted(KNOWN)
GATED = sorted(ALIASES)


def layout_of(name):
    return part_of(WHOLE, frozenset(find_strategy(base_of(name)).declaration.state))


def federation(name, seed, *, gate=False):
    """Yields, protocol round by protocol round, what each hospital sends and the layout of the vector."""
    plan = spelt_out(
        Plan(
            name="run",
            base_model_sha256="0" * 64,
            strategy=name,
            training={"rounds": 2, "local_steps": 2},
            privacy={"private": False, "evaluate_every": 1, "release_every": 2},
            gate={"enabled": gate, "tolerance": 0.01},
        )
    )
    run, random = Run.resolve(plan, layout_of(name)), np.random.default_rng(seed)
    layout, strategy = run.layout, run.strategy
    assert {kind_of(tensor.name) for tensor in layout.tensors} == set(strategy.declaration.state)

    def vector():
        return random.normal(scale=0.2, size=layout.size).astype(np.float32)

    def messages(number, state, memory):
        step, members = run.step(number), sorted(run.cohort(number, SITES))
        segments = run.vector_layout(number, n0=len(members), honest=2)
        values = {site: {} for site in members}
        for site in members:
            if not step.scores_only:
                trained = Trained(step.round, state, vector(), vector())
                values[site] = strategy.messages(step, trained, memory, site)
            values[site] |= {
                s.name: random.integers(0, 2**12, s.size) for s in segments.segments if s.name in (TRAINING, EVALUATION)
            }
        return members, segments, values

    return run, messages


def masked(vectors):
    """The vectors under pairwise masks that cancel in their sum."""
    hidden = [vector.copy() for vector in vectors]
    for i in range(len(hidden)):
        for j in range(i):
            seed = bytes([i, j]) * 16
            hidden[i].add_masks_([(1, seed)])
            hidden[j].add_masks_([(-1, seed)])
    assert all(one.tobytes() != other.tobytes() for one, other in zip(hidden, vectors, strict=True))
    return hidden


def added(vectors):
    total = RingVector.zeros(vectors[0].layout)
    for vector in vectors:
        total.add_(vector)
    return total


@pytest.mark.parametrize(("name", "gate"), [*((name, False) for name in NAMES), *((name, True) for name in GATED)])
def test_the_masked_sum_leads_to_the_bits_of_the_plain_sum(name, gate):
    ends = []
    for hide in (masked, list):
        run, messages = federation(name, 3, gate=gate)
        state, memory = np.zeros(run.layout.size, np.float32), NOTHING
        uniform = partial(np.random.default_rng(0).random, dtype=np.float32)
        for number in range(1, run.final_round + 1):
            members, segments, values = messages(number, state, memory)
            vectors = [encode(segments, values[site], uniform) for site in members]
            state, memory = run.advance(number, state, memory, decode(added(hide(vectors))), members)
        ends.append((state.tobytes(), memory.tobytes()))
    assert ends[0] == ends[1]
    assert np.frombuffer(ends[0][0], np.float32).any() or gate  # random scores may take everything back


@settings(max_examples=5, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 999))
def test_the_decoded_sum_lies_within_one_grid_unit_for_each_hospital(name, seed):
    run, messages = federation(name, seed)
    members, segments, values = messages(1, np.zeros(run.layout.size, np.float32), NOTHING)
    stream = SecureStream.from_os()
    total = decode(added([encode(segments, values[site], stream.uniform32) for site in members]))
    for segment in segments.segments:
        exact = np.sum([np.asarray(values[site][segment.name], np.float64) for site in members], axis=0)
        if segment.name in (TRAINING, EVALUATION):
            exact = exact * segment.step
        assert np.abs(total[segment.name] - exact).max() < len(members) * segment.step
    assert run.step(1).opens
