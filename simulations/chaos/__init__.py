"""Faults on purpose: a real federation of processes on loopback, what breaks it, and what must hold all the same."""
