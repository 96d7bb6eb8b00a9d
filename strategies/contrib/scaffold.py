"""SCAFFOLD: control variates that take the drift of hospitals with other patients out of local training.

Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378; with differential privacy Noble et al. 2022 (DP-SCAFFOLD),
https://arxiv.org/abs/2111.09278. Every local gradient is moved by c - c_i, the mean variate of all hospitals minus that
of this one. A second summed vector carries the changes of the variates.

The new variate of a hospital is the mean of the **noised** gradients of its own steps in the round. For plain gradient
descent that is option II of the paper, c_i - c + (x - y_i) / (K eta); it stays defined for Adam. Option I, the gradient
at the global adapter over all patients, would read every patient once more and have to be paid for; it is not offered.
Both vectors are post-processing of gradients that the ledger was charged for, so the variates cost no privacy. Where
noise outweighs drift they cost utility: a variate holds the noise of K gradients and adds it to the next round's steps.
"""

from collections.abc import Sequence

import numpy as np

from fedward.adapter import Vector
from fedward.errors import IntegrityError
from fedward.messages import labelled_hash
from fedward.strategies.ffa import FFALoRA
from fedward.strategies.optimizers import Memory
from fedward.strategies.strategy import Declaration, Moved, Part, Step, Sums, Trained

VARIATE = "variate"
"""Name of the second segment, and of what a hospital keeps."""


class Scaffold(FFALoRA):
    """FFA-LoRA whose local steps are corrected by control variates.

    The memory holds who has been in a sum so far, and the sum of their variates. c is the mean over those hospitals:
    one that dropped out keeps its last variate. One that has never been in a sum has none and trains uncorrected: with
    c for a correction it would drag the mean along. (In the paper it has a variate of zero, which counts in c.)
    """

    declaration = Declaration(
        name="scaffold",
        source="Karimireddy et al. 2020, arXiv 1910.06378; Noble et al. 2022, arXiv 2111.09278",
        state=("B", "head"),
        trains=("B", "head"),
        sends="B and the head, and the change of their control variates",
        exact=True,
        noise_in_product="linear",
        variates=True,
    )

    def sends(self, step: Step) -> tuple[Part, ...]:
        """Two segments of the same tensors."""
        (delta,) = super().sends(step)
        return delta, Part(VARIATE, delta.layout)

    def messages(self, step: Step, trained: Trained, memory: Memory, site: str) -> dict[str, Vector]:
        """The delta, and by how much the hospital's variate changes."""
        if trained.variate is None:
            raise ValueError("SCAFFOLD needs the variate that training led to")
        return super().messages(step, trained, memory, site) | {VARIATE: trained.variate}

    def shift(self, memory: Memory, own: Vector, site: str) -> Vector:
        """c - c_i, float32 ``[P]``: what ``site`` with the variate ``own`` adds to each local gradient."""
        seen, total = self._recall(memory)
        if _label(site) not in seen:
            return np.zeros_like(own)
        return (total / len(seen) - own).astype(np.float32)

    def advance(self, step: Step, state: Vector, memory: Memory, sums: Sums, survivors: Sequence[str]) -> Moved:
        """The mean of the deltas; the variates' sum grows by the changes."""
        seen, total = self._recall(memory)
        moved, _ = super().advance(step, state, np.empty(0), sums, survivors)
        together = sorted(seen.union(map(_label, survivors)))
        return moved, np.concatenate([[float(len(together))], together, total + sums[VARIATE]])

    def _recall(self, memory: Memory) -> tuple[frozenset[float], Memory]:
        """Labels of the hospitals that have been in a sum, and the sum of their variates ``[P]``."""
        size = self.layout.size
        if memory.size == 0:
            return frozenset(), np.zeros(size)
        count = memory.size - 1 - size
        if count < 1 or memory[0] != count or not np.isfinite(memory).all():
            raise IntegrityError("The control variates do not fit the adapter.", code="FW-STRATEGY-012")
        return frozenset(memory[1 : 1 + count].tolist()), memory[1 + count :]


def _label(site: str) -> float:
    """A number for a hospital's name that a float64 holds exactly."""
    return float(int.from_bytes(labelled_hash("scaffold-hospital", site)[:6], "big"))
