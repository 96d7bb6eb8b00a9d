"""A measure: the share of records whose label is predicted within 0.4."""

import numpy as np

from fedward.measures.bounded_mean import BoundedMean


class Near(BoundedMean):
    """Share of records whose score is less than 0.4 from the label."""

    name, title, about = "near", "near misses", "share of records that are predicted within 0.4"

    def score(self, outcomes):
        return (np.abs(outcomes.scores - outcomes.targets) < 0.4).astype(np.float64)
