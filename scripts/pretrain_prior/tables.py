"""Published tables of the severity of illness: points of values, weights of diagnoses, and what they say about risk.

Nothing here was fitted to anybody's patients: every number is printed in the source that stands beside it.

* ``A2``: Knaus et al., APACHE II, Crit Care Med 1985;13:818-829, table of physiologic points, ages, chronic health,
  the equation of risk and the weights of diagnostic categories (tables 3 and 4, appendix).
* ``S2``: Le Gall et al., SAPS II, JAMA 1993;270:2957-2963, table 3 and the equation of risk.
* ``A3``: Knaus et al., APACHE III, Chest 1991;100:1619-1636, points of albumin and glucose.
* ``SO``: Vincent et al., SOFA, Intensive Care Med 1996;22:707-710, points of platelets and vasopressors; their slope in
  Ferreira et al., JAMA 2001;286:1754-1758 (mortality by initial score).
* ``S3``: Singer et al., JAMA 2016;315:801-810 (septic shock at a lactate above 2 mmol/L).
"""

from __future__ import annotations

import math
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Points:
    """Points of one measurement: ``points[i]`` from ``edges[i - 1]`` up to but not including ``edges[i]``."""

    edges: tuple[float, ...]
    points: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """Points of ``value``."""
        return self.points[bisect_right(self.edges, value)]


# In the units of the threshold table, client/data/thresholds.toml.
APACHE_II: Mapping[str, Points] = {
    "temperature": Points((30.0, 32.0, 34.0, 36.0, 38.5, 39.0, 41.0), (4, 3, 2, 1, 0, 1, 3, 4)),
    "blood pressure": Points((50.0, 70.0, 110.0, 130.0, 160.0), (4, 2, 0, 2, 3, 4)),
    "heart rate": Points((40.0, 55.0, 70.0, 110.0, 140.0, 180.0), (4, 3, 2, 0, 2, 3, 4)),
    "breathing": Points((6.0, 10.0, 12.0, 25.0, 35.0, 50.0), (4, 2, 1, 0, 1, 3, 4)),
    "oxygen pressure": Points((55.0, 61.0, 71.0), (4, 3, 1, 0)),
    "acidity": Points((7.15, 7.25, 7.33, 7.5, 7.6, 7.7), (4, 3, 2, 0, 1, 3, 4)),
    "sodium": Points((111.0, 120.0, 130.0, 150.0, 155.0, 160.0, 180.0), (4, 3, 2, 0, 1, 2, 3, 4)),
    "potassium": Points((2.5, 3.0, 3.5, 5.5, 6.0, 7.0), (4, 2, 1, 0, 1, 3, 4)),
    "creatinine": Points((0.6, 1.5, 2.0, 3.5), (2, 0, 2, 3, 4)),
    "hematocrit": Points((20.0, 30.0, 46.0, 50.0, 60.0), (4, 2, 0, 1, 2, 4)),
    "leukocytes": Points((1.0, 3.0, 15.0, 20.0, 40.0), (4, 2, 0, 1, 2, 4)),
    "coma scale": Points(tuple(float(n) for n in range(4, 16)), tuple(float(15 - n) for n in range(3, 16))),
}
SAPS_II: Mapping[str, Points] = {
    "heart rate": Points((40.0, 70.0, 120.0, 160.0), (11, 2, 0, 4, 7)),
    "temperature": Points((39.0,), (0, 3)),
    "urine": Points((500.0, 1000.0), (11, 4, 0)),
    "urea": Points((28.0, 84.0), (0, 6, 10)),
    "leukocytes": Points((1.0, 20.0), (12, 0, 3)),
    "potassium": Points((3.0, 5.0), (3, 0, 3)),
    "sodium": Points((125.0, 145.0), (5, 0, 1)),
    "bicarbonate": Points((15.0, 20.0), (6, 3, 0)),
    "bilirubin": Points((4.0, 6.0), (0, 4, 9)),
    "coma scale": Points((6.0, 9.0, 11.0, 14.0), (26, 13, 7, 5, 0)),
    # The table is of systolic pressure, below 70, 100 and from 200 mmHg; mean pressures of the same bands.
    "blood pressure": Points((50.0, 70.0, 140.0), (13, 5, 0, 2)),
}
# Points of the later tables, in points of SAPS II: both scales were fitted to the same outcome, and a point of SOFA
# moves the logit by about .3 (Ferreira), one of APACHE III by about .04, one of SAPS II by about .09 near its middle.
LATER: Mapping[str, Points] = {
    "albumin": Points((2.0, 2.5, 4.5), (5, 3, 0, 2)),  # A3: 11, 6, 0, 4
    "glucose": Points((40.0, 60.0, 200.0, 350.0), (4, 4, 0, 1, 2)),  # A3: 8, 9, 0, 3, 5
    "platelets": Points((20.0, 50.0, 100.0, 150.0), (13, 10, 7, 3, 0)),  # SO: 4, 3, 2, 1, 0
    "lactate": Points((2.0, 4.0), (0, 5, 10)),  # S3: shock, and its severe form
}
VENTILATED = 7.0  # S2: PaO2/FiO2 under ventilation, 6 to 11 points
VASOPRESSORS = 10.0  # SO: 3 points

AGE_A2 = Points((45.0, 55.0, 65.0, 75.0), (0, 2, 3, 5, 6))
AGE_S2 = Points((40.0, 60.0, 70.0, 75.0, 80.0), (0, 7, 12, 15, 16, 18))

# Chronic disease, by the words of the texts: points of S2. In A2 any has five, or two before elective surgery.
CHRONIC: Mapping[str, float] = {
    "metastatic cancer": 9.0,
    "leukemia": 10.0,
    "lymphoma": 10.0,
    "aids": 17.0,
    "immune suppression": 4.0,  # A3: 10, 4 and 16
    "cirrhosis": 2.0,
    "liver failure": 7.0,
}

SCHEDULED, UNSCHEDULED, MEDICAL = 0.0, 8.0, 6.0  # S2: type of admission
EMERGENCY_SURGERY = 0.603  # A2, in the equation


def risk_apache(points: float, diagnosis: float, *, emergency_surgery: bool) -> float:
    """Logit of hospital death by APACHE II: -3.517 + .146 points + .603 after emergency surgery + weight."""
    return -3.517 + 0.146 * points + (EMERGENCY_SURGERY if emergency_surgery else 0.0) + diagnosis


def risk_saps(points: float) -> float:
    """Logit of hospital death by SAPS II: -7.7631 + .0737 points + .9971 ln(points + 1)."""
    return -7.7631 + 0.0737 * points + 0.9971 * math.log(points + 1.0)


@dataclass(frozen=True)
class Category:
    """A diagnostic category of APACHE II: its weight, and names that coding lists of intensive care give it."""

    weight: float
    surgical: bool
    names: tuple[str, ...]


@cache
def categories() -> tuple[Category, ...]:
    """The committed list."""
    listed = tomllib.loads((Path(__file__).parent / "categories.toml").read_text(encoding="utf-8"))["category"]
    return tuple(Category(row["weight"], row["surgical"], tuple(row["names"])) for row in listed)
