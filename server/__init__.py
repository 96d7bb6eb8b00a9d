"""The coordinator: runs rounds over masked vectors and never sees a single hospital's delta.

May import ``fedward.strategies``, ``fedward.privacy`` and the kernel; never ``fedward.client``, never torch.
Start at ``rounds.py`` (one round as a pure object), then ``flower.py`` (the Flower edge).
"""
