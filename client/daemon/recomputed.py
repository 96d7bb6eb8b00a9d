"""Facts of a plan that follow from plan and base model, computed here: what the file says of itself is not believed.

A coordinator writes into a plan file how many values are trained, in which layout, and from which start. None of it is
shown to whoever decides: all is computed again from the plan and from the base model as it lies on this machine, and
what the file says otherwise is a reason to refuse it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fedward.adapter import adapter_hash
from fedward.agreements.proposal import VerifiedProposal
from fedward.client.models.adapter_model import resolve_run, start_of
from fedward.client.models.registry import ModelFiles, resolve_named
from fedward.errors import FedwardError, IntegrityError
from fedward.plan import NO_MODEL, Plan
from fedward.run import Run

FEWEST = {"n0": 3, "honest": 2}
"""Hospitals in the smallest round there can be; the vector has the same size in every other one."""


@dataclass(frozen=True)
class Recomputed:
    """A plan bound to the base model that it names."""

    run: Run
    family: str  # of the base model
    start: bytes  # hash of the state that it starts from

    @classmethod
    def of(cls, plan: Plan, files: ModelFiles | None) -> Self:
        """The facts of ``plan`` on the model ``files``; None of a plan that trains nothing. Raises ConfigError."""
        if files is None:
            run = Run.of_statistics(plan)
            return cls(run, NO_MODEL, adapter_hash(np.zeros(run.layout.size, np.float32), run.layout))
        config = files.config()
        run = resolve_run(plan, config)
        return cls(run, config.family.name, adapter_hash(start_of(run, config), run.layout))

    @property
    def parameters(self) -> int:
        """Number of values that are trained."""
        return self.run.layout.size if self.run.rounds else 0

    @property
    def vector_bytes(self) -> int:
        """Size of the largest masked vector of a round."""
        numbers = range(1, self.run.final_round + 1)
        return max(self.run.vector_layout(number, **FEWEST).nbytes for number in numbers)


def recompute(plan: Plan) -> Recomputed | None:
    """The facts of ``plan``; None where its base model is not here with the content that the plan names.

    Raises ConfigError (strategy, task, model or settings do not go together).
    """
    if plan.statistics is not None:
        return Recomputed.of(plan, None)
    try:
        files = resolve_named(plan.base_model)
    except FedwardError:
        return None
    return Recomputed.of(plan, files) if files.sha256 == plan.base_model_sha256 else None


def check_said(verified: VerifiedProposal, found: Recomputed) -> None:
    """Raises FW-INTEGRITY-304 unless what the plan file says of itself is what follows from it."""
    terms, layout, privacy = verified.proposal.terms, found.run.layout, verified.plan.privacy
    said = {
        "number of trained values": (terms.parameters, layout.size),
        "adapter layout": (terms.adapter_layout_hash, layout.hash()),
        "starting adapter": (terms.initial_adapter_hash, found.start),
        "family of the base model": (terms.family, found.family),
    }
    if privacy.private and found.run.sums_gradients:
        said["number of values that noise is priced for"] = (privacy.parameters, layout.size)
    for what, (told, follows) in said.items():
        if told != follows:
            words = f"The plan file says another {what} than follows from the plan and its base model."
            raise IntegrityError(words, code="FW-INTEGRITY-304")
