"""Hashes over what the parties have seen together: heads, survivors with their sum, and the chain of results."""

from __future__ import annotations

from collections.abc import Mapping

from fedward.messages import encode
from fedward.privacy.secagg.kdf import secagg_hash


def heads_hash(ctx: bytes, heads: Mapping[str, bytes]) -> bytes:
    """Hash of the sealed heads of U1, by name."""
    return secagg_hash("heads", ctx, encode([[name, heads[name]] for name in sorted(heads)]))


def mail_hash(ctx: bytes, sender: str, mail: Mapping[str, bytes]) -> bytes:
    """Hash of all share mail of one hospital, by receiver."""
    return secagg_hash("mail", ctx, sender, encode([[name, mail[name]] for name in sorted(mail)]))


def envelope_hash(ctx: bytes, sender: str, envelope: bytes) -> bytes:
    """Hash of a hospital's envelope."""
    return secagg_hash("envelope", ctx, sender, envelope)


def transcript_hash(statement: bytes, sum_digest: bytes) -> bytes:
    """Hash of a finished round: the confirmed statement (context, heads, survivors, uploads) and the sum."""
    return secagg_hash("transcript", statement, sum_digest)


def genesis(run: str, plan_hash: bytes, adapter_hash: bytes) -> bytes:
    """The result before the first: run, plan and the adapter it starts from."""
    return secagg_hash("genesis", run, plan_hash, adapter_hash)


def result_hash(body: bytes) -> bytes:
    """Hash of a result's bytes, which the next manifest and the next result name."""
    return secagg_hash("result", body)
