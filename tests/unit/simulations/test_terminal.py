"""The display in its four faces, driven like a run drives it, with a clock that only moves when told."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from fedward.simulations.result import CurvePoint, RunResult
from fedward.simulations.terminal import RoundDone, RunDisplay


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def point(turn, auroc, loss, epsilon):
    return CurvePoint(round=turn, measures={"auroc": auroc, "log_loss": loss}, epsilon=epsilon)


def drive(display: RunDisplay, clock: Clock, result: RunResult) -> None:
    with display:
        display.start("default", hospitals=6, rounds=4, epsilon=8.0, unit="patient")
        display.phase("federated", 4)
        display.round_done(point(0, 0.52, 0.70, 0.0), 0.5)
        for turn in range(1, 5):
            clock.now += 3.0
            display.round_done(point(turn, None if turn == 2 else 0.8, 0.7 - 0.05 * turn, 2.0 * turn), 3.0)
        display.phase("each hospital alone", 100)
        for _ in range(100):
            clock.now += 1.0
            display.advance()
        display.finish(result, Path("out"))


def plain(result: RunResult, *, mode: str = "auto", terminal: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, highlight=False, color_system=None)
    clock = Clock()
    drive(RunDisplay(mode, console=console, clock=clock), clock, result)
    return stream.getvalue()


def test_without_a_terminal_there_are_plain_lines(result):
    text = plain(result)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "default: 6 hospitals, 4 rounds, epsilon 8.00 per patient"
    assert "  round 1/4  AUROC 0.800  cross-entropy 0.650  epsilon 2.00  3.0 s, 9.0 s left" in lines
    assert "  round 2/4  AUROC \N{EN DASH}  cross-entropy 0.600  epsilon 4.00  3.0 s, 6.0 s left" in lines
    assert "  10/100, 1 min 30 s left" in lines
    assert sum("/100" in line for line in lines) == 10


def test_a_round_shows_the_first_two_of_its_measures():
    measures = {"auroc": 0.8, "log_loss": 0.6, "calibration_slope": 1.1}
    assert str(RoundDone(1, 4, measures, 2.0, 3.0, None)) == "round 1/4  AUROC 0.800  cross-entropy 0.600  epsilon 2.00"


def test_other_measures_stand_below_the_table(result):
    others = {"observed_over_expected": 1.0417, "perplexity": None, "of_another_release": 0.5}
    told = plain(result.model_copy(update={"scores": result.scores.model_copy(update={"others": others})}))
    assert "Federated, by other measures: observed / expected 1.042, of_another_release 0.500\n" in told


def test_the_final_table_holds_the_figures_of_the_result(result):
    lines = {line.split("  ")[0]: line for line in plain(result, mode="quiet").splitlines()}
    assert "0.838" in lines["federated"]
    assert "0.812\N{EN DASH}0.861" in lines["federated"]
    assert "0.771" in lines["hospitals alone, mean"]
    assert "0.849" in lines["pooled central"]
    assert "0.870" in lines["best possible (Bayes)"]
    assert lines["alder"].split() == ["alder", "204", "0.741", "0.681\N{EN DASH}0.796", "0.829", "+0.088", "8.00"]
    text = plain(result, mode="quiet")
    assert "omniscient view: no coordinator sees this" in text
    assert "epsilon 8.00 at delta 1e-5 per patient (add or remove one), Poisson over patients, PLD, PRV agrees" in text
    assert "11.9 kB per round and hospital" in text
    assert "out/report.html" in text
    assert "NON-PRIVATE" not in text
    assert "round 1/4" not in text, "quiet shows no progress"


def test_a_run_without_privacy_is_marked_and_leaves_out_what_does_not_exist(public_result):
    text = plain(public_result, mode="quiet")
    assert text.startswith("NON-PRIVATE")
    assert "Privacy    NON-PRIVATE" in text
    assert "pooled central" not in text
    assert "Bayes" not in text


def test_a_terminal_gets_bars_and_is_left_clean(result):
    text = plain(result, terminal=True)
    assert "federated" in text
    assert "each hospital alone" in text
    assert "100/100" in text
    assert "round 4/4" in text


def test_a_failing_run_closes_the_live_area():
    stream = io.StringIO()
    display = RunDisplay(console=Console(file=stream, force_terminal=True, width=100))
    with pytest.raises(ValueError, match="broken"), display:
        display.start("default", hospitals=3, rounds=1, epsilon=None, unit="patient")
        display.phase("federated", 1)
        raise ValueError("broken")
    assert stream.getvalue().rstrip().endswith("\x1b[?25h"), "the cursor is shown again"
    assert "NON-PRIVATE, no epsilon" in stream.getvalue()


def test_json_lines_can_be_parsed_and_end_with_the_whole_result(result, capsys):
    clock = Clock()
    drive(RunDisplay("json", clock=clock), clock, result)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    start = {"event": "start", "name": "default", "hospitals": 6, "rounds": 4, "epsilon": 8.0, "unit": "patient"}
    assert events[0] == start
    rounds = [each for each in events if each["event"] == "round"]
    assert [each["round"] for each in rounds] == [0, 1, 2, 3, 4]
    assert rounds[2]["measures"]["auroc"] is None
    assert rounds[1]["eta_seconds"] == 9.0
    assert events[-1]["event"] == "result"
    assert RunResult.model_validate_json(json.dumps(events[-1]["result"])) == result
