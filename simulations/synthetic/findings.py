"""Findings that a synthetic patient can have, how often, how it is written and what it adds to the risk of death.

Weights are log odds ratios. They are invented so that the best possible AUROC is about 0.865 at a
mortality of about 20 %; they are no medical knowledge.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a note says about a patient, with interchangeable ways to say that it is there and that it is not."""

    name: str
    prevalence: float  # share of patients at an average hospital
    weight: float  # log odds ratio of death when present
    present: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabFinding:
    """An abnormal laboratory value."""

    name: str  # a measurement of the public threshold table
    word: str  # its bucket when abnormal
    severe: str  # a worse bucket
    prevalence: float  # share of patients with either
    weight: float  # log odds ratio of ``word``; ``severe`` counts 1.6 times as much
    other: str = ""  # a bucket on the harmless side, drawn rarely; empty if the table has none


SEVERE_FACTOR = 1.6
SEVERE_SHARE = 0.3
OTHER_SHARE = 0.04


def _ways(said: str) -> tuple[str, ...]:
    return tuple(said.split("/"))


_NOTED = (
    ("fever", 0.25, 0.40, "fever/febrile/spiking temperatures", "no fever/afebrile/denies fever"),
    ("hypotension", 0.22, 1.15, "hypotension/hypotensive/low blood pressure", "no hypotension/normotensive"),
    ("tachycardia", 0.24, 0.35, "tachycardia/tachycardic/rapid heart rate", "no tachycardia/regular heart rate"),
    ("dyspnea", 0.26, 0.55, "dyspnea/short of breath/shortness of breath", "no dyspnea/denies shortness of breath"),
    ("ventilation", 0.20, 1.25, "intubated/on ventilator/mechanically ventilated", "not intubated/breathing room air"),
    ("vasopressors", 0.15, 1.40, "on norepinephrine/on pressors/vasopressor support", "no pressors/off pressors"),
    ("confusion", 0.20, 0.80, "confused/altered mental status/disoriented", "no confusion/alert and oriented"),
    ("chest pain", 0.18, -0.65, "chest pain/chest tightness", "no chest pain/denies chest pain"),
    ("bleeding", 0.14, 0.45, "bleeding/hemorrhage", "no bleeding/no hemorrhage"),
    ("oliguria", 0.15, 1.00, "oliguria/oliguric/low urine output", "no oliguria/good urine output"),
    ("metastases", 0.10, 1.25, "metastatic cancer/metastases/metastatic disease", "no malignancy/no cancer"),
    ("heart failure", 0.18, 0.55, "heart failure/chf", "no heart failure/no chf"),
    ("diabetes", 0.24, 0.00, "diabetes/diabetic", "no diabetes/not diabetic"),
    ("vomiting", 0.14, 0.00, "vomiting/emesis", "no vomiting/denies nausea"),
    ("jaundice", 0.08, 0.80, "jaundice/jaundiced/icteric", "no jaundice/anicteric"),
    ("recovery", 0.22, -1.05, "recovering well/ambulating/eating well", "not ambulating/bed bound"),
)
FINDINGS = tuple(
    Finding(name, prevalence, weight, _ways(present), _ways(absent))
    for name, prevalence, weight, present, absent in _NOTED
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

INTERACTION = ("hypotension", "lactate", 0.70)  # in a note and in the laboratory: worse together than their sum

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

DIAGNOSES = _ways(
    "PNEUMONIA/SEPSIS/GASTROINTESTINAL BLEED/STROKE/CORONARY ARTERY DISEASE/TRAUMA/OVERDOSE/RENAL FAILURE"
)
DIAGNOSIS_SHARES = (0.16, 0.15, 0.12, 0.13, 0.16, 0.10, 0.08, 0.10)
DIAGNOSIS_WEIGHTS = (0.25, 0.65, -0.15, 0.60, -0.75, -0.35, -1.05, 0.20)

BASE_LOG_ODDS = -5.0  # of death of a reference patient without findings

FILLERS = _ways(
    "resting comfortably/family at bedside/plan of care reviewed/continue to monitor/lines intact/tolerating care/"
    "will follow/labs drawn/skin intact/pt seen on rounds"
)
