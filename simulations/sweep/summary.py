"""Summary of a sweep: one row per setting with mean and spread over its seeds, as document, table and page."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean, stdev

from rich.table import Table
from rich.text import Text

from fedward import __version__
from fedward.config import Section
from fedward.simulations import wording
from fedward.simulations.report import page
from fedward.simulations.report.view import Scale, scale_of
from fedward.simulations.result import Headline, headline_of
from fedward.simulations.sweep.play import Outcome
from fedward.simulations.terminal import open_table
from fedward.strategies.registry import STRATEGIES, find_strategy
from fedward.units import UnitName

DOCUMENT = "sweep.json"
TABLE = "sweep.csv"
PAGE = "sweep.html"


class Row(Section):
    """One setting over the seeds; without value where no run finished."""

    strategy: str
    rank: int | None  # None if the scenario's own was used
    epsilon: float | None  # budget that was asked for; None without privacy
    seeds: list[int]  # those whose run finished, in the order of scores
    scores: list[float]  # headline measure of the federated model, by seed
    mean: float | None
    sd: float | None  # over the seeds; None for fewer than two
    behind: float | None = None
    """Mean difference from the best setting at the same epsilon, on the same seeds; 0 for the best itself."""
    behind_se: float | None = None  # its standard error; None for fewer than two common seeds
    bytes_up: float | None  # bytes per round and hospital, mean over the seeds
    seconds: float | None  # of a whole run, mean over the seeds
    failed: dict[str, str]  # seeds whose run failed, with the code of the error

    @property
    def label(self) -> str:
        """Strategy and, if it was swept, rank; and whether every hospital was scored with a model of its own."""
        rank = "" if self.rank is None else f", rank {self.rank}"
        return f"{self.strategy}{rank}{', personal' if self.personal else ''}"

    @property
    def personal(self) -> bool:
        """Whether every hospital was scored with a model of its own."""
        return self.strategy in STRATEGIES and find_strategy(self.strategy).declaration.personalises


class SweepDocument(Section):
    """``sweep.json``."""

    fedward_version: str
    created: datetime
    scenario: str
    headline: Headline
    unit: UnitName = "patient"
    rows: list[Row]

    def leads(self, row: Row) -> bool:
        """Whether ``row`` is the best at its epsilon."""
        return best_of(self.rows, row.epsilon, self.headline) == row


def summarise(scenario: str, task: str, outcomes: Sequence[Outcome], *, unit: UnitName = "patient") -> SweepDocument:
    """Groups the outcomes of a sweep by setting; settings keep the order in which they were first run."""
    groups: dict[tuple[str, int | None, float | None], list[Outcome]] = {}
    for outcome in outcomes:
        cell = outcome.cell
        groups.setdefault((cell.strategy, cell.rank, cell.epsilon), []).append(outcome)
    rows, headline = [_row(group) for group in groups.values()], headline_of(task)
    return SweepDocument(
        fedward_version=__version__,
        created=datetime.now(UTC).replace(microsecond=0),
        scenario=scenario,
        headline=headline,
        unit=unit,
        rows=[_compared(row, best_of(rows, row.epsilon, headline), headline) for row in rows],
    )


def best_of(rows: Sequence[Row], epsilon: float | None, headline: Headline) -> Row | None:
    """The row with the best mean score at ``epsilon`` of those with the most seeds; the first of equals.

    A setting of which a lucky seed is all that has finished is not the measure of the others. Nor are personal models,
    each scored at its own hospital, unless there is nothing else.
    """
    known = [row for row in rows if row.epsilon == epsilon and row.mean is not None]
    known = [row for row in known if not row.personal] or known
    known = [row for row in known if len(row.seeds) == max(len(other.seeds) for other in known)]
    return max(known, key=lambda row: headline.improvement(row.mean or 0.0, 0.0), default=None)


def _row(group: Sequence[Outcome]) -> Row:
    first = group[0].cell
    scored = [(o.cell.seed, o.result, o.result.scores.federated) for o in group if o.result is not None]
    known = [(seed, result, score) for seed, result, score in scored if score is not None]
    scores = [score for _, _, score in known]
    return Row(
        strategy=first.strategy,
        rank=first.rank,
        epsilon=first.epsilon,
        seeds=[seed for seed, _, _ in known],
        scores=scores,
        mean=fmean(scores) if scores else None,
        sd=stdev(scores) if len(scores) > 1 else None,
        bytes_up=fmean(result.bytes_per_round_per_hospital for _, result, _ in known) if known else None,
        seconds=fmean(result.seconds.total for _, result, _ in known) if known else None,
        failed={str(o.cell.seed): o.error for o in group if o.state == "failed"},
    )


def _compared(row: Row, best: Row | None, headline: Headline) -> Row:
    """``row`` with its distance from ``best``, paired by seed: draws differ more than methods do."""
    ahead = {} if best is None else dict(zip(best.seeds, best.scores, strict=True))
    scored = zip(row.seeds, row.scores, strict=True)
    gaps = [headline.improvement(score, ahead[seed]) for seed, score in scored if seed in ahead]
    if not gaps:
        return row
    error = stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else None
    return row.model_copy(update={"behind": fmean(gaps), "behind_se": error})


def as_csv(document: SweepDocument) -> str:
    """One line per run that finished, for whatever a reader wants to compute."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["strategy", "rank", "epsilon", "seed", document.headline.name])
    for row in document.rows:
        for seed, score in zip(row.seeds, row.scores, strict=True):
            writer.writerow([row.strategy, row.rank, row.epsilon, seed, score])
    return stream.getvalue()


