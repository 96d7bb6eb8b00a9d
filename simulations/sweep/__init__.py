"""Many runs of one scenario: every combination of strategies, ranks, budgets and seeds, in a table and a plot.

Start at :func:`~fedward.simulations.sweep.play.run_sweep`; ``grid`` names the cells, ``summary`` compares them and
``page`` draws them.
"""
