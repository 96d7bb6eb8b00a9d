"""What a synthetic patient can have, how often, how it is written and what it adds to the risk of death.

Weights are log odds ratios. They are invented so that the best possible AUROC is about 0.865 at a
mortality of about 20 %; they are no medical knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a note says about a patient, with interchangeable ways to write that it is present and that it is not.

    ``prevalence`` is the share of patients at an average hospital, ``weight`` the log odds ratio of death when present.
    """

    name: str
    prevalence: float
    weight: float
    present: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabFinding:
    """An abnormal laboratory value.

    ``name`` is a measurement of the public threshold table; ``word`` its bucket when abnormal and ``severe`` a worse
    one, which counts 1.6 times as much as ``weight``, the log odds ratio of ``word``; ``prevalence`` is the share of
    patients with either; ``other`` a bucket on the harmless side, drawn rarely, empty if the table has none.
    """

    name: str
    word: str
    severe: str
    prevalence: float
    weight: float
    other: str = ""


SEVERE_FACTOR = 1.6
SEVERE_SHARE = 0.3
OTHER_SHARE = 0.04

FINDINGS = (
    Finding(
        "fever", 0.25, 0.40, ("fever", "febrile", "spiking temperatures"), ("no fever", "afebrile", "denies fever")
    ),
    Finding(
        "hypotension",
        0.22,
        1.15,
        ("hypotension", "hypotensive", "low blood pressure"),
        ("no hypotension", "normotensive"),
    ),
    Finding(
        "tachycardia",
        0.24,
        0.35,
        ("tachycardia", "tachycardic", "rapid heart rate"),
        ("no tachycardia", "regular heart rate"),
    ),
    Finding(
        "dyspnea",
        0.26,
        0.55,
        ("dyspnea", "short of breath", "shortness of breath"),
        ("no dyspnea", "denies shortness of breath"),
    ),
    Finding(
        "ventilation",
        0.20,
        1.25,
        ("intubated", "on ventilator", "mechanically ventilated"),
        ("not intubated", "breathing room air"),
    ),
    Finding(
        "vasopressors",
        0.15,
        1.40,
        ("on norepinephrine", "on pressors", "vasopressor support"),
        ("no pressors", "off pressors"),
    ),
    Finding(
        "confusion",
        0.20,
        0.80,
        ("confused", "altered mental status", "disoriented"),
        ("no confusion", "alert and oriented"),
    ),
    Finding("chest pain", 0.18, -0.65, ("chest pain", "chest tightness"), ("no chest pain", "denies chest pain")),
    Finding("bleeding", 0.14, 0.45, ("bleeding", "hemorrhage"), ("no bleeding", "no hemorrhage")),
    Finding("oliguria", 0.15, 1.00, ("oliguria", "oliguric", "low urine output"), ("no oliguria", "good urine output")),
    Finding(
        "metastases",
        0.10,
        1.25,
        ("metastatic cancer", "metastases", "metastatic disease"),
        ("no malignancy", "no cancer"),
    ),
    Finding("heart failure", 0.18, 0.55, ("heart failure", "chf"), ("no heart failure", "no chf")),
    Finding("diabetes", 0.24, 0.00, ("diabetes", "diabetic"), ("no diabetes", "not diabetic")),
    Finding("vomiting", 0.14, 0.00, ("vomiting", "emesis"), ("no vomiting", "denies nausea")),
    Finding("jaundice", 0.08, 0.80, ("jaundice", "jaundiced", "icteric"), ("no jaundice", "anicteric")),
    Finding("recovery", 0.22, -1.05, ("recovering well", "ambulating", "eating well"), ("not ambulating", "bed bound")),
)

LABS = (
    LabFinding("lactate", "high", "very high", 0.25, 1.05),
    LabFinding("creatinine", "high", "very high", 0.26, 0.60, "low"),
    LabFinding("bilirubin", "high", "very high", 0.15, 0.55),
    LabFinding("leukocytes", "high", "very high", 0.25, 0.25, "low"),
    LabFinding("platelets", "low", "very low", 0.18, 0.65),
    LabFinding("hemoglobin", "low", "very low", 0.22, 0.15),
    LabFinding("sodium", "low", "very low", 0.14, 0.40, "high"),
    LabFinding("potassium", "high", "very high", 0.10, 0.35, "low"),
    LabFinding("bicarbonate", "low", "very low", 0.18, 0.65, "high"),
    LabFinding("glucose", "high", "very high", 0.18, 0.05, "low"),
    LabFinding("albumin", "low", "very low", 0.20, 0.60),
)

INTERACTION = ("hypotension", "lactate", 0.70)
"""A note finding and a laboratory finding that are worse together than the sum of both."""

AGE_BANDS = (20, 30, 40, 50, 60, 70, 80, 90)
AGE_SHARES = (0.04, 0.06, 0.10, 0.17, 0.22, 0.21, 0.15, 0.05)
AGE_WEIGHTS = (-1.20, -1.00, -0.65, -0.35, 0.00, 0.40, 0.85, 1.20)
"""Bands are decades named by their first year; 90 stands for every age over 89, as in MIMIC-III."""

UNITS = ("MICU", "SICU", "CCU", "CSRU", "TSICU")
UNIT_SHARES = (0.40, 0.20, 0.18, 0.12, 0.10)
UNIT_WEIGHTS = (0.35, 0.00, -0.15, -0.80, 0.15)

ADMISSIONS = ("EMERGENCY", "ELECTIVE", "URGENT")
ADMISSION_SHARES = (0.76, 0.18, 0.06)
ADMISSION_WEIGHTS = (0.15, -0.95, 0.25)

DIAGNOSES = (
    "PNEUMONIA",
    "SEPSIS",
    "GASTROINTESTINAL BLEED",
    "STROKE",
    "CORONARY ARTERY DISEASE",
    "TRAUMA",
    "OVERDOSE",
    "RENAL FAILURE",
)
DIAGNOSIS_SHARES = (0.16, 0.15, 0.12, 0.13, 0.16, 0.10, 0.08, 0.10)
DIAGNOSIS_WEIGHTS = (0.25, 0.65, -0.15, 0.60, -0.75, -0.35, -1.05, 0.20)

BASE_LOG_ODDS = -5.0
"""Log odds of death of a reference patient without findings."""

FILLERS = (
    "resting comfortably", "family at bedside", "plan of care reviewed", "continue to monitor", "lines intact",
    "tolerating care", "will follow", "labs drawn", "skin intact", "pt seen on rounds",
)  # fmt: skip