def table(document: SweepDocument, *, framed: bool) -> Table:
    """The rows for a terminal; the best of each epsilon in bold, and NON-PRIVATE where there is no epsilon."""
    numbers = ["Epsilon", document.headline.title, "sd", "Behind best", "Sent", "Time", "Seeds"]
    view = open_table("Strategy", *numbers, numbers=numbers, framed=framed)
    for column in view.columns[1:-1]:
        column.no_wrap = True
    for row in document.rows:
        best = document.leads(row)
        view.add_row(
            Text(row.label, style="bold" if best else ""),
            "NON-PRIVATE" if row.epsilon is None else wording.epsilon(row.epsilon),
            Text(wording.score(row.mean), style="bold" if best else ""),
            wording.score(row.sd),
            behind(row, best=best),
            wording.MISSING if row.bytes_up is None else wording.size(row.bytes_up),
            wording.MISSING if row.seconds is None else wording.duration(row.seconds),
            seeds(row),
        )
    return view


def behind(row: Row, *, best: bool) -> str:
    """How far a row is from the best at its epsilon, with the standard error."""
    if best:
        return "best"
    error = "" if row.behind_se is None else f" ± {row.behind_se:.3f}"
    return wording.signed(row.behind) + error


def seeds(row: Row) -> str:
    """How many seeds finished, and the codes of the runs that did not."""
    codes = ", ".join(sorted(set(row.failed.values())))
    return f"{len(row.seeds)}" + (f" ({len(row.failed)} failed: {codes})" if row.failed else "")


@dataclass(frozen=True)
class Panel:
    """All settings at one epsilon, best first, on the scale that every panel of the page shares."""

    title: str
    private: bool
    rows: Sequence[Row]
    axis: Scale

    def at(self, value: float) -> float:
        """Percent of the width, kept inside it."""
        return min(100.0, max(0.0, self.axis.at(value)))


def panels(document: SweepDocument) -> list[Panel]:
    """One panel per epsilon in the order of the sweep; settings without a finished run are in the table only."""
    known, headline, found = [row for row in document.rows if row.mean is not None], document.headline, []
    axis = scale_of([score for row in known for score in row.scores], headline)
    if axis is None:
        return []
    for epsilon in dict.fromkeys(row.epsilon for row in known):
        rows = [row for row in known if row.epsilon == epsilon]
        rows.sort(key=lambda row: headline.improvement(0.0, row.mean or 0.0))
        title = "Without privacy" if epsilon is None else f"Epsilon {wording.epsilon(epsilon)} per {document.unit}"
        found.append(Panel(title, epsilon is not None, rows, axis))
    return found


def render(document: SweepDocument) -> str:
    """``sweep.html``, one self-contained page: a plot per epsilon, and the table."""
    return page(
        __package__,
        document=document,
        panels=panels(document),
        behind=lambda row: behind(row, best=document.leads(row)),
        seeds=seeds,
        personal=any(row.personal for row in document.rows),
        missing=wording.MISSING,
    )
