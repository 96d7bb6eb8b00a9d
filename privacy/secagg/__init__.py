"""Secure aggregation: the coordinator learns a sum over hospitals and nothing about one of them.

Pure state machines, bytes in and bytes out; clock, randomness and journal are passed in. Nothing here
knows torch, Flower or a network. Primitives: ``layout`` and ``encoding`` (values to ring words),
``prg`` (masks), ``shamir`` (shares), ``kdf`` and ``hybrid`` (keys). Protocol: ``messages``, ``roster``,
``client``, ``server``. Start at ``client``; ``docs/protocol.md`` has the messages one by one.
"""
