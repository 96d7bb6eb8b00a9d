"""The newcomer's round: it ends with a sum over three hospitals, and a reader can follow it."""

import sys
from collections import Counter
from pathlib import Path

import pytest

import fedward
from fedward.server.rounds import Coordinator
from fedward.simulations import one_round

pytestmark = pytest.mark.slow

PACKAGE = Path(fedward.__file__).parent
RESOLVERS = ("check_strategy", "find_strategy", "make_strategy", "task_named", "local_task")
MOST_FILES = 40
"""Source files that key set-up and one round run through; to be lowered, never raised."""


def watched(method, files, calls):
    """``method`` with every source file of the package noted that it runs through, and every look-up by name."""

    def watch(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and "site-packages" not in path.parts and path.is_relative_to(PACKAGE):
            files.add(path)
            calls.update([frame.f_code.co_name] if frame.f_code.co_name in RESOLVERS else [])

    def run(*arguments):
        sys.setprofile(watch)
        try:
            return method(*arguments)
        finally:
            sys.setprofile(None)

    return run


def test_a_round_runs_through_few_files_and_looks_no_name_up(monkeypatch, capsys):
    files, during = set(), Counter()
    monkeypatch.setattr(Coordinator, "join", watched(Coordinator.join, files, during))
    monkeypatch.setattr(Coordinator, "play", watched(Coordinator.play, files, during))
    coordinator = one_round.main()
    assert coordinator.summaries[0].survivors == 3
    assert coordinator.adapter.any()
    assert during == Counter()
    assert 30 < len(files) <= MOST_FILES
    assert "mask      -> birch" in capsys.readouterr().out


def test_the_strategy_is_resolved_once(monkeypatch, capsys):
    calls = Counter()
    watched(one_round.main, set(), calls)()
    assert calls["check_strategy"] == 1
    assert calls["find_strategy"] == 1
    assert calls["make_strategy"] == 0
