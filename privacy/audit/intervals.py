"""Exact intervals for a rate, from the number of times something happened."""

from __future__ import annotations

from scipy.stats import beta


def clopper_pearson(events: int, trials: int, *, confidence: float) -> tuple[float, float]:
    """The interval of Clopper and Pearson 1934: it covers the true rate with at least this probability.

    Each side errs with probability at most ``(1 - confidence) / 2``.

    Args:
        events: how often it happened, 0 to ``trials``.
        trials: independent trials; with none the interval is [0, 1].
        confidence: in (0, 1).

    Raises:
        ValueError: the counts or the confidence contradict themselves.
    """
    if not 0 <= events <= trials or not 0 < confidence < 1:
        raise ValueError("an interval needs 0 <= events <= trials and a confidence between 0 and 1")
    side = (1 - confidence) / 2
    low = 0.0 if events == 0 else float(beta.ppf(side, events, trials - events + 1))
    high = 1.0 if events == trials else float(beta.ppf(1 - side, events + 1, trials - events))
    return low, high
