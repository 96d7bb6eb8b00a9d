"""``audit.json``: what an audit of a run found, for the report and for programs. Rates and bounds only, no patients."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedward.config import Section
from fedward.simulations.result import Amount, Count, Interval, Sha256, Unit, write_atomically

AUDIT_FILE = "audit.json"
OBSERVER = "whoever sees the global adapter after every round: the coordinator and each hospital"


class CanaryFinding(Section):
    """Guesses about canaries and the bound that follows (Steinke, Nasr and Jagielski 2023).

    ``epsilon_lower`` is what the run leaked at least; ``epsilon_reach`` what it would have been with every guess right.
    """

    hospital: str
    observer: str = OBSERVER
    canaries: Annotated[int, Field(ge=1)]
    included: Count
    guesses: Annotated[int, Field(ge=1)]
    correct: Count
    epsilon_lower: Amount
    epsilon_reach: Amount
    delta: Unit
    confidence: Unit


class LowRateFinding(Section):
    """Share of training patients found while at most ``at_most`` of the others are accused; 95 % interval."""

    at_most: Unit
    false_positive_rate: Unit
    true_positive_rate: Unit
    interval: Interval


class AttackFinding(Section):
    """One attack on the adapter; ``auc`` 0.5 is guessing."""

    attack: str
    auc: Unit
    auc_interval: Interval
    low: tuple[LowRateFinding, ...]


class MembershipFinding(Section):
    """Attacks that tell training patients from evaluation patients by the final adapter."""

    members: Count
    others: Count
    reference_models: Count
    attacks: tuple[AttackFinding, ...]


class AuditDocument(Section):
    """Everything one audit found. ``adapter_sha256`` names the run it belongs to."""

    schema_version: Literal[1] = 1
    fedward_version: str
    created: datetime
    adapter_sha256: Sha256
    epsilon_certified: Amount
    delta: Unit
    canaries: CanaryFinding
    membership: MembershipFinding
    seconds: Amount

    @property
    def refutes(self) -> bool:
        """Whether more leaked than the certificate allows."""
        return self.canaries.epsilon_lower > self.epsilon_certified


def write_audit(document: AuditDocument, folder: Path) -> Path:
    """Writes ``audit.json`` into the run's folder atomically.

    Raises:
        ResourceError: FW-RESOURCE-020, the folder or disk refuses.
    """
    return write_atomically(folder / AUDIT_FILE, document.model_dump_json(indent=2) + "\n")
