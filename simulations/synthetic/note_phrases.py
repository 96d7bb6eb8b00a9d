"""Phrases of synthetic running notes: those that every hospital writes, and those of the scenarios' hospitals alone.

Findings and their common wordings are those of ``findings.py``. House wordings stand for what a hospital's own people
say; the texts that the packaged decoder was pre-trained on have none of them, so a federation has something to learn.
Like the weights, all of it is invented.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Phrases:
    """Interchangeable ways to say one thing: common ones, and those of the house."""

    common: tuple[str, ...]
    house: tuple[str, ...] = ()


def _phrases(common: str, house: str = "") -> Phrases:
    return Phrases(tuple(common.split("/")), tuple(house.split("/")) if house else ())


RISKS = ("low", "middle", "high")
RISK_SHARES = (0.45, 0.33, 0.22)
RISK_LEVELS = (-0.5, 0.3, 1.2)
"""Hidden risk of a patient; a finding's log odds are moved by its weight for death times the level."""

AUTHORS = ("brief", "thorough")
AUTHOR_SHARES = (0.6, 0.4)
ABSENT_SAID = (0.04, 0.22)
"""Hidden author of a note: how often one writes that a finding is absent."""

SEXES = Phrases(("Man", "Woman"), ("This man", "This woman"))
SEEN = _phrases(" in the {decade}s admitted to ", " in the {decade}s brought through the front door to ")
REASON = _phrases(" with ", " under the working diagnosis of ")
EXAMINED = _phrases("Seen on rounds. /Examined at bedside. ", "Looked at with the team. /Morning round done. ")
COURSE = {
    "low": _phrases("Condition stable. /Doing well. ", "On the way home soon. "),
    "middle": _phrases("Condition guarded. /Close monitoring. ", "Still on the yellow list. "),
    "high": _phrases("Condition critical. /Prognosis poor. ", "Head doctor called in. "),
}
PLAN = _phrases(
    "Plan of care reviewed./Continue to monitor./Will follow./Labs drawn./Family at bedside.",
    "Family told by the team./Night team has the list./Look again every four hours.",
)
MISTOLD_COURSE = 0.1  # share of notes whose course is that of another risk
HOUSE_PRESENT: Mapping[str, str] = MappingProxyType({
    "fever": "running hot",
    "hypotension": "soft pressure",
    "tachycardia": "heart going fast",
    "dyspnea": "working hard for air",
    "ventilation": "tube and full support",
    "vasopressors": "pressure drip wide open",
    "confusion": "not making sense",
    "chest pain": "heavy weight on chest",
    "oliguria": "making almost no urine",
    "heart failure": "weak heart on scan",
    "recovery": "up in the chair",
})  # fmt: skip
"""The findings that notes tell, with a house wording of each where it is present."""
LABS_SAID = 0.3  # share of ordinary values that a note mentions
LABS_NOTED = 3  # of the laboratory findings, the first ones are told in notes
