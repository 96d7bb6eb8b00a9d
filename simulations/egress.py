"""What left a hospital, leg by leg, in words a security officer can compare with a firewall log."""

from __future__ import annotations

from collections.abc import Mapping

from fedward.simulations.result import Egress

_LEGS = {
    "join": ("public keys", "signed; once per run"),
    "bundles": ("key encapsulations for the other hospitals", "signed; once per run"),
    "seal": ("acknowledgement of keys", "signed; once per run"),
    "manifest": ("secret shares and commitments", "encrypted for one hospital each; signed"),
    "mask": (
        "adapter delta or gradient sum, with statistics, as one vector",
        "masked with one-time keys; noised in private runs; signed",
    ),
    "confirm": ("confirmation of the survivor set", "signed"),
    "unmask": ("shares of one-time mask seeds", "signed; only after a quorum confirmed one survivor set"),
    "result": ("hash of the final adapter", "public"),
}


def egress(bytes_up: Mapping[str, float]) -> tuple[Egress, ...]:
    """Rows of the report's table; ``bytes_up`` is the mean per round and hospital by leg."""
    return tuple(
        Egress(message=leg, content=content, protection=protection, bytes=bytes_up[leg])
        for leg, (content, protection) in _LEGS.items()
        if leg in bytes_up
    )
