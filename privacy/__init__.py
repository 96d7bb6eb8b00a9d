"""Secure aggregation, differential privacy and its accounting.

``secagg/`` is the protocol (no torch, no Flower), ``dpsgd/`` the private training engine (torch and
Opacus), the other modules are accounting, ledger, audits and noise without torch. May import only the kernel.
"""
