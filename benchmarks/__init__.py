"""Measurements against what a deployer could install instead; one module per subject, each with ``--json``."""
