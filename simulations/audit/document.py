"""``audit.json``: what an audit of a run found, also in one screen for people. Rates and bounds only, no patients."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from rich.console import Console
from rich.text import Text

from fedward.config import Section
from fedward.simulations import wording
from fedward.simulations.result import Amount, Count, Interval, Sha256, Unit, write_atomically
from fedward.simulations.terminal import open_table

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
    """Writes ``audit.json`` into the run's folder atomically. Raises FW-RESOURCE-020 (the folder or disk refuses)."""
    return write_atomically(folder / AUDIT_FILE, document.model_dump_json(indent=2) + "\n")


def print_audit(document: AuditDocument, console: Console) -> None:
    """Prints the bound beside the certificate and beside its own reach, then the attacks on the adapter."""
    found, attacks = document.canaries, document.membership
    heading = f"\nMembership inference on the adapter, {attacks.members:,} training against {attacks.others:,} others"
    lines = [
        f"  guessed right      {found.correct} of {found.guesses} ({found.canaries} canaries at {found.hospital}, "
        f"{found.included} took part)",
        f"  epsilon at least   {found.epsilon_lower:.2f} at delta {wording.delta(found.delta)} "
        f"({100 * found.confidence:g} % confidence)",
        f"  could have shown   {found.epsilon_reach:.2f} at most, had every guess been right",
        f"  certified          {wording.epsilon(document.epsilon_certified)} at most",
    ]
    if document.refutes:
        console.print(Text("CERTIFICATE REFUTED: the run leaks more than it promises.", style="bold red"))
    console.print(Text("Canaries, seen by " + found.observer, style="bold"), soft_wrap=True)
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    console.print(Text(heading, style="bold"), soft_wrap=True)
    rates = [f"Found at {100 * point.at_most:g} % false alarms" for point in attacks.attacks[0].low]
    table = open_table("Attack", "AUC (95 %)", *rates, framed=console.is_terminal)
    for attack in attacks.attacks:
        table.add_row(
            attack.attack,
            f"{wording.score(attack.auc)} ({wording.interval(attack.auc_interval)})",
            *(
                f"{wording.rate(point.true_positive_rate)} "
                f"({wording.rate(point.interval[0])} to {wording.rate(point.interval[1])})"
                for point in attack.low
            ),
        )
    console.print(table)
    console.print(Text("An audit shows leaks; that it found none does not show that there is none."), soft_wrap=True)
