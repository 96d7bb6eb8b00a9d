"""Hospitals that vanish: from a random leg of a random round on they answer nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fedward.client.flower import Site
from fedward.errors import ConfigError, NetworkError
from fedward.legs import Reply, Request

LEGS_OF_A_ROUND = ("manifest", "mask", "confirm", "unmask")


class Vanishing:
    """A site that stops answering at ``leg`` of round ``at_round``, for good."""

    def __init__(self, site: Site, at_round: int, leg: str) -> None:
        self.name = site.name
        self.at_round, self.leg = at_round, leg
        self._site, self._round, self._gone = site, 0, False

    def answer(self, request: Request) -> Reply:
        """The site's answer, until it is gone."""
        self._round += request.leg == "manifest"
        if (self._round, request.leg) == (self.at_round, self.leg):
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
        Vanishing(site, chance.randint(1, rounds), chance.choice(LEGS_OF_A_ROUND)) if site.name in chosen else site
        for site in sites
    ]
