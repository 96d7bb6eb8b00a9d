"""`fedward audit`: attacks a finished run, or the training engine itself, and reports what leaked."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from typer import Argument, Option

from fedward.cli.shared import say_json
from fedward.errors import IntegrityError


def audit(
    run: Annotated[
        Path | None, Argument(metavar="[RUN]", help="Folder of a private run that `fedward simulate` wrote.")
    ] = None,
    canaries: Annotated[int, Option(min=10, max=10_000, help="Made-up records; more can show a larger epsilon.")] = 100,
    self_test: Annotated[
        bool, Option("--self-test", help="Audit the training engine of this installation instead of a run.")
    ] = False,
    steps: Annotated[int, Option(min=2_000, help="Steps of the self-test.")] = 20_000,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object and no progress.")] = False,
) -> None:
    """Try to find out from a run who took part, and compare with what it promised.

    RUN: trains the same federation again with canaries, made-up records for each of which a coin decides whether it
    takes part, guesses which did, and bounds epsilon from the right guesses. Then attacks the run's adapter for those
    it was trained on. Writes audit.json into RUN and adds a section to report.html. About as long as two runs.

    --self-test: takes 20,000 single steps of the training engine with and without one record and bounds what a step
    leaks. Less than a minute or two.

    Examples:

      fedward audit run

      fedward audit run --canaries 400

      fedward audit --self-test

    Exit code 11 if more leaked than promised. That an audit finds nothing does not prove that nothing leaks.
    """
    if self_test == (run is not None):
        raise typer.BadParameter("Give the folder of a run, or --self-test.", param_hint="RUN")
    if run is None:
        _self_test(steps, as_json=as_json)
    else:
        _run(run, canaries, as_json=as_json)


def _run(folder: Path, canaries: int, *, as_json: bool) -> None:
    from fedward.simulations.audit.document import print_audit
    from fedward.simulations.audit.run import audit_run
    from fedward.simulations.terminal import RunDisplay

    document = audit_run(folder, canaries=canaries, display=RunDisplay("quiet" if as_json else "auto"))
    if as_json:
        typer.echo(document.model_dump_json())
    else:
        console = Console(highlight=False)
        print_audit(document, console)
        console.print(f"Written    {folder / 'audit.json'}, {folder / 'report.html'}", markup=False, soft_wrap=True)
    if document.refutes:
        raise IntegrityError(
            f"The run leaked epsilon {document.canaries.epsilon_lower:.2f} at least, "
            f"and its certificate says {document.epsilon_certified:.2f}.",
            code="FW-AUDIT-003",
        )


def _self_test(steps: int, *, as_json: bool) -> None:
    import torch

    from fedward.privacy.dpsgd.audit import LEAST_RATIO, MechanismAudit, audit_mechanism

    torch.set_num_threads(1)
    console = Console(highlight=False)
    with Progress(console=console, disable=as_json or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("steps of the training engine", total=None)
        found: MechanismAudit = audit_mechanism(steps=steps, progress=lambda done: bar.advance(task, done))
    if as_json:
        say_json(found.figures())
    else:
        steps_words = f"{found.steps:,} steps of the {found.backend} engine"
        more = f"{found.errors.with_patient:,} of them with one record more"
        console.print(f"Mechanism audit: {steps_words}, {more}", style="bold")
        for line in (
            f"  certified          mu = {found.mu_certified:.3f} a step (noise multiplier 1, everybody sampled)",
            f"  leaked at least    mu = {found.mu_lower:.3f} ({100 * found.confidence:g} % confidence)",
            f"  ratio              {found.ratio:.2f}; sound between {LEAST_RATIO} and 1",
            f"  noise repeats      correlation {found.noise.correlation:+.4f}; "
            f"independent noise stays within {found.noise.limit:.4f}",
        ):
            console.print(line)
    found.check()
    if not as_json:
        console.print("The engine keeps its promise on this pair of inputs.")
