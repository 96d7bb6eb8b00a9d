"""History of a federation under faults: what each process noted, and what must hold whatever happened to them.

A process appends one line of JSON per event before anything of it leaves, so that what it did not live to note never
happened for others. Masked vectors and sums are noted as prints, short linear digests modulo the ring: the print of a
sum is the sum of the prints. :func:`violations` knows nothing of processes, files or faults.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedward.privacy.secagg.encoding import RingVector

Event = Mapping[str, Any]
Print = dict[str, list[int]]
"""By segment its ring's bits, and then a few linear digests modulo 2 to that power."""

DIGESTS = 4


class Chronicle:
    """The events of one party, in a file that outlives its processes."""

    def __init__(self, path: Path, who: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._who = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), who

    def note(self, kind: str, **facts: Any) -> None:
        """Adds one event; it is there once the call has returned, also if the process dies then."""
        line = json.dumps({"who": self._who, "kind": kind, "pid": os.getpid(), **facts}, sort_keys=True)
        os.write(self._file, line.encode() + b"\n")


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events of every party, in the order in which each of them noted its own."""
    lines = (line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines())
    return [json.loads(line) for line in lines]


def print_of(vector: RingVector) -> Print:
    """A print of a ring vector: equal sums have equal prints, and others have with a chance of 2^-16 at most."""
    found: Print = {}
    for segment in vector.layout.segments:
        words = vector.segment(segment.name).astype(np.uint64)
        weights = np.random.default_rng(segment.size).integers(0, 2**32, (DIGESTS, words.size), dtype=np.uint64)
        modulus = 2**segment.ring_bits
        digests = ((weights % modulus) * words).sum(axis=1, dtype=np.uint64)  # modulo 2^64, of which 2^bits is a part
        found[segment.name] = [segment.ring_bits, *(int(digest) % modulus for digest in digests)]
    return found


def sum_of(prints: Sequence[Print]) -> Print:
    """The print of the sum of vectors with these prints; empty where they are of different layouts."""
    if not prints or any(one.keys() != prints[0].keys() for one in prints):
        return {}
    total: Print = {}
    for name, (bits, *_) in prints[0].items():
        columns = zip(*(one[name][1:] for one in prints), strict=True)
        total[name] = [bits, *(sum(column) % 2**bits for column in columns)]
    return total


# --- what must hold -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Violation:
    """One thing that must never happen and did: which rule, and where."""

    rule: str
    words: str


RULES = {
    "counted-once": "every sum is that of the vectors of its survivors, each once",
    "one-sum": "no round has two sums or two results",
    "one-mask": "no hospital sends two vectors under one context",
    "one-training": "no hospital trains a round twice with different outcome",
    "ledger-covers": "every round that touched records stands in the hospital's ledger, and the ledger opens",
    "same-adapter": "the final adapter is that of the fault-free run, where the fault allows",
    "all-agree": "hospitals that follow a round hold the coordinator's adapter",
    "ends-or-waits": "every run ends by its plan or by a person, or waits and says for whom",
    "lives": "no process ends, or reports a failure that nobody foresaw, unless it was made to",
}
"""Every rule and what it says; :func:`violations` names no other."""


def violations(events: Sequence[Event], *, expected: str | None = None) -> list[Violation]:
    """What went wrong in one history; ``expected`` is the fault-free final adapter; None where it may be another."""
    return [
        *_sums(events),
        *_single(events, "published", ("round",), "adapter", "one-sum"),
        *_single(events, "masked", ("who", "ctx"), "vector", "one-mask"),
        *_single(events, "trained", ("who", "round"), "print", "one-training"),
        *_ledgers(events),
        *_adapters(events, expected),
        *_ends(events, whole=expected is not None),
        *_lives(events),
    ]


def _of(events: Iterable[Event], kind: str) -> Iterator[Event]:
    return (event for event in events if event["kind"] == kind)


def _single(events: Sequence[Event], kind: str, keys: tuple[str, ...], value: str, rule: str) -> Iterator[Violation]:
    """Events of one ``kind`` that agree in ``keys`` must agree in ``value``."""
    seen: dict[tuple[Any, ...], Any] = {}
    for event in _of(events, kind):
        key = tuple(event[name] for name in keys)
        if seen.setdefault(key, event[value]) != event[value]:
            yield Violation(rule, f"{kind} differs for {key}")


def _sums(events: Sequence[Event]) -> Iterator[Violation]:
    trained: dict[tuple[str, int], Print] = {}
    for event in _of(events, "trained"):  # a second, other one breaks a rule of its own
        trained.setdefault((event["who"], event["round"]), event["print"])
    results = {event["round"] for event in _of(events, "published")}
    sums: dict[int, list[Event]] = defaultdict(list)
    for event in _of(events, "summed"):
        sums[event["round"]].append(event)
        sites = event["survivors"]
        parts = [trained.get((site, event["round"])) for site in sites]
        if len(set(sites)) != len(sites) or None in parts or sum_of(parts) != event["print"]:  # type: ignore[arg-type]
            yield Violation("counted-once", f"the sum of round {event['round']} is not that of {', '.join(sites)}")
    for number, found in sums.items():
        if any((one["print"], one["survivors"]) != (found[0]["print"], found[0]["survivors"]) for one in found):
            yield Violation("one-sum", f"round {number} has two sums")
    for number in sorted(results - sums.keys()):
        yield Violation("counted-once", f"round {number} was published without a sum")


def _ledgers(events: Sequence[Event]) -> Iterator[Violation]:
    charged = {event["who"]: event for event in _of(events, "ledger")}
    for event in charged.values():
        if event["code"]:
            yield Violation("ledger-covers", f"the ledger of {event['who']} does not open: {event['code']}")
    for event in _of(events, "exposed"):
        ledger = charged.get(event["who"])
        if ledger is not None and event["round"] not in ledger["rounds"]:
            yield Violation("ledger-covers", f"{event['who']} used records in round {event['round']} and owes it")


def _adapters(events: Sequence[Event], expected: str | None) -> Iterator[Violation]:
    held: dict[int, str] = {}
    for event in _of(events, "published"):
        held.setdefault(event["round"], event["adapter"])
    for event in _of(events, "followed"):  # what a coordinator published that did not live to note it is theirs alone
        if held.setdefault(event["round"], event["adapter"]) != event["adapter"]:
            yield Violation("all-agree", f"{event['who']} holds another adapter after round {event['round']}")
    for event in _of(events, "ended"):
        if event["state"] == "completed" and expected is not None and event["adapter"] != expected:
            yield Violation("same-adapter", "the final adapter is not that of the fault-free run")


def _ends(events: Sequence[Event], *, whole: bool) -> Iterator[Violation]:
    """A ``whole`` run lacks nothing any more at its end, so there is nothing to wait for either."""
    ends = list(_of(events, "ended"))
    if not ends:
        yield Violation("ends-or-waits", "the run has neither ended nor been left waiting")
    for event in ends:
        named = event["state"] == "waiting" and event["code"] and event["waits_for"] and not whole
        if not (event["state"] in ("completed", "aborted") or named):
            yield Violation("ends-or-waits", f"the run is {event['state']} with {event['code'] or 'no code'}")


def _lives(events: Sequence[Event]) -> Iterator[Violation]:
    for event in _of(events, "died"):
        yield Violation("lives", f"{event['of']} ended by itself")
    for event in _of(events, "failed"):
        yield Violation("lives", f"{event['who']} met {event['error']} in {event['at']}")
