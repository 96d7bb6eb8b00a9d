"""The coordinator: runs rounds over masked vectors and never sees a single hospital's delta.

It never imports ``fedward.client`` or torch. Start at ``rounds.py``, which plays rounds and knows no Flower.
"""
