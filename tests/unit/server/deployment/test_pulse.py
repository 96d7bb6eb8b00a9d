"""Looks at the file of a run's process: it works, has ended, or hangs, whatever the clocks do."""

import os

import pytest

from fedward.server.deployment.pulse import GONE_SECONDS, SILENT_SECONDS, Pulse, Sign
from fedward.storage import is_locked, locked_file


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alive"


@pytest.fixture
def pulse(path, now):
    path.touch()
    made = Pulse(path, clock=lambda: now[0])
    assert made.look() is Sign.NOTHING, "what the process before has left does not count"
    return made


def looks(pulse, now, seconds):
    """What half a second apart is seen for so long."""
    seen = set()
    for _ in range(int(2 * seconds)):
        now[0] += 0.5
        seen.add(pulse.look())
    return seen


def test_a_process_that_ends_is_seen_a_moment_later(pulse, path, now):
    with locked_file(path, seconds=0):
        assert looks(pulse, now, 2) == {Sign.ALIVE}
    assert looks(pulse, now, GONE_SECONDS - 0.5) == {Sign.ALIVE}
    assert looks(pulse, now, 1) == {Sign.GONE}


def test_a_process_that_stands_still_is_seen_and_one_that_works_is_not(pulse, path, now):
    with locked_file(path, seconds=0):
        for touched in range(1, 41):
            os.utime(path, ns=(touched, touched))
            assert looks(pulse, now, 2) == {Sign.ALIVE}
        assert looks(pulse, now, SILENT_SECONDS - 3) == {Sign.ALIVE}
        assert Sign.SILENT in looks(pulse, now, 4)
        os.utime(path)
        assert pulse.look() is Sign.ALIVE


def test_a_machine_that_slept_has_lost_no_process(pulse, path, now):
    with locked_file(path, seconds=0):
        pulse.look()
        now[0] += 3600.0
        assert pulse.look() is Sign.ALIVE


def test_who_looks_at_a_lock_does_not_take_it(path):
    path.touch()
    assert not is_locked(path)
    with locked_file(path, seconds=0):
        assert is_locked(path)
    assert not is_locked(path)
