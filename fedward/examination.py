"""Examination of a machine, line by line: what `fedward client doctor` and `fedward server doctor` share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fedward.errors import FedwardError, PreflightError

Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    name: str
    level: Level
    words: str
    fix: str = ""
    code: str = ""


@dataclass(frozen=True)
class Doubt:
    """What a check returns that found something to be told, but nothing that stops a run."""

    words: str
    fix: str
    code: str = ""


def examined(name: str, check: Callable[[], str | Doubt]) -> Finding:
    """What ``check`` found, or why it failed; it never raises, so the checks after it go on."""
    try:
        found = check()
        if isinstance(found, Doubt):
            return Finding(name, "warn", found.words, found.fix, found.code)
        return Finding(name, "ok", found)
    except FedwardError as error:
        failure = error
    except Exception as error:
        # The text of an unexpected exception may quote a record, so only its kind is shown.
        words = f"An unexpected {type(error).__name__} kept this from being examined."
        failure = PreflightError(words, code="FW-PREFLIGHT-303")
    return Finding(name, "FAIL", failure.message, failure.fix, failure.code)
