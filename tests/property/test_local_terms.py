"""Terms behind the noise: the published derivatives, and no trace of any patient in them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedward.adapter import AdapterLayout
from fedward.client.training import LocalTerms
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import UnsafeSeededStream

torch.set_num_threads(1)
FEATURES = 4
LAYOUT = AdapterLayout.of([("head.bias", (1,)), ("head.weight", (1, FEATURES))])
vectors = st.lists(st.floats(-2, 2, width=32), min_size=LAYOUT.size, max_size=LAYOUT.size).map(
    lambda values: np.array(values, np.float32)
)


class Model(nn.Module):
    def __init__(self, start):
        super().__init__()
        self.head = nn.Linear(FEATURES, 1)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor(start[:1]))
            self.head.weight.copy_(torch.tensor(start[None, 1:]))

    def vector(self):
        return torch.cat([self.head.bias.detach(), self.head.weight.detach().flatten()]).numpy().copy()


def train(start, rows, labels, *, mu=0.0, shift=None, anchor=None, steps=1, private=True, rate=1.0):
    """Weights after ``steps`` full-batch steps of the private engine, and the mean gradient that the terms kept."""
    model, rows, labels = Model(start), torch.tensor(rows, dtype=torch.float32), torch.tensor(labels).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    terms = LocalTerms(optimizer, dict(model.named_parameters()), LAYOUT, proximal=mu)
    parameters = DPParameters(
        noise_multiplier=0.7 if private else 0.0, clip=1.0, sampling_rate=1.0, expected_batch=8.0, private=private
    )
    everyone = np.arange(len(rows))
    with PrivateEngine(model, optimizer, parameters, UnsafeSeededStream(bytes(32))) as engine:
        terms.begin(start if anchor is None else anchor, shift=shift)
        for _ in range(steps):
            engine.step(
                lambda i: nn.functional.binary_cross_entropy_with_logits(
                    model.head(rows[i]).squeeze(-1), labels[i], reduction="none"
                ),
                everyone,
                everyone,
            )
    return model.vector(), terms.mean_gradient


def patients(seed, number=8):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(number, FEATURES)), generator.integers(0, 2, number)


@settings(max_examples=25, deadline=None)
@given(start=vectors, anchor=vectors, shift=vectors, mu=st.floats(0, 5), seed=st.integers(0, 999))
def test_what_the_terms_add_is_a_function_of_public_vectors(start, anchor, shift, mu, seed):
    """Whoever the patients are, and with one more of them: equal noise, so equal sensitivity and equal price."""
    rows, labels = patients(seed)
    for count in (8, 7):
        plain, _ = train(start, rows[:count], labels[:count])
        moved, _ = train(start, rows[:count], labels[:count], mu=mu, shift=shift, anchor=anchor)
        expected = -(mu * (start.astype(np.float64) - anchor) + shift)
        np.testing.assert_allclose(moved.astype(np.float64) - plain, expected, atol=2e-5)


@settings(max_examples=15, deadline=None)
@given(start=vectors, mu=st.floats(0.1, 5), seed=st.integers(0, 999))
def test_the_pull_is_the_gradient_of_the_published_objective(start, mu, seed):
    rows, labels = patients(seed)
    moved, _ = train(start, rows, labels, mu=mu, anchor=np.zeros(5, np.float32), private=False)
    w = torch.tensor(start, requires_grad=True)
    logits = torch.tensor(rows, dtype=torch.float32) @ w[1:] + w[0]
    losses = nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(labels).float(), reduction="sum")
    (losses / 8 + mu / 2 * (w**2).sum()).backward()
    np.testing.assert_allclose(moved, start - w.grad.numpy(), atol=1e-5)


def test_switched_off_it_changes_no_bit():
    rows, labels = patients(0)
    start = np.linspace(-1, 1, 5, dtype=np.float32)
    assert train(start, rows, labels, steps=3)[0].tobytes() == train(start, rows, labels, mu=0.0, steps=3)[0].tobytes()


def test_a_strong_pull_keeps_training_near_the_start():
    start, (rows, labels) = np.zeros(5, np.float32), patients(1)
    free, _ = train(start, rows, labels, steps=20, rate=0.3)
    held, _ = train(start, rows, labels, mu=2.0, steps=20, rate=0.3)
    assert np.linalg.norm(held) < np.linalg.norm(free) / 2


@pytest.mark.parametrize("shift", [np.zeros(5, np.float32), np.linspace(-1, 1, 5, dtype=np.float32)])
def test_the_kept_gradient_is_that_of_plain_descent_without_the_terms(shift):
    """SCAFFOLD's option II: (x - y) / (K eta) = mean gradient + shift."""
    start, (rows, labels) = np.full(5, 0.5, np.float32), patients(2)
    end, mean = train(start, rows, labels, shift=shift, steps=4, rate=0.25)
    np.testing.assert_allclose((start - end) / (4 * 0.25), mean + shift, atol=1e-5)
