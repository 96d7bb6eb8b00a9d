"""Hospitals that vanish: from a random stage of a random round on they answer nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fedward.client.flower import Site
from fedward.errors import ConfigError, NetworkError
from fedward.stages import SUM_STAGES, Reply, Request, Stage


class Vanishing:
    """A site that stops answering at ``stage`` of round ``at_round``, for good."""

    def __init__(self, site: Site, at_round: int, stage: Stage) -> None:
        self.name = site.name
        self.at_round, self.stage = at_round, stage
        self._site, self._round, self._gone = site, 0, False

    def answer(self, request: Request) -> Reply:
        """The site's answer, until it is gone."""
        self._round += request.stage is Stage.MANIFEST
        if (self._round, request.stage) == (self.at_round, self.stage):
            self._gone = True
        if self._gone:
            raise NetworkError("This hospital has dropped out.", code="FW-NET-090")
        return self._site.answer(request)


def let_vanish(sites: Sequence[Site], count: int, *, rounds: int, tolerated: int, seed: int) -> list[Site]:
    """Replaces ``count`` random sites by vanishing ones.

    Raises:
        ConfigError: FW-CONFIG-030, the threshold rule would stop the run.
    """
    if count > tolerated:
        raise ConfigError(
            f"{count} dropouts were asked for, but {len(sites)} hospitals tolerate {tolerated}.",
            code="FW-CONFIG-030",
            fix=f"Ask for at most {tolerated}, or use more hospitals.",
        )
    chance = random.Random(seed)
    chosen = set(chance.sample([site.name for site in sites], count))
    return [
        Vanishing(site, chance.randint(1, rounds), chance.choice(SUM_STAGES)) if site.name in chosen else site
        for site in sites
    ]
