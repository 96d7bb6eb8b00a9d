"""Strategies by contributors: the same interface, imported only where a plan names one."""
