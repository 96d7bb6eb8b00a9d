"""What a person at the hospital has decided about plans; the daemon serves what was accepted and nothing else.

A decision is signed by the site's own key. It names the hash of the signed plan, which covers the plan, its base model,
code and privacy settings, run and expiry, and the hash of the code that reads this site's tables. It is checked again
at every leg, so that a withdrawn approval ends a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from fedward.agreements.code import reader_hash
from fedward.agreements.proposal import MAX_PROPOSAL_BYTES, RUN_NAME, VerifiedProposal, open_proposal
from fedward.client.daemon.folders import SiteFolders
from fedward.client.daemon.keys import pinned_coordinator
from fedward.client.daemon.policy import OtherCodeError, check_dates, check_proposal
from fedward.client.daemon.settings import ClientConfig
from fedward.errors import ConfigError, FedwardError, IntegrityError, PolicyError, VersionError
from fedward.messages import MalformedMessageError
from fedward.privacy.secagg.crypto import Identity, RefusalError, open_sealed
from fedward.privacy.secagg.messages import Digest, Flag, Message, Site, Text, Uint
from fedward.storage import read_limited, replace_private


class Decision(Message):
    """What was decided about one plan.

    Attributes:
        site: the hospital.
        run: the run.
        plan: hash of the signed plan.
        reader: hash of the code that reads this site's tables.
        accepted: yes or no.
        by: who decided, as this person wishes to be named in this hospital's records.
        at: seconds since 1970.
    """

    site: Site
    run: Annotated[str, Text(63)]
    plan: Digest
    reader: Digest
    accepted: Annotated[bool, Flag()]
    by: Annotated[str, Text(200)]
    at: Annotated[int, Uint()]


@dataclass(frozen=True)
class Approval:
    """A plan this site knows, with the decision about it, if there is one."""

    verified: VerifiedProposal
    decision: Decision | None

    @property
    def accepted(self) -> bool:
        """Whether a person said yes."""
        return self.decision is not None and self.decision.accepted


class Approvals:
    """The plans and decisions in a site's state folder.

    Args:
        config: of the site.
        folders: of the site.
        identity: signs decisions.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        config: ClientConfig,
        folders: SiteFolders,
        identity: Identity,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._folders, self._identity, self._clock = config, folders, identity, clock
        pinned = pinned_coordinator(folders)
        self._coordinator, self._federation = pinned.coordinator, pinned.federation

    def open(self, plan: Path) -> VerifiedProposal:
        """Reads a plan file that was sent here.

        Raises:
            AuthenticationError: FW-AUTH-304, not signed by the pinned coordinator.
            ConfigError (FW-CONFIG-302), VersionError (FW-VERSION-301): see the table.
        """
        verified = open_proposal(read_limited(plan, MAX_PROPOSAL_BYTES), self._coordinator)
        if verified.proposal.federation != self._federation:
            raise ConfigError("The plan belongs to another federation.", code="FW-CONFIG-302")
        return verified

    def check(self, verified: VerifiedProposal) -> None:
        """Refuses a plan beyond this site's limits; raises like :func:`.policy.check_proposal`."""
        check_proposal(verified, self._config, now=self._clock())

    def decide(self, plan: Path, *, accept: bool, by: str) -> Approval:
        """Records a decision about the plan file; an earlier one about the same plan is replaced.

        Raises:
            PolicyError, VersionError, DataError: an accepted plan must be within the site's policy; see
                ``policy.check_proposal``.
            IntegrityError: FW-INTEGRITY-301, this run was decided about with another plan.
            AuthenticationError (FW-AUTH-304), ConfigError (FW-CONFIG-302): see :meth:`open`.
        """
        verified = self.open(plan)
        run = verified.proposal.run
        if accept:
            self.check(verified)
        if self._plan_file(run).exists() and self._plan(run).hash != verified.hash:
            raise IntegrityError("This run was decided about with another plan.", code="FW-INTEGRITY-301")
        decision = Decision(self._identity.name, run, verified.hash, self._reader, accept, by, int(self._clock()))
        replace_private(self._plan_file(run), read_limited(plan, MAX_PROPOSAL_BYTES))
        replace_private(self._decision_file(run), self._identity.seal("decision", decision))
        return Approval(verified, decision)

    def get(self, run: str) -> Approval:
        """What is known of a run.

        Raises:
            PolicyError: FW-POLICY-308, nothing.
            IntegrityError (FW-INTEGRITY-302), AuthenticationError (FW-AUTH-304), VersionError (FW-VERSION-301,
                FW-VERSION-306): see the table.
        """
        verified = self._plan(run)
        return Approval(verified, self._decision(verified))

    def _plan(self, run: str) -> VerifiedProposal:
        # A run's name may come from outside; one that is no name never becomes part of a path.
        if RUN_NAME.fullmatch(run) is None or not self._plan_file(run).exists():
            raise PolicyError("Nobody at this hospital has accepted a plan of this run.", code="FW-POLICY-308")
        verified = self.open(self._plan_file(run))
        if verified.proposal.run != run:
            raise IntegrityError("A stored plan is of another run than its name says.", code="FW-INTEGRITY-302")
        return verified

    def require(self, run: str) -> VerifiedProposal:
        """The plan of a run that may be served now.

        Raises:
            PolicyError: FW-POLICY-308, not accepted, denied or withdrawn.
            ExpiredPlanError: its time is over.
            OtherCodeError: FW-VERSION-305, another reader of this site's tables was installed since.
            IntegrityError (FW-INTEGRITY-302), AuthenticationError (FW-AUTH-304), VersionError (FW-VERSION-301,
                FW-VERSION-306): see the table.
        """
        found = self.get(run)
        if not found.accepted:
            raise PolicyError(
                "Nobody at this hospital has accepted the plan of this run, or it was withdrawn.", code="FW-POLICY-308"
            )
        check_dates(found.verified, self._config.policy, now=self._clock())
        self.check_reader(found)
        return found.verified

    def check_reader(self, approval: Approval) -> None:
        """Refuses an approval that was given with another reader installed than now; raises FW-VERSION-305."""
        if approval.decision is not None and approval.decision.reader != self._reader:
            raise OtherCodeError(
                f"The code that reads {self._config.tables.format} tables is not that of when the plan was accepted.",
                code="FW-VERSION-305",
            )

    def all(self) -> list[Approval | FedwardError]:
        """Every plan this site has decided about, by run; the error where one cannot be read."""
        found: list[Approval | FedwardError] = []
        for path in sorted(self._folders.approvals.glob("*.plan")):
            try:
                found.append(self.get(path.stem))
            except FedwardError as error:
                found.append(error)
        return found

    def _decision(self, verified: VerifiedProposal) -> Decision | None:
        path = self._decision_file(verified.proposal.run)
        if not path.exists():
            return None
        try:
            body = open_sealed("decision", read_limited(path, MAX_PROPOSAL_BYTES), self._identity.public)
            decision = Decision.from_bytes(body)
        except RefusalError as error:
            raise IntegrityError("A stored decision is not this site's own.", code="FW-INTEGRITY-302") from error
        except MalformedMessageError as error:  # this site has signed it, in the form of another release
            raise VersionError(
                "A stored decision was made with another release of fedward.", code="FW-VERSION-306"
            ) from error
        if (decision.plan, decision.run, decision.site) != (
            verified.hash,
            verified.proposal.run,
            self._identity.name,
        ):
            raise IntegrityError("A stored decision is about another plan.", code="FW-INTEGRITY-302")
        return decision

    @cached_property
    def _reader(self) -> bytes:
        return reader_hash(self._config.tables.format)

    def _plan_file(self, run: str) -> Path:
        return self._folders.approvals / f"{run}.plan"

    def _decision_file(self, run: str) -> Path:
        return self._folders.approvals / f"{run}.decision"
