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


def group_of(code: str) -> str:
    """The group of a code, the word between its dashes; empty for FW-000.

    >>> group_of("FW-NET-212")
    'NET'
    """
    return code.partition("-")[2].rpartition("-")[0]


class FedwardError(Exception):
    """Base of all expected failures: a sentence on what has happened, the code of a row, and a fix other than its own.

    >>> ConfigError("The scenario names two hospitals.", code="FW-CONFIG-003").fix
    'List at least three hospitals in the scenario.'
    """

    code: str = "FW-000"  # stable text code, for example ``FW-CONFIG-001``
    exit_code: int  # process exit status of the command line
    fix: str  # what the reader can do about it, one sentence
    of_records: bool  # whether it depends on records, so that its code must not leave a hospital

    def __init_subclass__(cls, *, code: str) -> None:
        cls.code = code

    def __init__(
        self, message: str, *, code: str | None = None, fix: str | None = None, of_records: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        # A code that the table lacks fails a test; while running, the failure itself matters more.
        row = table().get(self.code, self.row())
        self.exit_code = row.exit_code
        self.fix = row.fix if fix is None else fix
        self.of_records = isinstance(self, PreflightError) if of_records is None else of_records

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


class ConfigError(FedwardError, code="FW-CONFIG-001"):
    """A scenario, plan or site file cannot be used as written."""


class UnknownKeyError(ConfigError, code="FW-CONFIG-002"):
    """A configuration file contains a key that fedward does not know."""


class PreflightError(FedwardError, code="FW-PREFLIGHT-001"):
    """A check that runs before any work starts has failed: of records, or of what a model makes of them."""


class DataError(PreflightError, code="FW-DATA-001"):
    """The clinical data cannot be read as the declared format."""


class PolicyError(FedwardError, code="FW-POLICY-001"):
    """Something was asked that has not been approved or that local policy denies."""


class BudgetError(FedwardError, code="FW-BUDGET-001"):
    """The privacy budget does not allow what was asked."""


class AuthenticationError(FedwardError, code="FW-AUTH-001"):
    """A signature, key or certificate was not accepted."""


class NetworkError(FedwardError, code="FW-NET-001"):
    """A machine could not be reached."""


class RunFailedError(FedwardError, code="FW-RUN-001"):
    """A run ended without a result."""


class QuorumError(RunFailedError, code="FW-RUN-002"):
    """Fewer hospitals remain than the threshold of the round."""


class IntegrityError(FedwardError, code="FW-INTEGRITY-001"):
    """A hash, signature or chain does not match."""


class VersionError(FedwardError, code="FW-VERSION-001"):
    """Two parties run versions that do not work together."""


class ResourceError(FedwardError, code="FW-RESOURCE-001"):
    """Memory, disk or another resource is missing."""


class StoppedError(FedwardError, code="FW-STOP-001"):
    """The kill switch ended the run."""


class DeadlineError(FedwardError, code="FW-TIME-001"):
    """Something did not happen before its deadline."""
