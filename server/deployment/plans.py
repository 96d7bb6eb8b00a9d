"""Plan folders at the coordinator: checked against their adapter, signed, and turned into the roster's pins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fedward.adapter import adapter_hash
from fedward.agreements.code import check_plan_code, core_hash
from fedward.agreements.proposal import (
    RUN_NAME,
    PlanTerms,
    Proposal,
    VerifiedProposal,
    open_proposal,
    read_terms,
    sign_proposal,
)
from fedward.config import load_toml
from fedward.errors import ConfigError, IntegrityError, PolicyError
from fedward.plan import Plan
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.roster import Member, Roster, RunPolicy, publish
from fedward.run import Schedule, roster_rules
from fedward.server.deployment.sites import SiteRecord
from fedward.server.job_files import read_vector
from fedward.storage import PUBLIC, read_limited, replace_file
from fedward.strategies.aliases import in_words
from fedward.strategies.combinations import check_ranks

PLAN_FILE = "plan.toml"
START_FILE = "start.safetensors"
SIGNED_FILE = "plan.fedward"
MAX_FILE_BYTES = 256 * 1024
DAY_SECONDS = 86_400


LEAST_SITES = 3


def sign_folder(
    folder: Path, *, run: str, federation: str, identity: Identity, days: int, now: float | None = None
) -> VerifiedProposal:
    """Signs the plan in ``folder`` for one run and writes ``plan.fedward``, the file hospitals are sent.

    Raises:
        ConfigError: FW-CONFIG-312, no possible name.
        IntegrityError: FW-INTEGRITY-312, the adapter to start from is not that of the plan, or the plan was edited.
        VersionError (FW-VERSION-301), AuthenticationError (FW-AUTH-304): the terms are not readable.
        VersionError: FW-VERSION-304, the plan was made with other code.
    """
    if RUN_NAME.fullmatch(run) is None:
        raise ConfigError(
            "The name of a run is lower-case letters, digits and dashes.",
            code="FW-CONFIG-312",
            fix="Choose another name.",
        )
    terms = _checked(folder)
    made = int(time.time() if now is None else now)
    proposal = Proposal(federation, run, terms, made, made + days * DAY_SECONDS)
    sealed = sign_proposal(proposal, identity)
    replace_file(folder / SIGNED_FILE, sealed, mode=PUBLIC)
    return open_proposal(sealed, identity.public)


def check_folder(folder: Path) -> dict[str, str | int | float]:
    """Facts about a plan folder that holds together; raises like :func:`sign_folder`."""
    terms = _checked(folder)
    plan = terms.read()
    return {
        "name": plan.name,
        "task": plan.task,
        "strategy": in_words(plan),
        "base_model": f"{plan.base_model} (sha256:{plan.base_model_sha256})",
        "rounds": plan.training.rounds,
        "parameters": terms.parameters,
        "privacy": _promise(plan),
        "noise": plan.privacy.placement,
        "core": core_hash().hex(),
        "code": terms.code_hash.hex(),
        "signed": "yes" if (folder / SIGNED_FILE).exists() else "no",
    }


def _promise(plan: Plan) -> str:
    privacy = plan.privacy
    promised = f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} per {privacy.unit}"
    return promised if privacy.private else "NONE"


def _checked(folder: Path) -> PlanTerms:
    terms = read_terms(folder)
    check_plan_code(terms.read(), terms.family, terms.code_hash)
    check_start(folder, terms)
    if load_toml(folder / PLAN_FILE, Plan).hash() != terms.plan_hash:
        raise IntegrityError("plan.toml is not the plan of the terms; it was edited.", code="FW-INTEGRITY-312")
    return terms


def check_start(folder: Path, terms: PlanTerms) -> None:
    """Refuses another adapter to start from than the plan names.

    Raises:
        ConfigError: FW-CONFIG-212, it is no safetensors file.
        IntegrityError: FW-INTEGRITY-312, its tensors are others.
    """
    layout, start = read_vector(folder / START_FILE)
    if (layout.hash(), adapter_hash(start, layout)) != (terms.adapter_layout_hash, terms.initial_adapter_hash):
        raise IntegrityError("The adapter to start from is not the one that the plan names.", code="FW-INTEGRITY-312")


def read_signed(folder: Path, coordinator: bytes) -> VerifiedProposal:
    """The signed plan of ``folder``.

    Raises:
        ConfigError: FW-CONFIG-311, there is none.
        AuthenticationError (FW-AUTH-304), VersionError (FW-VERSION-301): see the table.
    """
    path = folder / SIGNED_FILE
    if not path.exists():
        raise ConfigError("The plan folder holds no signed plan.", code="FW-CONFIG-311")
    return open_proposal(read_limited(path, MAX_FILE_BYTES), coordinator)


def publish_roster(
    sites: Sequence[SiteRecord],
    proposal: VerifiedProposal,
    identity: Identity,
    *,
    min_cohort: int | None = None,
    epoch_days: int = 30,
) -> bytes:
    """The next roster: every admitted site, pinned to a signed plan's model and adapter and to the core here.

    Args:
        sites: hospitals; revoked ones are left out.
        proposal: names what the roster pins.
        identity: the coordinator's key.
        min_cohort: smallest first cohort; the smallest that is safe if absent.
        epoch_days: age at which a key epoch ends.

    Raises:
        PolicyError: FW-POLICY-314, fewer than three hospitals are admitted.
        ConfigError: FW-STRATEGY-013, FW-STRATEGY-019, the plan does not fit them.
        RefusalError: FW-SECAGG-010, a cohort that does not fit them.
    """
    members = [Member(site.name, bytes.fromhex(site.identity)) for site in sites if site.state == "admitted"]
    if len(members) < LEAST_SITES:
        raise PolicyError(
            f"A roster needs {LEAST_SITES} admitted hospitals; there are {len(members)}.", code="FW-POLICY-314"
        )
    check_ranks(proposal.plan, [member.name for member in members])
    colluders, smallest = roster_rules(Schedule.of(proposal.plan), len(members), min_cohort=min_cohort)
    terms = proposal.proposal.terms
    roster = Roster(
        federation=proposal.proposal.federation,
        coordinator=identity.public,
        members=tuple(sorted(members, key=lambda member: member.name)),
        colluders=colluders,
        policy=RunPolicy(
            min_cohort=smallest,
            epoch_days=epoch_days,
            unsafe_two_party=False,
        ),
        base_model_hash=terms.base_model_hash,
        adapter_layout_hash=terms.adapter_layout_hash,
        code_hash=core_hash(),
    )
    return publish(roster, identity)
