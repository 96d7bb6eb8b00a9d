"""What left a hospital, stage by stage, in words a security officer can compare with a firewall log."""

from __future__ import annotations

from collections.abc import Mapping

from fedward.simulations.result import Egress
from fedward.stages import Stage


def egress(bytes_up: Mapping[Stage, float]) -> tuple[Egress, ...]:
    """Rows of the report's table, in order of the stages.

    Args:
        bytes_up: mean per round and hospital; each stage in it has a row.
    """
    return tuple(
        Egress(message=stage.value, content=stage.content, protection=stage.protection, bytes=bytes_up[stage])
        for stage in Stage
        if stage in bytes_up
    )
