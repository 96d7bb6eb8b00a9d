"""What a hidden round is worth with privacy on: `python -m benchmarks.secagg_hidden`.

A coordinator that hides results can have one set of hospitals summed again and again from one adapter, and nothing
else (``privacy/secagg/releases.py``). Every repeat has noise of its own and is charged as a round. The table shows what
it gains, the noise that the mean of k sums keeps, and what the ledger counts for it, under the default plan.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass

from fedward.client.models.registry import resolve
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import load_scenario
from fedward.privacy.accounting import epsilon_curve
from fedward.run import Schedule


@dataclass(frozen=True)
class Repeats:
    """One set of hospitals, summed ``times`` times on one adapter."""

    times: int
    epsilon: float  # of a training unit, as the ledger counts these rounds
    noise: float  # standard deviation of the mean of the sums, over that of one

    @property
    def row(self) -> str:
        """One line of the table."""
        return f"| {self.times} | {self.epsilon:.2f} | {self.noise:.2f} |"


def measure(schedule: Schedule) -> list[Repeats]:
    """Repeats of the first sum by 1, 2, 4, ... and as often as the plan has training rounds; then it has ended."""
    events = [schedule.training_events(number) for number in schedule.openings[:-1]]
    curve = epsilon_curve(events, schedule.plan.privacy.delta)
    times = sorted({2**i for i in range(len(events).bit_length()) if 2**i <= len(events)} | {len(events)})
    return [Repeats(k, curve[k - 1], 1 / math.sqrt(k)) for k in times]


def main(arguments: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.secagg_hidden", description=__doc__)
    parser.add_argument("--scenario", default="default", help="scenario whose plan is priced")
    scenario = load_scenario(parser.parse_args(arguments).scenario)
    plan = make_plan(scenario, resolve(scenario.model))
    print(f"Plan {plan.name!r}: epsilon {plan.privacy.epsilon:g} at delta {plan.privacy.delta:g}.")
    print("| sums over one set of hospitals | epsilon in the ledger | noise of their mean, of one |\n|---|---|---|")
    print("\n".join(one.row for one in measure(Schedule.of(plan))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
