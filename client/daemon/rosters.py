"""The roster in force at this site: approved by this hospital, and published by the coordinator it has joined."""

from __future__ import annotations

from fedward.client.daemon.folders import SiteFolders
from fedward.client.daemon.keys import pinned_coordinator
from fedward.client.daemon.policy import check_cohort
from fedward.client.daemon.settings import ClientConfig
from fedward.errors import AuthenticationError, PolicyError
from fedward.keyfiles import read_limited, replace_private
from fedward.privacy.secagg.identity import Identity
from fedward.privacy.secagg.roster import VerifiedRoster, require_own_approval

MAX_ROSTER_BYTES = 256 * 1024


class NoRosterError(PolicyError):
    """This site has approved no roster yet."""

    code = "FW-POLICY-310"
    default_fix = "Compare fingerprints with `fedward roster show`, then run `fedward roster approve`."


class OtherCoordinatorError(AuthenticationError):
    """The approved roster names another coordinator than the one this site has joined."""

    code = "FW-AUTH-305"


def put_in_force(signed: bytes, config: ClientConfig) -> None:
    """Stores a roster that this site has approved; raises like :func:`approved_roster`."""
    folders = SiteFolders(config.folder)
    _check(signed, folders, config, folders.identity(config.site.name))
    replace_private(folders.roster, signed)


def approved_roster(folders: SiteFolders, config: ClientConfig, identity: Identity) -> tuple[bytes, VerifiedRoster]:
    """The roster in force, as bytes and checked.

    Raises:
        NoRosterError, OtherCoordinatorError, SmallCohortError: see the classes.
        RefusalError: it is not approved here, or a signature does not verify.
    """
    if not folders.roster.exists():
        raise NoRosterError("This site has approved no roster.")
    signed = read_limited(folders.roster, MAX_ROSTER_BYTES)
    return signed, _check(signed, folders, config, identity)


def _check(signed: bytes, folders: SiteFolders, config: ClientConfig, identity: Identity) -> VerifiedRoster:
    verified = require_own_approval(signed, identity)
    if verified.roster.coordinator != pinned_coordinator(folders).coordinator:
        raise OtherCoordinatorError("The roster names another coordinator than the pinned one.")
    check_cohort(verified.roster.policy.min_cohort, config.policy)
    return verified
