"""The hospital: reads records, trains the adapter under differential privacy, masks what leaves.

May import ``fedward.privacy``, ``fedward.strategies`` and the kernel; never ``fedward.server``.
Start at ``hospital.py`` (what a hospital does in each leg of a round), then ``training.py`` and ``data/``.
"""
