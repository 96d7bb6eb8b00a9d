"""Audit of a finished run: can anybody tell from it who took part?

Trains the run's federation again with made-up patients (canaries) in one hospital, guesses which of them took part, and
bounds epsilon from the right guesses; then attacks the run's own adapter for its patients. ``run.py`` does it,
``document.py`` is ``audit.json``; statistics come from ``fedward.privacy.audit``. Everything computed here is the
simulator's omniscient view: it needs to know who took part.
"""
