"""Processes of a sweep: one that is killed fails its runs, and none lives on without the sweep."""

import operator
import os
import subprocess
import sys

from fedward.simulations.sweep.workers import WorkerLostError, side_by_side

ORPHAN = """
import os, signal
from fedward.simulations.sweep.workers import side_by_side
if __name__ == "__main__":
    for _, process in side_by_side(1, os.getpid, {"only": ()}):
        print(process, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


class Deadly:
    """Ends the process that unpickles it, as a killer of large processes does."""

    def __reduce__(self):
        return os._exit, (1,)


def test_every_call_is_answered_under_its_key():
    calls = {name: (name, 2) for name in ("ab", "cd", "ef")}
    assert dict(side_by_side(2, operator.mul, calls)) == {"ab": "abab", "cd": "cdcd", "ef": "efef"}


def test_a_process_that_is_killed_fails_runs_and_not_the_sweep():
    found = dict(side_by_side(1, operator.mul, {"killed": (Deadly(), 2), "behind": ("ab", 2)}))
    assert {key: type(value) for key, value in found.items()} == dict.fromkeys(("killed", "behind"), WorkerLostError)


def test_a_process_ends_with_the_sweep_that_was_killed(tmp_path):
    """The pipe closes when the last process that holds it has ended: a pool's process that stays would hold it."""
    script = tmp_path / "sweep.py"
    script.write_text(ORPHAN, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9
    assert int(done.stdout) > 0
