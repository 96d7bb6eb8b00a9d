"""Plans before anybody approves them: scenario files, calibrated noise, what a run would cost, and the plan folder.

Here a researcher's wishes become the constants that hospitals agree to. Start in ``estimate.py``.
"""
