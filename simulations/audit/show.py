"""What an audit found, in one screen."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedward.simulations import wording
from fedward.simulations.audit.document import AuditDocument


def print_audit(document: AuditDocument, console: Console) -> None:
    """Prints the bound beside the certificate and beside its own reach, then the attacks on the adapter."""
    found, attacks = document.canaries, document.membership
    if document.refutes:
        console.print(Text("CERTIFICATE REFUTED: the run leaks more than it promises.", style="bold red"))
    console.print(Text("Canaries, seen by " + found.observer, style="bold"), soft_wrap=True)
    lines = [
        f"  guessed right      {found.correct} of {found.guesses} ({found.canaries} canaries at {found.hospital}, "
        f"{found.included} took part)",
        f"  epsilon at least   {found.epsilon_lower:.2f} at delta {wording.delta(found.delta)} "
        f"({100 * found.confidence:g} % confidence)",
        f"  could have shown   {found.epsilon_reach:.2f} at most, had every guess been right",
        f"  certified          {wording.epsilon(document.epsilon_certified)} at most",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    heading = f"\nMembership inference on the adapter, {attacks.members:,} training against {attacks.others:,} others"
    console.print(Text(heading, style="bold"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    table.add_column("Attack")
    table.add_column("AUC (95 %)")
    for point in attacks.attacks[0].low:
        table.add_column(f"Found at {100 * point.at_most:g} % false alarms")
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
