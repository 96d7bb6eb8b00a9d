"""Losses of language models: by record, which hospitals may add up, and by token, which never leave."""

import math

import numpy as np

from fedward.measures.bounded_mean import BoundedMean
from fedward.measures.measure import Floats, Measure, Outcomes


class RecordLoss(BoundedMean):
    """Mean over units of a record's mean loss per token, in nats; what a record adds is cut at ``bound``."""

    name, title, better = "nll", "NLL", "lower"
    about = "mean negative log-likelihood of a token in nats, each record counted once; 0 is perfect"

    def score(self, outcomes: Outcomes) -> Floats:
        """See :meth:`BoundedMean.score`."""
        return outcomes.losses


class CharacterLoss(BoundedMean):
    """Mean over units of a record's loss per character of what was to be written, in nats, cut at ``bound``.

    Unlike losses by token it can be compared between models with different tokenizers.
    """

    name, title, better = "nll_character", "NLL per character", "lower"
    digits = 4
    about = "mean negative log-likelihood of a text in nats per character, each record counted once; 0 is perfect"

    def score(self, outcomes: Outcomes) -> Floats:
        """See :meth:`BoundedMean.score`; scores are sums of losses, targets numbers of tokens and characters."""
        return np.asarray(outcomes.scores / np.maximum(1, outcomes.targets[:, 1]), np.float64)


class TokenLoss(Measure):
    """Mean loss over all tokens of all records, in nats; long records count more."""

    name, title, better, highest = "token_nll", "NLL by token", "lower", None
    about = "mean negative log-likelihood of a token in nats, each token counted once"

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`; scores are sums of losses, targets numbers of tokens and characters."""
        return float(outcomes.scores.sum() / outcomes.targets[:, 0].sum()) if len(outcomes) else None


class Perplexity(TokenLoss):
    """exp of the mean loss over all tokens: among how many equally likely words a model chooses."""

    name, title = "perplexity", "perplexity"
    lowest = 1.0
    about = "among how many equally likely tokens the model chooses, on average; 1 is perfect"

    def local(self, outcomes: Outcomes) -> float | None:
        """See :meth:`Measure.local`."""
        mean = super().local(outcomes)
        return None if mean is None else math.exp(min(mean, 700.0))
