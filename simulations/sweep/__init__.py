"""Sweep: many runs of one scenario: every combination of strategies, ranks, budgets and seeds, in a table and a plot.

Start at :func:`~fedward.simulations.sweep.play.run_sweep`; ``summary`` compares what it ran and draws it.
"""
