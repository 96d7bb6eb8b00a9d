"""Means, spreads and paired distances of a sweep, computed by hand here; and what its table and page show."""

import csv
import io
import re

import pytest
from rich.console import Console

from fedward.simulations.sweep.play import Cell, Outcome
from fedward.simulations.sweep.summary import as_csv, render, summarise, table

AUROCS = {("ffa", 8.0): [0.80, 0.70, 0.75], ("fedit", 8.0): [0.78, 0.69, 0.74], ("ffa", None): [0.85, 0.83, 0.84]}


@pytest.fixture
def outcomes(result):
    def finished(strategy, epsilon, seed, auroc):
        scored = result.scores.model_copy(update={"federated": auroc})
        return Outcome(Cell(strategy, None, epsilon, seed), "done", result.model_copy(update={"scores": scored}))

    done = [
        finished(strategy, epsilon, seed, auroc)
        for (strategy, epsilon), aurocs in AUROCS.items()
        for seed, auroc in enumerate(aurocs, start=1)
    ]
    return [*done, Outcome(Cell("fedit", None, None, 1), "failed", error="FW-RUN-010")]


def summarised(outcomes):
    return summarise("default", "mortality", outcomes)


def rows_of(outcomes):
    return {(row.strategy, row.epsilon): row for row in summarised(outcomes).rows}


def test_mean_and_spread_are_over_the_seeds_of_a_setting(outcomes):
    row = rows_of(outcomes)["ffa", 8.0]
    assert row.mean == pytest.approx(0.75)
    assert row.sd == pytest.approx(0.05)
    assert row.seeds == [1, 2, 3]


def test_the_distance_from_the_best_is_paired_by_seed(outcomes):
    rows = rows_of(outcomes)
    assert rows["ffa", 8.0].behind == 0.0
    # Gaps -0.02, -0.01, -0.01: far less spread than the draws themselves.
    assert rows["fedit", 8.0].behind == pytest.approx(-0.04 / 3)
    assert rows["fedit", 8.0].behind_se == pytest.approx(0.01 / 3)


def test_only_common_seeds_are_compared(outcomes):
    kept = [o for o in outcomes if o.cell != Cell("ffa", None, 8.0, 1)]
    row = rows_of(kept)["fedit", 8.0]
    rival = rows_of(kept)["ffa", 8.0]
    assert rival.mean == pytest.approx(0.725) and row.mean == pytest.approx(0.7367, abs=1e-4)
    assert rival.behind == pytest.approx(0.01)  # fedit leads on its three seeds, yet is behind on the two common ones


def test_a_lucky_seed_alone_is_not_the_best(outcomes):
    kept = [o for o in outcomes if o.cell.strategy != "ffa" or o.cell.epsilon is None or o.cell.seed == 1]
    rows = rows_of(kept)
    assert rows["ffa", 8.0].mean > rows["fedit", 8.0].mean
    assert rows["fedit", 8.0].behind == 0.0
    assert rows["ffa", 8.0].behind == pytest.approx(0.02)


def test_scores_of_personal_models_are_marked(outcomes, result):
    own = [Outcome(Cell(name, 4, 8.0, 1), "done", result) for name in ("fedsa", "feddpa")]
    rows = summarised([*outcomes, *own]).rows
    assert {row.label for row in rows} == {"ffa", "fedit", "fedsa, rank 4, personal", "feddpa, rank 4, personal"}
    assert "like for like" in render(summarised(own))
    assert "like for like" not in render(summarised(outcomes))


def test_personal_models_are_not_what_others_are_measured_by(outcomes, result):
    best = result.model_copy(update={"scores": result.scores.model_copy(update={"federated": 0.99})})
    own = [Outcome(Cell("fedsa", None, 8.0, seed), "done", best) for seed in (1, 2, 3)]
    rows = rows_of([*outcomes, *own])
    assert rows["ffa", 8.0].behind == 0.0
    assert rows["fedsa", 8.0].behind > 0.2
    assert rows_of(own)["fedsa", 8.0].behind == 0.0


def test_a_failed_run_is_named_and_does_not_count(outcomes):
    row = rows_of(outcomes)["fedit", None]
    assert row.mean is None and row.behind is None and row.seeds == []
    assert row.failed == {"1": "FW-RUN-010"}


def test_the_csv_has_one_line_per_finished_run(outcomes):
    lines = list(csv.DictReader(io.StringIO(as_csv(summarised(outcomes)))))
    assert len(lines) == 9
    assert lines[0] == {"strategy": "ffa", "rank": "", "epsilon": "8.0", "seed": "1", "auroc": "0.8"}
    assert lines[-1]["epsilon"] == ""


def test_the_table_marks_the_best_and_what_is_not_private(outcomes):
    console = Console(width=120, record=True, force_terminal=False)
    console.print(table(summarised(outcomes), framed=False))
    text = console.export_text()
    assert text.count(" best ") == 2 + text.count("Behind best ")
    assert text.count("NON-PRIVATE") == 2
    assert "1 failed: FW-RUN-010" in text


def test_the_page_is_one_file_that_runs_nothing(outcomes):
    html = render(summarised(outcomes))
    assert "default-src 'none'" in html
    assert "<script" not in html and "http" not in html.replace("http-equiv", "")
    assert html.count('class="mark"') == 3
    places = [float(x) for x in re.findall(r'<circle[^>]* cx="([\d.]+)%"', html)]
    assert len(places) == 12 and all(0 <= x <= 100 for x in places)


def test_a_sweep_without_any_result_still_has_a_page():
    html = render(summarised([Outcome(Cell("ffa", None, 8.0, 1), "failed", error="FW-RUN-010")]))
    assert "FW-RUN-010" in html and 'class="mark"' not in html
