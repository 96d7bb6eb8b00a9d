"""Statistics of privacy audits: what observed guesses say about the epsilon or mu that was promised.

An audit gives *lower* bounds: a bound above the certificate shows a broken mechanism, a bound below it shows only
that this attack found nothing. Start with ``tradeoff.py`` (one mechanism, many runs) or ``canaries.py`` (one run, many
canaries). Numbers in, numbers out: no torch, no model and no patient data; the engine is driven by
``fedward.privacy.dpsgd.audit`` and whole runs by ``fedward.simulations.audit``.
"""

from fedward.privacy.audit.canaries import CanaryBound, canary_bound
from fedward.privacy.audit.intervals import clopper_pearson
from fedward.privacy.audit.membership import LowRate, Roc, offline_lira, roc
from fedward.privacy.audit.repetition import Repetition, repetition
from fedward.privacy.audit.tradeoff import Errors, Threshold, choose_threshold, mu_lower_bound

__all__ = [
    "CanaryBound",
    "Errors",
    "LowRate",
    "Repetition",
    "Roc",
    "Threshold",
    "canary_bound",
    "choose_threshold",
    "clopper_pearson",
    "mu_lower_bound",
    "offline_lira",
    "repetition",
    "roc",
]
