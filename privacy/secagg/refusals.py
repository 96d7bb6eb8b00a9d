"""Refusals of the protocol that somebody acts on; every reason has a code of its own in ``errors.toml``.

Only the code travels: a refusal's text stays in the log of the party that refused, and no text here
contains a value from the data. Codes 002-009 concern any signed message, 010-019 the roster, 020-029
the key epoch, 030-049 the manifest, 050-059 packages, 060-069 survivors and confirmations, 070-079
unmasking, 080-089 results and 090-099 replies at the coordinator.
"""

# ruff: noqa: N818 - a class says what was refused; "RefusedError" would say no more.

from __future__ import annotations

from fedward.errors import IntegrityError, ResourceError, RunFailedError


class RefusalError(IntegrityError):
    """Base of all refusals of the protocol; raised with the code of the reason."""

    code = "FW-SECAGG-001"


class ShareRefused(RefusalError):
    """A hospital's share mail is missing, does not open, or does not match its commitment.

    ``complaint`` holds this hospital's signed complaint, to be sent in place of the masked vector.
    """

    code = "FW-SECAGG-053"

    def __init__(self, message: str, *, complaint: bytes, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.complaint = complaint


class RoundLostError(RunFailedError):
    """A round cannot be unmasked any more, and its vectors are erased; the next round starts without the liars."""

    code = "FW-SECAGG-092"


class JournalError(IntegrityError):
    """The protocol's journal cannot be read with this key: altered, truncated, or another key."""

    code = "FW-SECAGG-093"


class FolderInUseError(ResourceError):
    """Another process has this party's state folder open; two would use the same one-time keys."""

    code = "FW-SECAGG-094"
