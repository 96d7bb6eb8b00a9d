"""The error tree of fedward: every failure a person can meet has a stable code, a cause and a fix.

An error message is one sentence and never contains patient data, file contents or identifiers.
Exit codes follow ``docs/exit-codes.md``; a class inherits the exit code of its family.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class FedwardError(Exception):
    """Base of all expected failures.

    Attributes:
        code: stable text code, for example ``FW-CONFIG-001``; unique per concrete class.
        exit_code: process exit status of the command line.
        fix: what the reader can do about it, one sentence.
    """

    code: ClassVar[str] = "FW-000"
    exit_code: ClassVar[int] = 1
    default_fix: ClassVar[str] = "Report it with the command that was run; leave out data."

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = self.default_fix if fix is None else fix

    @classmethod
    def catalogue(cls) -> Iterator[type[FedwardError]]:
        """Yields every concrete error class below this one (those that define their own code)."""
        for child in cls.__subclasses__():
            if "code" in child.__dict__:
                yield child
            yield from child.catalogue()


class ConfigError(FedwardError):
    """A scenario, plan or site file cannot be used as written."""

    code = "FW-CONFIG-001"
    exit_code = 3
    default_fix = "Correct the file at the named key and run the command again."


class UnknownKeyError(ConfigError):
    """A configuration file contains a key that fedward does not know."""

    code = "FW-CONFIG-002"


class TooFewHospitalsError(ConfigError):
    """A federation needs at least three hospitals: with two, each could subtract itself from the sum."""

    code = "FW-CONFIG-003"
    default_fix = "List at least three hospitals in the scenario."


class UnknownModelError(ConfigError):
    """The named base model is neither packaged, cached nor a local folder."""

    code = "FW-CONFIG-004"
    default_fix = "Run `fedward models list` to see the names, or give the path of a local model folder."


class OutputExistsError(ConfigError):
    """The output folder already holds a finished run."""

    code = "FW-CONFIG-005"
    default_fix = "Choose another --out folder, or pass --force to replace the run in it."


class PreflightError(FedwardError):
    """A check that runs before any work starts has failed."""

    code = "FW-PREFLIGHT-001"
    exit_code = 4
    default_fix = "Correct what the message names and run the command again; nothing was started."


class NotInstalledError(PreflightError):
    """A command needs packages that this installation does not have; a coordinator needs none of them."""

    code = "FW-PREFLIGHT-002"
    default_fix = "Run it where fedward[client] is installed: the researcher's machine or a hospital's."


class DataError(PreflightError):
    """The clinical data cannot be read as the declared format."""

    code = "FW-DATA-001"
    default_fix = "Run `fedward data check DIR` to see what the folder holds."


class PolicyError(FedwardError):
    """Something was asked that has not been approved or that local policy denies."""

    code = "FW-POLICY-001"
    exit_code = 5
    default_fix = "Ask the hospital's data protection officer to approve it, or change the plan to what is approved."


class BudgetError(FedwardError):
    """The privacy budget does not allow what was asked."""

    code = "FW-BUDGET-001"
    exit_code = 6
    default_fix = (
        "Ask for less (fewer rounds, more noise), or have the hospital raise its limit; a spent budget never returns."
    )


class AuthenticationError(FedwardError):
    """A signature, key or certificate was not accepted."""

    code = "FW-AUTH-001"
    exit_code = 7
    default_fix = "Compare the fingerprints of keys and certificates with the other party by phone."


class NetworkError(FedwardError):
    """A machine could not be reached."""

    code = "FW-NET-001"
    exit_code = 8
    default_fix = "Check address, proxy and firewall; the command can be repeated safely."


class RunFailedError(FedwardError):
    """A run ended without a result."""

    code = "FW-RUN-001"
    exit_code = 9
    default_fix = "Look at the cause above in the log, correct it and start the run again."


class QuorumError(RunFailedError):
    """Fewer hospitals remain than the threshold of the round."""

    code = "FW-RUN-002"
    exit_code = 10
    default_fix = "Find out which hospitals are missing and start the run again when enough of them are reachable."


class IntegrityError(FedwardError):
    """A hash, signature or chain does not match."""

    code = "FW-INTEGRITY-001"
    exit_code = 11
    default_fix = "Do not use the file or message; fetch it again and compare its hash with the sender's."


class VersionError(FedwardError):
    """Two parties run versions that do not work together."""

    code = "FW-VERSION-001"
    exit_code = 12
    default_fix = "Install the same fedward version at both parties."


class ResourceError(FedwardError):
    """Memory, disk or another resource is missing."""

    code = "FW-RESOURCE-001"
    exit_code = 13
    default_fix = "Free memory or disk space, or lower the limits in the configuration, and run the command again."


class StoppedError(FedwardError):
    """The kill switch ended the run."""

    code = "FW-STOP-001"
    exit_code = 14
    default_fix = "Remove the STOP file, if there is one, and start again when the reason is settled."


class DeadlineError(FedwardError):
    """Something did not happen before its deadline."""

    code = "FW-TIME-001"
    exit_code = 15
    default_fix = "Check that the other party is running and reachable, or allow more time."
