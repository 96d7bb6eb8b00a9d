"""Failures that a person can meet: one stable code each, explained in ``errors.toml``.

A class exists only where a caller acts on it, or for a family that shares an exit status. Everything else about a
failure is data: ``raise DataError("One sentence.", code="FW-DATA-009")``. A message never contains patient data, file
contents or identifiers. Exit statuses follow ``docs/exit-codes.md``.
"""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Row:
    """One code of the table: the class raised with it, the command's exit status, what happened, what to do."""

    code: str
    family: str
    exit_code: int
    meaning: str
    fix: str


@cache
def table() -> Mapping[str, Row]:
    """Every error code with its row, sorted by code; read when first needed."""
    text = resources.files("fedward").joinpath("errors.toml").read_text(encoding="utf-8")
    return {code: Row(code, **row) for code, row in tomllib.loads(text).items()}


class FedwardError(Exception):
    """Base of all expected failures: a sentence on what has happened, the code of a row, and a fix other than its own.

    >>> ConfigError("The scenario names two hospitals.", code="FW-CONFIG-003").fix
    'List at least three hospitals in the scenario.'
    """

    code: str = "FW-000"  # stable text code, for example ``FW-CONFIG-001``
    exit_code: int  # process exit status of the command line
    fix: str  # what the reader can do about it, one sentence

    def __init__(self, message: str, *, code: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        # A code that the table lacks fails a test; while running, the failure itself matters more.
        row = table().get(self.code, self.row())
        self.exit_code = row.exit_code
        self.fix = row.fix if fix is None else fix

    @classmethod
    def row(cls) -> Row:
        """The row of the class's own code."""
        return table()[cls.code]


@contextmanager
def failing_as(error: FedwardError, *causes: type[Exception]) -> Iterator[None]:
    """Raises ``error`` in the place of any of ``causes``, which stays attached to it."""
    try:
        yield
    except causes as cause:
        raise error from cause


class ConfigError(FedwardError):
    """A scenario, plan or site file cannot be used as written."""

    code = "FW-CONFIG-001"


class UnknownKeyError(ConfigError):
    """A configuration file contains a key that fedward does not know."""

    code = "FW-CONFIG-002"


class PreflightError(FedwardError):
    """A check that runs before any work starts has failed."""

    code = "FW-PREFLIGHT-001"


class DataError(PreflightError):
    """The clinical data cannot be read as the declared format."""

    code = "FW-DATA-001"


class PolicyError(FedwardError):
    """Something was asked that has not been approved or that local policy denies."""

    code = "FW-POLICY-001"


class BudgetError(FedwardError):
    """The privacy budget does not allow what was asked."""

    code = "FW-BUDGET-001"


class AuthenticationError(FedwardError):
    """A signature, key or certificate was not accepted."""

    code = "FW-AUTH-001"


class NetworkError(FedwardError):
    """A machine could not be reached."""

    code = "FW-NET-001"


class RunFailedError(FedwardError):
    """A run ended without a result."""

    code = "FW-RUN-001"


class QuorumError(RunFailedError):
    """Fewer hospitals remain than the threshold of the round."""

    code = "FW-RUN-002"


class IntegrityError(FedwardError):
    """A hash, signature or chain does not match."""

    code = "FW-INTEGRITY-001"


class VersionError(FedwardError):
    """Two parties run versions that do not work together."""

    code = "FW-VERSION-001"


class ResourceError(FedwardError):
    """Memory, disk or another resource is missing."""

    code = "FW-RESOURCE-001"


class StoppedError(FedwardError):
    """The kill switch ended the run."""

    code = "FW-STOP-001"


class DeadlineError(FedwardError):
    """Something did not happen before its deadline."""

    code = "FW-TIME-001"
