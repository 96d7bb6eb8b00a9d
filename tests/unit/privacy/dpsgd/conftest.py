"""A small LoRA classifier with data, and the one-record-at-a-time loop that every engine is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream

torch.set_num_threads(1)


class LoraClassifier(nn.Module):
    """Two frozen layers over token embeddings, a LoRA pair on the first, and a linear head on the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 12)
        self.base = nn.Linear(12, 10)
        self.lora_a = nn.Linear(12, 3, bias=False)
        self.lora_b = nn.Linear(3, 10, bias=False)
        self.head = nn.Linear(10, 1)
        for frozen in (self.embedding, self.base):
            frozen.requires_grad_(False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        hidden = torch.tanh(self.base(x) + 2.0 * self.lora_b(self.lora_a(x)))
        return self.head(hidden.mean(dim=1)).squeeze(-1)


@dataclass
class Task:
    """A model, its data and helpers that speak numpy."""

    model: nn.Module = field(default_factory=LoraClassifier)
    ids: torch.Tensor = field(default_factory=lambda: torch.randint(0, 50, (40, 7)))
    labels: torch.Tensor = field(default_factory=lambda: torch.randint(0, 2, (40,)).float())
    scale: float = 1.0
    backend: str = "opacus-hooks"
    open: PrivateEngine | None = None

    def loss(self, records: NDArray[np.int64]) -> torch.Tensor:
        logits = self.model(self.ids[records])
        losses = nn.functional.binary_cross_entropy_with_logits(logits, self.labels[records], reduction="none")
        return self.scale * losses

    def trained(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def vector(self) -> NDArray[np.float32]:
        return torch.cat([p.detach().flatten() for p in self.trained()]).numpy().copy()

    def loop(self, records: NDArray[np.int64]) -> NDArray[np.float64]:
        """Gradient of each record, one backward pass each, float64 [b, P]: the oracle."""
        rows = []
        for record in records:
            grads = torch.autograd.grad(self.loss(np.array([record])).sum(), self.trained())
            rows.append(torch.cat([g.flatten() for g in grads]).double().numpy())
        return np.stack(rows)

    def engine(self, **changes: object) -> PrivateEngine:
        """Closes the engine before and makes one with SGD at rate 1: a step subtracts exactly the private gradient."""
        if self.open is not None:
            self.open.close()
        names = {"noise_multiplier": 1e-12, "clip": 1.0, "sampling_rate": 0.25, "expected_batch": 10.0}
        plan = {name: changes.pop(name, value) for name, value in names.items()}
        for name in ("max_records_per_unit", "private", "clipping"):
            if name in changes:
                plan[name] = changes.pop(name)
        changes.setdefault("backend", self.backend)
        stream = changes.pop("stream", None) or SecureStream(bytes(32))
        optimizer = torch.optim.SGD(self.trained(), lr=1.0)
        self.open = PrivateEngine(self.model, optimizer, DPParameters(**plan), stream, **changes)  # type: ignore[arg-type]
        return self.open

    def update(
        self, engine: PrivateEngine, records: list[int], patients: list[int] | None = None
    ) -> NDArray[np.float64]:
        """Private gradient of one step times the expected batch, and the weights put back."""
        before = [p.detach().clone() for p in self.trained()]
        start = self.vector().astype(np.float64)
        engine.step(
            self.loss, np.array(records, np.int64), np.array(records if patients is None else patients, np.int64)
        )
        moved = start - self.vector()
        with torch.no_grad():
            for p, value in zip(self.trained(), before, strict=True):
                p.copy_(value)
        return moved * engine.params.expected_batch


@pytest.fixture(params=["opacus-hooks", "fast"])
def task(request: pytest.FixtureRequest) -> Task:
    torch.manual_seed(11)
    return Task(backend=request.param)


@pytest.fixture
def fast_task() -> Task:
    """For what does not depend on the backend, such as the noise."""
    torch.manual_seed(11)
    return Task(backend="fast")


@pytest.fixture
def clip_rows() -> Callable[[NDArray[np.float64], float], NDArray[np.float64]]:
    def clip(rows: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows * np.minimum(1.0, bound / norms)

    return clip
