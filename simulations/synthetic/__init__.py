"""Synthetic hospitals with a known outcome probability for every patient, written as MIMIC-III tables.

Start at ``findings.py`` (what a patient can have and how much it matters), then ``hospital.py`` (drawing
patients), ``tables.py`` (CSV) and ``bayes.py`` (the best AUROC anyone could reach).
"""

from fedward.simulations.synthetic.bayes import bayes_auroc
from fedward.simulations.synthetic.hospital import (
    KNOWN_TRUTH,
    HospitalSpec,
    SyntheticHospital,
    default_hospitals,
    draw,
)
from fedward.simulations.synthetic.tables import write_mimic3

__all__ = [
    "KNOWN_TRUTH",
    "HospitalSpec",
    "SyntheticHospital",
    "bayes_auroc",
    "default_hospitals",
    "draw",
    "write_mimic3",
]
