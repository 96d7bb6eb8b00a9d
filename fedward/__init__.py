"""fedward: hospitals fine-tune one language model together, and the coordinator sees only encrypted sums.

Start reading at ``fedward.simulations`` (a whole federation in one process), then
``fedward.server.rounds`` and ``fedward.client``, then ``fedward.privacy``.
"""

import os

__version__ = "0.2.0"

# Flower reads these when it is imported; both are on by default and would call home.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
# Models come from local folders only: nothing in fedward may reach a model hub at run time.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
