"""The measured table of ``docs/``, made from the benchmark's document and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.strategies_noise import DEVIATION, NOISE_RANK, WIDTH
from fedward.simulations import wording
from fedward.strategies.registry import ALIASES, NAMES, base_of, find_strategy
from fedward.strategies.strategy import Declaration

HEADER = """# Strategies, measured

Made by `python -m benchmarks.strategies --markdown docs/strategies-measured.md` (`--only sums`: no scores); generated.
"""


def markdown(document: Mapping[str, Any]) -> str:
    """The page: what every strategy sends and how noise enters it, then scores by scenario and epsilon."""
    parts = [HEADER, "## On encrypted sums", *_sums(document)] if "bytes_up" in document else [HEADER]
    for scenario, rows in document.get("scores", {}).items():
        parts += [f"## {document['headline']['title']}: {scenario}", _scores(rows, document["headline"])]
    if "default_gaps" in document:
        parts += ["## The default at epsilon 8", _gaps(document["default_gaps"])]
    return "\n".join(parts) + "\n"


def _sums(document: Mapping[str, Any]) -> Sequence[str]:
    noise, unit, played = document["noise_ba"], document["noise_ba_unit_rows"], document["equivalence"]
    rows = [
        [
            f"`{name}`",
            _declaration(name).sends,
            str(played[name]["hospitals"]),
            wording.size(document["bytes_up"][name]),
            "yes" if played[name]["same_bits"] else "NO",
            f"{played[name]['worst_gamma']:.2f}",
            "yes" if _declaration(name).exact else "no",
            f"{noise[name]:.2f}" if name in noise else "",
            f"{unit[name]:.2f}" if name in unit else "",
        ]
        for name in sorted(NAMES)
        if name in played
    ]
    about = (
        "Bytes are those of the masked adapter segments of one hospital and training round in the default scenario. "
        "*Same bits*: the strategy on the secure sum and on the plain ring sum. *Error*: of the decoded sum against "
        "float64, in units of n times the grid. *Noise*: norm of the error in BA at equal noise on every entry that "
        f"is sent ({WIDTH} x {WIDTH}, rank {NOISE_RANK}, deviation {DEVIATION}), with A as LoRA starts it and BA of "
        "norm 1, and with rows of A and columns of B of norm 1.\n"
    )
    head = [
        "strategy",
        "sends",
        "hospitals",
        "bytes",
        "same bits",
        "error",
        "BA exact",
        "noise, A of LoRA",
        "noise, unit rows",
    ]
    return [about, _table(head, rows)]


def _declaration(name: str) -> Declaration:
    """What the strategy behind ``name`` declares; an optimizer's step is not the mean, so no product is exact."""
    declared = find_strategy(base_of(name)).declaration
    optimizes = name in ALIASES and ALIASES[name].section == "optimizer"
    return replace(declared, exact=declared.exact and not optimizes)


def _scores(rows: Sequence[Mapping[str, Any]], headline: Mapping[str, Any]) -> str:
    epsilons = list(dict.fromkeys(row["epsilon"] for row in rows))
    found = {(row["strategy"], row["epsilon"]): row for row in rows}
    sign = -1 if headline["better"] == "higher" else 1
    first = {name: found[name, epsilons[0]]["mean"] for name in dict.fromkeys(row["strategy"] for row in rows)}
    names = sorted(first, key=lambda name: (first[name] is None, sign * (first[name] or 0.0), name))
    head = ["strategy", *("no privacy" if epsilon is None else f"epsilon {epsilon:g}" for epsilon in epsilons), "seeds"]
    body = [
        [
            f"`{name}`" + (" (personal)" if _declaration(name).personalises else ""),
            *(_cell(found[name, epsilon]) for epsilon in epsilons),
            str(len(found[name, epsilons[0]]["seeds"])),
        ]
        for name in names
    ]
    return _table(head, body)


def _gaps(gaps: Mapping[str, Mapping[str, Any]]) -> str:
    """Which strategy is best, and whether the default may be called as good; both on the same seeds."""
    rows = [
        [name, f"`{gap['best']}`", f"{-gap['behind']:.3f}", f"{-gap['behind'] - gap['beyond_allowance']:.3f}"]
        for name, gap in gaps.items()
    ]
    return _table(["scenario", "best", "default behind it", "allowed: max(0.005, 2 standard errors)"], rows)


def _cell(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return "failed: " + ", ".join(sorted(set(row["failed"].values())))
    return f"{row['mean']:.3f}" + ("" if row["sd"] is None else f" ({row['sd']:.3f})")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
