import pytest
import torch
from torch.nn import functional

from fedward.client.models import vocabulary_loss as module
from fedward.client.models.vocabulary_loss import vocabulary_loss


@pytest.fixture
def numbers():
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(37, 8, generator=generator, requires_grad=True)
    weight, bias = torch.randn(50, 8, generator=generator), torch.randn(50, generator=generator)
    return hidden, weight, bias, torch.randint(0, 50, (37,), generator=generator)


@pytest.mark.parametrize("rows", [1, 5, 1000])
@pytest.mark.parametrize("with_bias", [True, False])
def test_losses_and_gradients_are_those_of_cross_entropy(monkeypatch, numbers, rows, with_bias):
    monkeypatch.setattr(module, "CHUNK", rows)
    hidden, weight, bias, targets = numbers
    bias = bias if with_bias else None
    upstream = torch.linspace(-1, 2, 37)
    ours = vocabulary_loss(hidden, weight, bias, targets)
    (gradient,) = torch.autograd.grad((ours * upstream).sum(), hidden)
    theirs = functional.cross_entropy(functional.linear(hidden, weight, bias), targets, reduction="none")
    (expected,) = torch.autograd.grad((theirs * upstream).sum(), hidden)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_no_tensor_of_tokens_times_vocabulary_is_ever_made(monkeypatch, numbers):
    hidden, weight, _, targets = numbers
    monkeypatch.setattr(module, "CHUNK", 3)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, call, types, args=(), kwargs=None):
            found = call(*args, **(kwargs or {}))
            sizes.extend(
                each.numel() for each in (found if isinstance(found, tuple) else (found,)) if torch.is_tensor(each)
            )
            return found

    with Watch():
        vocabulary_loss(hidden, weight, None, targets).sum().backward()
    assert max(sizes) <= weight.numel() < 37 * 50
    assert hidden.grad is not None


def test_a_trained_output_layer_is_refused(numbers):
    hidden, weight, _, targets = numbers
    with pytest.raises(ValueError, match="trained"):
        vocabulary_loss(hidden, weight.requires_grad_(), None, targets)


def test_no_tokens_have_no_losses(numbers):
    hidden, weight, _, targets = numbers
    assert vocabulary_loss(hidden[:0], weight, None, targets[:0]).shape == (0,)
