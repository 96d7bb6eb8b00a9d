"""``sweep.html``: the comparison of a sweep as one self-contained page, a plot per epsilon and the table."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from markupsafe import Markup

from fedward.simulations import wording
from fedward.simulations.report.plots import Scale, scale
from fedward.simulations.sweep.summary import Row, SweepDocument, behind, best_of, seeds

PAGE = "sweep.html"


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
    known = [row for row in document.rows if row.mean is not None]
    if not known:
        return []
    headline = document.headline
    ceiling = math.inf if headline.highest is None else headline.highest
    axis = scale([score for row in known for score in row.scores], floor=headline.lowest, ceiling=ceiling)
    found = []
    for epsilon in dict.fromkeys(row.epsilon for row in known):
        rows = sorted(
            (row for row in known if row.epsilon == epsilon), key=lambda row: headline.improvement(0.0, row.mean or 0.0)
        )
        title = "Without privacy" if epsilon is None else f"Epsilon {wording.epsilon(epsilon)} per {document.unit}"
        found.append(Panel(title, epsilon is not None, rows, axis))
    return found


def render(document: SweepDocument) -> str:
    """Returns the whole HTML page; the same document gives the same bytes."""
    style = (resources.files("fedward.simulations.report") / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(score=wording.score, epsilon=wording.epsilon, duration=wording.duration)
    environment.filters.update(size=wording.size, counted=wording.counted)
    template = environment.from_string((resources.files(__package__) / "template.html").read_text(encoding="utf-8"))
    return template.render(
        document=document,
        panels=panels(document),
        behind=lambda row: behind(row, best=best_of(document.rows, row.epsilon, document.headline) == row),
        seeds=seeds,
        personal=any(row.label.endswith("personal") for row in document.rows),
        missing=wording.MISSING,
        style=Markup(style),  # noqa: S704  (our own file, and escaping would change its hash)
        style_hash=digest,
    ).lstrip()
