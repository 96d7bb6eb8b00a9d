"""Preparation of a data set for training: what is kept, what is masked, what is written, and the data card.

Start in ``prepare.py``. May import ``fedward.client.data`` and ``fedward.client.corpora``; no torch.
"""
