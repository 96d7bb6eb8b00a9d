"""Synthetic hospitals with a known outcome probability for every patient, written as the tables of any layout.

Start at ``findings.py`` (what a patient can have and how much it matters), then ``hospital.py`` (drawing
patients, and the best AUROC anyone could reach), ``chart.py`` (their records, as MIMIC-III) and ``layouts.py``.
``notes.py`` draws running texts whose probability is known exactly, for language models.
"""

from fedward.simulations.synthetic.chart import write_mimic3
from fedward.simulations.synthetic.hospital import (
    KNOWN_TRUTH,
    HospitalSpec,
    SyntheticHospital,
    bayes_auroc,
    default_hospitals,
    draw,
)

__all__ = [
    "KNOWN_TRUTH",
    "HospitalSpec",
    "SyntheticHospital",
    "bayes_auroc",
    "default_hospitals",
    "draw",
    "write_mimic3",
]
