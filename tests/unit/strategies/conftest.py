import pytest

from fedward.plan import Plan


@pytest.fixture
def plan_of():
    """Builds a plan; keyword arguments are its fields, sections as dictionaries."""

    def make(strategy="ffa", **fields):
        return Plan.model_validate({"name": "run", "base_model_sha256": "0" * 64, "strategy": strategy, **fields})

    return make
