"""``report.html``: one self-contained page about a finished run, for a doctor and a security officer.

No scripts, no fonts, no images from elsewhere: the page carries a content security policy that allows
nothing but its own style sheet (by hash), so it can be archived, mailed and printed. ``view`` turns a result into
words and positions, ``template.html`` and ``style.css`` give the looks. Never imports torch.
"""

import base64
import hashlib
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from fedward.simulations import wording
from fedward.simulations.audit.document import AuditDocument
from fedward.simulations.report.view import View
from fedward.simulations.result import RunResult, write_atomically

REPORT_FILE = "report.html"
_FILTERS = ("score", "interval", "signed", "epsilon", "delta", "size", "duration", "certainty", "rate", "counted")


def page(package: str, **shown: object) -> str:
    """The whole HTML page that ``package``'s template makes of ``shown``; the same input gives the same bytes."""
    style = (resources.files(__name__) / "style.css").read_text(encoding="utf-8")
    # Browsers hash the text between the tags, so the template must add no white space around it.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update({name: getattr(wording, name) for name in _FILTERS})
    template = environment.from_string((resources.files(package) / "template.html").read_text(encoding="utf-8"))
    style_markup = Markup(style)  # noqa: S704  (our own file, and escaping would change its hash)
    return template.render(style=style_markup, style_hash=digest, **shown).lstrip()


def render(result: RunResult, *, audit: AuditDocument | None = None) -> str:
    """The page about ``result`` and, if given, its audit."""
    return page(__name__, result=result, audit=audit, view=View(result))


def write_report(result: RunResult, folder: Path, *, audit: AuditDocument | None = None) -> Path:
    """Writes ``report.html`` into ``folder`` atomically; returns its path. Raises FW-RESOURCE-020 (disk refuses)."""
    return write_atomically(folder / REPORT_FILE, render(result, audit=audit))
