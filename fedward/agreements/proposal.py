"""A signed plan: everything a hospital is asked to agree to for one run, and nothing that it cannot check.

The coordinator signs it; each hospital approves it by the hash of its bytes. What is pinned here is
pinned again by the roster and by every manifest of the run.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ValidationError

from fedward.errors import AuthenticationError, PolicyError, VersionError
from fedward.messages import MalformedMessageError
from fedward.plan import Plan
from fedward.privacy.secagg.crypto import Identity, RefusalError, fingerprint, open_sealed, secagg_hash
from fedward.privacy.secagg.messages import Bytes, Digest, Message, Nested, Text, Uint
from fedward.storage import PUBLIC, read_limited, replace_file

RUN_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
FAMILY_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
MAX_PROPOSAL_BYTES = 128 * 1024
LAST_MOMENT = 253_402_300_799
"""Of the calendar's year 9999, in seconds since 1970."""

TERMS_FILE = "terms.cbor"
"""The unsigned terms in a plan folder: what `fedward plan new` computes and `fedward plan sign` signs."""


_OUT_OF_RANGE = frozenset(
    {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number", "too_long", "too_short"}
    | {"string_pattern_mismatch", "string_too_long", "string_too_short", "value_error"}
)
"""Kinds of pydantic's errors about a value whose key and type this version knows."""


def impossible_value(what: str) -> PolicyError:
    """FW-POLICY-320: a plan names a value that none can have."""
    return PolicyError(f"The plan asks for something that cannot be ({what}).", code="FW-POLICY-320")


class PlanTerms(Message):
    """A plan and the hashes of what it runs on."""

    plan: Annotated[bytes, Bytes(2, 64 * 1024)]  # the plan as JSON
    plan_hash: Digest  # :meth:`Plan.hash` of it
    base_model_hash: Digest  # of the base model's files
    adapter_layout_hash: Digest  # of the trained tensors
    initial_adapter_hash: Digest  # of the adapter it starts from
    family: Annotated[str, Text(64, FAMILY_NAME)]  # architecture of the base model, or "none"
    code_hash: Digest  # of the plan's code: its task, strategy, measures and model family
    parameters: Annotated[int, Uint(2**40)]  # number of trained parameters

    def read(self) -> Plan:
        """The plan.

        Raises FW-VERSION-301 (it has keys unknown to this version, or another hash than it names), FW-POLICY-320 (a
        value in it is none that a plan can have).
        """
        try:
            plan = Plan.model_validate_json(self.plan)
        except ValidationError as error:
            if impossible := next((one for one in error.errors() if one["type"] in _OUT_OF_RANGE), None):
                # Keys of a table are the author's words, and could write on a terminal.
                where = ".".join(str(part) for part in impossible["loc"] if str(part).isidentifier()) or "the plan"
                raise impossible_value(f"{where}: {impossible['msg']}") from error
            raise VersionError("The plan cannot be read by this version of fedward.", code="FW-VERSION-301") from error
        if (plan.hash(), bytes.fromhex(plan.base_model_sha256)) != (self.plan_hash, self.base_model_hash):
            raise VersionError("The plan means something else to this version of fedward.", code="FW-VERSION-301")
        return plan


class Proposal(Message):
    """One run that hospitals are asked to approve."""

    LIMIT = MAX_PROPOSAL_BYTES

    federation: Annotated[str, Text(64)]  # whose run it is
    run: Annotated[str, Text(63, RUN_NAME)]  # name of the run, never used twice
    terms: Annotated[PlanTerms, Nested(PlanTerms)]  # the plan
    made: Annotated[int, Uint()]  # when it was signed, seconds since 1970
    expires: Annotated[int, Uint()]  # after this moment no hospital answers for it


@dataclass(frozen=True)
class VerifiedProposal:
    """A proposal whose signature has been checked, with the plan in it and the hash that approvals name."""

    proposal: Proposal
    plan: Plan
    hash: bytes
    sealed: bytes  # the plan file, byte for byte: what was shown is what is accepted and stored

    @property
    def fingerprint(self) -> str:
        """The hash, for people."""
        return fingerprint(self.hash)


def sign_proposal(proposal: Proposal, coordinator: Identity) -> bytes:
    """The plan file."""
    return coordinator.seal("plan", proposal)


def open_proposal(sealed: bytes, coordinator: bytes) -> VerifiedProposal:
    """Checks a plan file against the coordinator's key.

    Raises FW-AUTH-304 (not signed by it), and like :meth:`PlanTerms.read`.
    """
    if len(sealed) > MAX_PROPOSAL_BYTES:
        raise AuthenticationError("The plan file is too large.", code="FW-AUTH-304")
    try:
        body = open_sealed("plan", sealed, coordinator)
        proposal = Proposal.from_bytes(body)
    except MalformedMessageError as error:  # the coordinator has signed it, in the form of another release
        raise VersionError("The plan cannot be read by this version of fedward.", code="FW-VERSION-301") from error
    except RefusalError as error:
        raise AuthenticationError(
            "The plan is not signed by the coordinator of this site.", code="FW-AUTH-304"
        ) from error
    if max(proposal.made, proposal.expires) > LAST_MOMENT:
        raise impossible_value("a date beyond the calendar")
    return VerifiedProposal(proposal, proposal.terms.read(), secagg_hash("plan-file", body), sealed)


def write_terms(terms: PlanTerms, folder: Path) -> None:
    """Writes the terms into ``folder``."""
    replace_file(folder / TERMS_FILE, terms.to_bytes(), mode=PUBLIC)


def read_terms(folder: Path) -> PlanTerms:
    """Reads them again and checks the plan. Raises FW-AUTH-304 (malformed), FW-VERSION-301 (of another version)."""
    try:
        terms = PlanTerms.from_bytes(read_limited(folder / TERMS_FILE, MAX_PROPOSAL_BYTES))
    except MalformedMessageError as error:
        raise AuthenticationError("The terms of the plan folder cannot be read.", code="FW-AUTH-304") from error
    terms.read()
    return terms
