"""Hashes over what the parties have seen together: heads, survivors with their sum, and the chain of results."""

from __future__ import annotations

from collections.abc import Mapping

from fedward.messages import decode, encode
from fedward.privacy.secagg.kdf import secagg_hash


def head_list(ctx: bytes, heads: Mapping[str, bytes]) -> bytes:
    """The sealed heads of U1 as a list of (name, hash): short enough to show beside one of them."""
    return encode([[name, secagg_hash("head", ctx, heads[name])] for name in sorted(heads)])


def head_list_hash(ctx: bytes, listed: bytes) -> bytes:
    """Hash of a list of heads, which every hospital signs with its upload and with its shares."""
    return secagg_hash("heads", ctx, listed)


def lists_head(ctx: bytes, listed: bytes, site: str, sealed: bytes) -> bool:
    """Says whether a list of heads names ``sealed`` as the head of ``site``; raises MalformedMessageError."""
    entries = decode(listed)
    return isinstance(entries, list) and [site, secagg_hash("head", ctx, sealed)] in entries


def heads_hash(ctx: bytes, heads: Mapping[str, bytes]) -> bytes:
    """Hash of the sealed heads of U1, by name."""
    return head_list_hash(ctx, head_list(ctx, heads))


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
