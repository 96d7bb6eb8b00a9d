"""The roster in force at this site: approved by this hospital, and published by the coordinator it has joined."""

from __future__ import annotations

from fedward.client.daemon.folders import SiteFolders
from fedward.client.daemon.keys import pinned_coordinator
from fedward.client.daemon.policy import check_cohort
from fedward.client.daemon.settings import ClientConfig
from fedward.errors import AuthenticationError, PolicyError
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.roster import VerifiedRoster, require_own_approval
from fedward.storage import read_limited, replace_private

MAX_ROSTER_BYTES = 256 * 1024


def put_in_force(signed: bytes, config: ClientConfig) -> None:
    """Stores a roster that this site has approved; raises like :func:`approved_roster`."""
    folders = SiteFolders(config.folder)
    _check(signed, folders, config, folders.identity(config.site.name))
    replace_private(folders.roster, signed)


def approved_roster(folders: SiteFolders, config: ClientConfig, identity: Identity) -> tuple[bytes, VerifiedRoster]:
    """The roster in force, as bytes and checked.

    Raises:
        PolicyError (FW-POLICY-310, FW-POLICY-307), AuthenticationError (FW-AUTH-305): see the table.
        RefusalError: it is not approved here, or a signature does not verify.
    """
    if not folders.roster.exists():
        raise PolicyError("This site has approved no roster.", code="FW-POLICY-310")
    signed = read_limited(folders.roster, MAX_ROSTER_BYTES)
    return signed, _check(signed, folders, config, identity)


def _check(signed: bytes, folders: SiteFolders, config: ClientConfig, identity: Identity) -> VerifiedRoster:
    verified = require_own_approval(signed, identity)
    if verified.roster.coordinator != pinned_coordinator(folders).coordinator:
        raise AuthenticationError("The roster names another coordinator than the pinned one.", code="FW-AUTH-305")
    check_cohort(verified.roster.policy.min_cohort, config.policy)
    return verified
