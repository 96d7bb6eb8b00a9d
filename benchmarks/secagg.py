"""Secure aggregation against Flower's SecAgg+ and, where TenSEAL is installed, CKKS.

    python -m benchmarks.secagg --json secagg.json

Every ratio is other over fedward: larger is better for us. CPU seconds, medians, sides interleaved in
one process; the JSON holds both configurations and the raw medians.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import secagg_memory, secagg_primitives, secagg_rounds
from benchmarks.timing import machine

MILLION = 1_000_000


@dataclass(frozen=True)
class Target:
    """A figure to reach: at least (or at most) a limit; no limit means it is only reported."""

    key: str
    text: str
    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, value: float | None) -> str:
        """Returns one word for the table."""
        if value is None:
            return "not measured"
        if self.at_least is not None:
            return "reached" if value >= self.at_least else "missed"
        if self.at_most is not None:
            return "reached" if value <= self.at_most else "missed"
        return "reported"

    @property
    def limit(self) -> str:
        """Returns the limit as text."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""


TARGETS = (
    Target("mask_1m_k7_vs_flower", "client mask, 1M, 7 neighbours + self: times Flower", at_least=6),
    Target("mask_16m_k7_vs_flower", "client mask, 16M, 7 neighbours + self: times Flower", at_least=9),
    Target("encode_1m_vs_flower", "encode 1M: times Flower", at_least=4),
    Target("mask_fraction_of_keystream", "masking rate over bare AES-256-CTR rate", at_least=0.7),
    Target("unmask_1m_n8_vs_flower", "server unmask, 8 clients, 1M: times Flower", at_least=15),
    Target("bytes_per_param_w32", "upload, bytes per parameter, 32-bit ring", at_most=4.01),
    Target("bytes_per_param_w16", "upload, bytes per parameter, 16-bit ring", at_most=2.01),
    Target("round_8x1m_vs_ckks", "round, 8 clients x 1M, all parties: times CKKS", at_least=50),
    Target("round_50x1m_cpu_s", "round, 50 clients x 1M, 5 dropouts, all parties: CPU seconds"),
    Target("check_sum_8x1m_per_hospital_cpu_s", "one hospital's check of the sum, 8 x 1M: CPU seconds"),
    Target("check_sum_8x1m_cpu_s", "the same, all 8 hospitals: CPU seconds"),
    Target("round_8x1m_checked_cpu_s", "round of 8 x 1M with every hospital's check: CPU seconds"),
    Target("check_sum_50x1m_per_hospital_cpu_s", "one hospital's check of a sampled sum, 50 x 1M: CPU seconds"),
    Target("check_sum_50x1m_per_hospital_whole_cpu_s", "the same, were it recomputed whole: CPU seconds"),
    Target("check_sum_50x1m_cpu_s", "all 50 hospitals' sampled checks, coordinator's part too: CPU seconds"),
    Target("round_50x1m_checked_cpu_s", "round of 50 x 1M with every hospital's check: CPU seconds"),
    Target("client_peak_over_vector", "client's extra peak memory, 16M, times the fp32 vector", at_most=2.5),
)


def measure(quick: bool) -> dict[str, Any]:
    """Runs everything; returns the JSON document."""
    many, few, fewest = (3, 1, 1) if quick else (15, 7, 3)
    raw = {
        "mask_1m_k7": secagg_primitives.measure_mask(MILLION, 7, many),
        "mask_16m_k7": secagg_primitives.measure_mask(16 * MILLION, 7, many),
        "encode_1m": secagg_primitives.measure_encode(MILLION, many),
        "encode_16m": secagg_primitives.measure_encode(16 * MILLION, few),
        "unmask_1m_n8": secagg_primitives.measure_unmask(MILLION, many),
        "round_8x1m": secagg_rounds.measure_round_8x1m(MILLION, fewest),
        "round_50x1m": secagg_rounds.measure_round_50x1m(MILLION, 1),
        "check_sum_8x1m": secagg_rounds.measure_check_sum(8, MILLION, few),
        "check_sum_50x1m": secagg_rounds.measure_check_sum(50, MILLION, fewest, dropouts=5),
    }
    figures: dict[str, float | None] = {
        f"{case}_vs_flower": seconds["flower"] / seconds["fedward"]
        for case, seconds in raw.items()
        if "flower" in seconds
    }
    eight = raw["round_8x1m"]
    figures["round_8x1m_vs_ckks"] = eight["ckks"] / eight["fedward"] if "ckks" in eight else None
    figures["round_50x1m_cpu_s"] = raw["round_50x1m"]["fedward"]
    for n in (8, 50):
        figures |= _checking(n, raw[f"check_sum_{n}x1m"], raw[f"round_{n}x1m"]["fedward"])
    figures["mask_fraction_of_keystream"] = raw["mask_16m_k7"]["keystream"] / raw["mask_16m_k7"]["fedward"]
    for bits in (32, 16):
        figures[f"bytes_per_param_w{bits}"] = secagg_rounds.upload_bytes(MILLION, bits) / MILLION
    figures["client_peak_over_vector"] = secagg_memory.peak_over_vector(16 * MILLION)
    return {
        **figures,
        "cpu_seconds": raw,
        "configuration": {**secagg_primitives.CONFIGURATION, **secagg_rounds.CONFIGURATION, "quick": quick},
        "versions": {name: _version(name) for name in ("fedward", "flwr", "cryptography", "numpy", "tenseal")},
        "machine": machine(),
    }


def _checking(n: int, check: dict[str, float], played: float) -> dict[str, float]:
    """What it costs that every hospital checks the sum, alone and with the round it belongs to."""
    together = n * (check["hospital"] + check["coordinator"])
    return {
        f"check_sum_{n}x1m_per_hospital_cpu_s": check["hospital"],
        f"check_sum_{n}x1m_per_hospital_whole_cpu_s": check["whole"],
        f"check_sum_{n}x1m_cpu_s": together,
        f"round_{n}x1m_checked_cpu_s": played + together,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _show(document: dict[str, Any]) -> None:
    table = Table(title="Secure aggregation, CPU time, medians")
    for heading in ("figure", "value", "target", ""):
        table.add_column(heading)
    for target in TARGETS:
        value = document[target.key]
        table.add_row(target.text, "-" if value is None else f"{value:.3g}", target.limit, target.verdict(value))
    raw = Table(title="CPU milliseconds")
    for heading in ("case", "side", "ms"):
        raw.add_column(heading)
    for case, sides in document["cpu_seconds"].items():
        for side, seconds in sides.items():
            raw.add_row(case, side, f"{1000 * seconds:.1f}")
    console = Console()
    console.print(table)
    console.print(raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures and configurations to FILE")
    parser.add_argument("--quick", action="store_true", help="few repeats: a check that it runs, not a measurement")
    arguments = parser.parse_args()
    document = measure(arguments.quick)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    _show(document)


if __name__ == "__main__":
    main()
