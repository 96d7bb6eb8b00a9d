"""Entry point: builds the command tree and turns every expected failure into one clear message.

Heavy imports (torch, Flower) happen inside the commands, so ``--help`` answers at once.
"""

import errno
import json
import os
import sys
import warnings
from importlib import import_module
from typing import Annotated

import typer
from rich.console import Console
from typer import Option, Typer

import fedward
from fedward.cli.shared import plain
from fedward.errors import FedwardError, PreflightError, ResourceError, StoppedError

CLIENT_PACKAGES = ("torch", "transformers", "peft", "opacus", "tokenizers", "accelerate", "datasketch")

app = Typer(
    name="fedward",
    help="Hospitals fine-tune one language model together; the coordinator sees only encrypted sums.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fedward {fedward.__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


COMMANDS = {
    "simulate": "simulate sweep",
    "evaluate": "evaluate audit",
    "generate": "generate",
    "explain": "explain",
    "coverage": "coverage",
    "chaos": "chaos",
}
"""Modules and the commands in them, each the function of that name."""

GROUPS = {
    "plan": "Runs before they start: estimate, new, check, sign.",
    "data": "Data folders: formats, check, split, synthetic.",
    "models": "Base models: list, fetch, import, path.",
    "client": "The hospital's own commands.",
    "server": "The coordinator's commands.",
    "roster": "Who takes part: publish, show, approve, merge, verify.",
}
"""Each is the ``app`` of the module of that name."""


def _mount() -> None:
    for module, names in COMMANDS.items():
        for name in names.split():
            app.command(name)(getattr(import_module(f"fedward.cli.{module}"), name))
    for name, about in GROUPS.items():
        app.add_typer(import_module(f"fedward.cli.{name}").app, name=name, help=about)


def run() -> None:
    """Runs the command line; the console script of the package."""
    # Libraries announce their own deprecations; that is news for developers, who see it in the tests.
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    _mount()
    try:
        app()
    except FedwardError as error:
        _print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        stopped = StoppedError("Stopped from the keyboard.", fix="Start the command again when you are ready.")
        _print_error(stopped)
        sys.exit(stopped.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("FEDWARD_DEBUG"):
            raise
        reported = _unexpected(error)
        _print_error(reported)
        sys.exit(reported.exit_code)


_OF_FILES = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
    | {errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.EIO, errno.ESTALE, errno.EFBIG}
)
"""What the operating system may have against a path that a person named."""


def _unexpected(error: Exception) -> FedwardError:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in CLIENT_PACKAGES:
        return PreflightError(f"This command needs {error.name}, which is not installed here.", code="FW-PREFLIGHT-002")
    if isinstance(error, OSError) and error.errno in _OF_FILES and error.filename is not None:
        words = f"The operating system refused {os.fsdecode(error.filename)} ({error.strerror})."
        return ResourceError(words, code="FW-RESOURCE-304")
    # The text of an unexpected exception may quote a record, so only its kind is shown.
    return FedwardError(
        f"An unexpected {type(error).__name__} ended the command.",
        fix="Run it again with FEDWARD_DEBUG=1 on a machine where the trace may be shown, and report it.",
    )


def _print_error(error: FedwardError) -> None:
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": {"code": error.code, "message": error.message, "fix": error.fix}}), err=True)
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]{error.code}[/] ", end="")
    console.print(plain(error.message), markup=False)
    if error.fix:
        console.print("[bold]Fix:[/] ", end="")
        console.print(error.fix, markup=False)
    console.print(f"[dim]More: fedward explain {error.code}[/]")
