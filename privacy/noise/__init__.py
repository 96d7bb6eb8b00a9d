"""Noise and sampling from the cryptographic stream, without torch.

``gaussian`` for training steps and Poisson sampling, ``discrete`` for noise shares on the integer grid of the secure
sum, ``release`` for statistics of patients, ``seeded`` for reproducible runs that protect nobody.
"""
