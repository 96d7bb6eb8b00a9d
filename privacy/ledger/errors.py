"""Every way in which the ledger says no; it never guesses in favour of spending."""

from __future__ import annotations

from fedward.errors import BudgetError, ConfigError, IntegrityError, PolicyError, ResourceError


class BudgetExhaustedError(BudgetError):
    """The rounds asked for, composed with everything recorded, would pass the lifetime cap."""

    code = "FW-BUDGET-010"
    default_fix = "Use fewer rounds or a smaller epsilon; the cap is for the patients' lifetime and does not renew."


class LedgerDamagedError(IntegrityError):
    """The ledger on disk is not an unbroken chain of valid records."""

    code = "FW-LEDGER-001"
    default_fix = "Keep the files as they are and restore the newest copy; never delete a ledger to continue."


class LedgerRollbackError(IntegrityError):
    """A head that was written down elsewhere is missing from the chain: an older ledger was put back."""

    code = "FW-LEDGER-002"
    default_fix = "Restore the newest ledger; whatever the older copy lacks was already released."


class LedgerConflictError(PolicyError):
    """A round that the ledger holds is asked for again, as something else or after its output has left."""

    code = "FW-LEDGER-003"
    default_fix = "Start a new run; every run needs an identifier that was never used before."


class LedgerTermsError(PolicyError):
    """The ledger was opened for another site, namespace or delta, or with a higher cap than it began with."""

    code = "FW-LEDGER-004"
    default_fix = "Open the ledger with the terms it was created with; its cap can be lowered, never raised."


class LedgerBusyError(ResourceError):
    """Another process kept the ledger locked for too long."""

    code = "FW-LEDGER-005"
    default_fix = "Stop the other fedward process that uses this state directory, or wait for it."


class LedgerStorageError(ResourceError):
    """The ledger, or its anchor, could not be read or made durable."""

    code = "FW-LEDGER-006"
    default_fix = "Free space, or make the state directory writable for this user, and start again; no step was taken."


class LedgerUseError(ConfigError):
    """The ledger was set up or called with values that cannot be recorded."""

    code = "FW-LEDGER-007"
    default_fix = "Correct the named setting of the site's ledger, or the plan, and start again."


class NamespaceFileError(ConfigError):
    """The key file of the patient-id namespace is missing, readable by others, or not 32 bytes."""

    code = "FW-LEDGER-008"
    default_fix = "Make it once with `head -c 32 /dev/urandom > FILE; chmod 600 FILE`, and keep a copy."


class LedgerMissingError(ConfigError):
    """There is no ledger in the state directory."""

    code = "FW-LEDGER-009"
    default_fix = "Give the state directory of the site, or the folder that `fedward simulate --state` used."
