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
CARD_HEADING = "## Audit"
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


class PlantedFinding(Section):
    """What one model shows of sentences that were planted so many times; see ``memory.py``."""

    private: bool  # whether the model was trained with the run's privacy, or with none
    copies: Count
    sentences: Count
    exposure: Amount  # bits, mean
    completed: Unit  # share that greedy decoding completes word for word
    membership_auc: Unit  # by loss; 0.5 is guessing


class MemoryFinding(Section):
    """Whether a language model repeats random sentences of one unit's records, with the run's privacy and without."""

    hospital: str
    references: Count  # secrets that each was ranked among
    exposure_reach: Amount  # most that can be found, in bits
    planted: tuple[PlantedFinding, ...]


class AuditDocument(Section):
    """Everything one audit found. ``adapter_sha256`` names the run it belongs to; ``memory`` is of language models."""

    schema_version: Literal[1] = 1
    fedward_version: str
    created: datetime
    adapter_sha256: Sha256
    epsilon_certified: Amount
    delta: Unit
    canaries: CanaryFinding
    membership: MembershipFinding
    memory: MemoryFinding | None = None
    seconds: Amount

    @property
    def refutes(self) -> bool:
        """Whether more leaked than the certificate allows."""
        return self.canaries.epsilon_lower > self.epsilon_certified


def write_audit(document: AuditDocument, folder: Path) -> Path:
    """Writes ``audit.json`` into the run's folder atomically. Raises FW-RESOURCE-020 (the folder or disk refuses)."""
    return write_atomically(folder / AUDIT_FILE, document.model_dump_json(indent=2) + "\n")


def add_to_card(document: AuditDocument, card: Path) -> None:
    """Says in the adapter's card what an audit found; an earlier audit's words are replaced."""
    found, text = document.canaries, card.read_text(encoding="utf-8") if card.is_file() else ""
    guessed = f"Guesses about made-up records: epsilon at least {found.epsilon_lower:.2f}"
    lines = [f"{guessed}, certified {wording.epsilon(document.epsilon_certified)}."]
    lines += [_remembered(row) for row in (document.memory.planted if document.memory else ())]
    before = text.partition(f"\n{CARD_HEADING}\n")[0].rstrip("\n")
    write_atomically(card, f"{before}\n\n{CARD_HEADING}\n" + "".join(f"- {line}\n" for line in lines))


def _remembered(row: PlantedFinding) -> str:
    privacy = "with the privacy of the run" if row.private else "without privacy"
    return (
        f"Random sentences that stood {wording.counted(row.copies, 'time')} in one unit's records, trained {privacy}: "
        f"exposure {row.exposure:.2f} bits, {wording.rate(row.completed)} completed word for word, "
        f"AUC by loss {wording.score(row.membership_auc)}."
    )


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
    if document.memory is not None:
        _print_memory(document.memory, console)
    console.print(Text("An audit shows leaks; that it found none does not show that there is none."), soft_wrap=True)


def _print_memory(memory: MemoryFinding, console: Console) -> None:
    heading = f"\nRandom sentences in the records of one unit at {memory.hospital}: does the model repeat them?"
    console.print(Text(heading, style="bold"), soft_wrap=True)
    columns = (f"Exposure (0 to {memory.exposure_reach:.1f} bits)", "Completed word for word", "AUC by loss")
    table = open_table("Copies", "Privacy", *columns, framed=console.is_terminal)
    for row in memory.planted:
        figures = f"{row.exposure:.2f}", wording.rate(row.completed), wording.score(row.membership_auc)
        table.add_row(str(row.copies), "as in the run" if row.private else "none", *figures)
    console.print(table)
