"""Synthetic hospitals with a known outcome probability for every patient, written as MIMIC-III tables.

Start at ``findings.py`` (what a patient can have and how much it matters), then ``hospital.py`` (drawing
patients, and the best AUROC anyone could reach) and ``chart.py`` (their records, as CSV).
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
