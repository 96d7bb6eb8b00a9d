"""Patient-level differentially private training: sampler, engine, gates and certificate.

Start with :class:`PrivateEngine`. This is the only place in ``privacy/`` that imports torch and Opacus.
"""

from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine, UnitSampler

__all__ = ["DPParameters", "PrivateEngine", "UnitSampler"]
