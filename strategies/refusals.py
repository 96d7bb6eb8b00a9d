"""Published methods that cannot run on encrypted sums: why, and which strategy comes nearest.

Each of them reads the update of a single hospital at the server. Secure aggregation never shows one, and sending the
same thing as a dense sum, where that is possible at all, costs many times the traffic of the factors.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedward.errors import ConfigError


@dataclass(frozen=True)
class Refusal:
    """Why a method is refused, as the end of a sentence, and the strategy to use instead."""

    name: str
    reason: str
    instead: str


REFUSALS: dict[str, Refusal] = {
    refusal.name: refusal
    for refusal in (
        Refusal("flora", "it stacks each hospital's own factors (arXiv 2409.05976)", "fedask"),
        Refusal("flexlora", "it multiplies each hospital's factors before it adds them (arXiv 2402.11505)", "fedask"),
        Refusal("fedex-lora", "its residual is the mean of each hospital's product B A (arXiv 2410.09432)", "fedsvd"),
        Refusal("lora-fair", "it fits B to the mean of each hospital's product B A (arXiv 2411.14961)", "ffa"),
        Refusal("flora-na", "it fits its factors to each hospital's own product B A", "fedsvd"),
        Refusal("florist", "it decomposes the stacked factors of single hospitals", "fedask"),
        Refusal("fedpower", "its power iteration reads the product B A of single hospitals", "fedask"),
        Refusal("krum", "it compares the deltas of hospitals pair by pair", "group-median"),
        Refusal("multi-krum", "it compares the deltas of hospitals pair by pair", "group-median"),
        Refusal("bulyan", "it selects among the deltas of single hospitals", "group-median"),
        Refusal("median", "it sorts the deltas of single hospitals", "group-median"),
        Refusal("trimmed-mean", "it sorts the deltas of single hospitals", "group-median"),
        Refusal("geometric-median", "it weighs each hospital's delta by its distance from the others", "group-median"),
        Refusal("foolsgold", "it compares the deltas of hospitals pair by pair", "group-median"),
        Refusal("fltrust", "it weighs each hospital's delta by its angle to a trusted one", "group-median"),
        Refusal("clustering", "it groups hospitals by their own deltas", "fedsa"),
    )
}

_ALSO_CALLED = {
    "flex-lora": "flexlora",
    "fedex": "fedex-lora",
    "lorafair": "lora-fair",
    "florana": "flora-na",
    "fedmedian": "median",
    "coordinate-wise-median": "median",
    "coordinate-median": "median",
    "multikrum": "multi-krum",
    "fedtrimmedavg": "trimmed-mean",
    "trimmed": "trimmed-mean",
    "clustered": "clustering",
    "ifca": "clustering",
}


def refuse_individual(name: str) -> None:
    """Refuses a method that needs individual updates, however it is spelt.

    Raises:
        ConfigError: FW-STRATEGY-002, ``name`` is one; the fix names the nearest strategy that works on sums.
    """
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    refusal = REFUSALS.get(_ALSO_CALLED.get(plain, plain))
    if refusal is not None:
        raise ConfigError(
            f"The strategy {refusal.name!r} needs individual updates, which encrypted sums hide: {refusal.reason}.",
            code="FW-STRATEGY-002",
            fix=f"Use {refusal.instead!r} instead.",
        )
