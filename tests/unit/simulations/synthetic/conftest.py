from __future__ import annotations

from pathlib import Path

import pytest

from fedward.simulations.synthetic import HospitalSpec, SyntheticHospital, draw, write_mimic3


@pytest.fixture(scope="module")
def hospital() -> SyntheticHospital:
    return draw([HospitalSpec("A", 300, covariate_shift=0.3)], 7)[0]


@pytest.fixture(scope="module")
def written(hospital: SyntheticHospital, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital")
    write_mimic3(hospital, folder)
    return folder
