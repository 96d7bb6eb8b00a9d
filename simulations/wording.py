"""Wording: how numbers and names read in the report and in the terminal: one place, so that both say the same."""

import math

MISSING = "\N{EN DASH}"


def counted(count: int, noun: str) -> str:
    """``1 round``, ``10 rounds``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def score(value: float | None, digits: int = 3) -> str:
    """As many decimals, or a dash."""
    return MISSING if value is None else f"{value:.{digits}f}"


def interval(value: tuple[float, float] | None, digits: int = 3) -> str:
    """``0.801-0.862`` with an en dash, or nothing."""
    return "" if value is None else f"{value[0]:.{digits}f}\N{EN DASH}{value[1]:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign (a true minus), as many decimals, or a dash."""
    if value is None:
        return MISSING
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def epsilon(value: float | None) -> str:
    """Two decimals *rounded up*: a printed epsilon must never be smaller than the true one."""
    if value is None:
        return "none"
    digits = 2 if value == 0 or value >= 0.1 else 4
    return f"{math.ceil(round(value * 10**digits, 6)) / 10**digits:.{digits}f}"


def everybody(value: float | None, together: float | None) -> str:
    """What stands behind an epsilon that is another one against all others together; nothing where both are equal."""
    if together is None or together == value:
        return ""
    return f" ({epsilon(together)} against all other hospitals and the coordinator together)"


def delta(value: float | None) -> str:
    """``1e-5`` rather than Python's ``1e-05``; 0 without privacy."""
    return "0" if value is None else f"{value:g}".replace("e-0", "e-")


def size(count: float) -> str:
    """Bytes with a decimal prefix: ``17.3 kB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rate(value: float) -> str:
    """A share in percent with two decimals: ``0.42 %``."""
    return f"{100 * value:.2f} %"


def certainty(epsilon_spent: float) -> str:
    """How sure an observer can become that somebody took part, starting from a coin flip.

    Bayes' rule with the likelihood ratio bounded by exp(epsilon), rounded up; delta comes on top.
    """
    share = 1 / (1 + math.exp(-epsilon_spent))
    return "more than 99.9 %" if share > 0.999 else f"at most {math.ceil(share * 1000) / 10:.1f} %"
