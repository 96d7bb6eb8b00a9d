"""Phenotypes at a hospital: groups of diagnoses from a stay's ICD codes.

The groups are those of Harutyunyan et al., "Multitask learning and benchmarking with clinical time series data",
Sci Data 2019, that are commonest in intensive care, after the HCUP Clinical Classifications Software; here as prefixes
of ICD-9-CM and ICD-10-CM codes without dots. No prefix of one version begins a code of the other.
"""

from fedward.client.data.events import Outcome
from fedward.client.tasks.prediction import Multilabel
from fedward.client.tasks.task import StaySource
from fedward.tasks.phenotypes import TASK

PREFIXES: dict[str, tuple[str, ...]] = {
    name: tuple(prefixes.split())
    for name, prefixes in {
        "sepsis": "038 99591 99592 78552 A40 A41 R652",
        "pneumonia": "480 481 482 483 484 485 486 4870 J12 J13 J14 J15 J16 J17 J18",
        "respiratory-failure": "5185 51881 51882 51884 7991 J80 J96 R092",
        "copd": "490 491 492 494 496 J40 J41 J42 J43 J44 J47",
        "heart-failure": "428 39891 I50 I110 I130 I132",
        "myocardial-infarction": "410 I21 I22",
        "arrhythmia": "4270 4271 4272 4273 4276 4278 4279 I47 I48 I49",
        "stroke": "430 431 432 43301 43311 43321 43331 43381 43391 434 436 I60 I61 I62 I63",
        "kidney-failure": "584 N17",
        "diabetes": "250 E08 E09 E10 E11 E13",
    }.items()
}


def label(outcome: Outcome) -> tuple[str, ...] | None:
    """Returns the groups that a code of the stay belongs to; None for a stay that nobody coded."""
    if not outcome.codes:
        return None
    return tuple(
        name for name, prefixes in PREFIXES.items() if any(code.startswith(prefixes) for code in outcome.codes)
    )


LOCAL = Multilabel(TASK, StaySource(label, one_per="stay", outcomes=("diagnosis codes",)))
