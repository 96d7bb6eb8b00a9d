"""A signed plan in the words of a data protection officer: who, what, which data, what it costs, what leaves."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from fedward.agreements.code import core_hash, reader_hash, short
from fedward.agreements.proposal import VerifiedProposal
from fedward.client.daemon.policy import run_epsilon
from fedward.client.daemon.settings import ClientConfig
from fedward.privacy.events import RELATION
from fedward.privacy.secagg.crypto import fingerprint
from fedward.tasks import task_named
from fedward.units import UNITS

Section = tuple[str, list[tuple[str, str]]]


def describe_plan(
    verified: VerifiedProposal, config: ClientConfig, coordinator: bytes, *, spent: float
) -> list[Section]:
    """Sections of labelled lines.

    Args:
        verified: the plan.
        config: this site's settings; its limits stand beside what is asked.
        coordinator: public key of the coordinator.
        spent: epsilon that this site's ledger has charged so far.
    """
    proposal, plan = verified.proposal, verified.plan
    return [
        (
            "Who asks",
            [
                ("federation", proposal.federation),
                ("run", proposal.run),
                ("valid", f"{_day(proposal.made)} to {_day(proposal.expires)}"),
                ("coordinator", fingerprint(coordinator)),
            ],
        ),
        (
            "What is trained",
            [
                ("purpose", f"a model that estimates {task_named(plan.task).purpose}"),
                ("base model", f"{plan.base_model} (sha256:{plan.base_model_sha256})"),
                (
                    "what is learned",
                    f"{proposal.terms.parameters:,} numbers beside the base model, which stays as it is",
                ),
                ("rounds", f"{plan.training.rounds}, each of {plan.training.local_steps} steps here"),
            ],
        ),
        ("Which data, all of it only on this machine", _data(verified, config)),
        ("What leaves this hospital", _leaving(verified)),
        ("What it costs in privacy", _privacy(verified, config, spent)),
        (
            "Bound to",
            [
                ("plan file", verified.fingerprint),
                *_code(verified, config),
                ("starting adapter", proposal.terms.initial_adapter_hash.hex()),
            ],
        ),
    ]


def _code(verified: VerifiedProposal, config: ClientConfig) -> list[tuple[str, str]]:
    """The three parts of the code, as they are pinned or installed here, and what each covers."""
    terms, plan, tables = verified.proposal.terms, verified.plan, config.tables
    return [
        (
            "core",
            f"{short(core_hash())}, pinned by the roster: protocol, noise, accounting, ledger, the round at this "
            "hospital, de-identification and leakage guard",
        ),
        (
            "plan's code",
            f"{short(terms.code_hash)}, pinned by the plan: the task {plan.task} and its measures, the strategy "
            f"{plan.strategy}, base models of the family {terms.family}",
        ),
        (
            "reader",
            f"{short(reader_hash(tables.format))}, pinned by this hospital's approval: what reads {tables.format} "
            "tables",
        ),
    ]


def _data(verified: VerifiedProposal, config: ClientConfig) -> list[tuple[str, str]]:
    tables, plan = config.tables, verified.plan
    unit, words = UNITS[plan.privacy.unit], f"at most {plan.adapter.max_tokens} word pieces"
    share = round(100 * plan.evaluation_fraction)
    return [
        ("tables", f"{tables.path} ({tables.format}), only read"),
        (unit.plural, f"{100 - share} of 100 train the adapter, {share} of 100 measure it; none does both"),
        (f"fewest {unit.plural}", f"{config.policy.min_units} for training, by this hospital's policy"),
        ("text", f"events of the first day as {words}, without names" if unit.persons else words),
    ]


def _leaving(verified: VerifiedProposal) -> list[tuple[str, str]]:
    plan, parameters = verified.plan, verified.proposal.terms.parameters
    unit = plan.privacy.unit
    size = parameters * plan.secure_sum.delta_ring_bits // 8
    return [
        ("each round", f"one masked vector of about {size:,} bytes, which only the sum over all hospitals can undo"),
        ("with it", "noised counts and losses inside the same vector; keys, hashes and signatures beside it"),
        ("never", f"records, texts, names, numbers of one {unit}, this hospital's own adapter, or error texts"),
        ("result", "the adapter of all hospitals together, which every hospital and the coordinator receive"),
    ]


def _privacy(verified: VerifiedProposal, config: ClientConfig, spent: float) -> list[tuple[str, str]]:
    plan, policy = verified.plan, config.policy
    if not plan.privacy.private:
        return [("epsilon", "NONE: this plan has no differential privacy and is for synthetic data only")]
    whole = run_epsilon(plan, policy.delta)
    noise = {
        "local": "this hospital adds all of the noise itself",
        "secure-grad": "each hospital adds a share; it protects if enough other hospitals add theirs",
    }[plan.privacy.placement]
    return [
        (
            "this run",
            f"epsilon {whole:.3f} at delta {policy.delta:g}; this hospital allows {policy.max_epsilon_per_run:g}",
        ),
        ("so far", f"epsilon {_upwards(spent)} of {policy.max_epsilon_lifetime:g} for the lifetime of the ledger"),
        ("meaning", _meaning(whole, plan.privacy.unit)),
        ("per", f"{plan.privacy.unit}; {RELATION}"),
        ("noise", noise),
    ]


def _upwards(epsilon: float) -> str:
    return f"{math.ceil(epsilon * 1000) / 1000:.3f}" if math.isfinite(epsilon) else "without bound"


def _meaning(epsilon: float, unit: str) -> str:
    times = math.exp(min(epsilon, 700.0))
    return (
        f"whoever sees all results can multiply the odds that one given {unit} took part "
        f"by at most {times:,.1f} (but for a chance of delta)"
    )


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
