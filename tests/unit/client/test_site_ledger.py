"""What a site's file says about its ledger is what the ledger does."""

from __future__ import annotations

import pytest

from fedward.client.daemon.doctor import examine
from fedward.client.daemon.service import open_site_ledger
from fedward.client.daemon.settings import ClientConfig
from fedward.config import parse
from fedward.errors import ConfigError
from fedward.plan import Plan
from fedward.privacy.events import Event
from fedward.privacy.ledger import FileStore, MemoryStore
from tests.codes import raises

PLAN = Plan(name="icu", base_model_sha256="ab" * 32)
COST = Event("release", 1.5, 1.0, 1)


@pytest.fixture
def configure(tmp_path):
    key = tmp_path / "namespace.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)

    def make(*, named=False, policy=None, **ledger) -> ClientConfig:
        if named:
            ledger |= {"namespace": "mrn", "namespace_key": str(key)}
        document = {
            "site": {"name": "st-anna", "state_dir": str(tmp_path / "state")},
            "coordinator": {"url": "https://127.0.0.1:9"},
            "data": {"icu": {"path": "/srv", "format": "mimic-iii"}},
            "policy": {
                "min_units": 20,
                "max_epsilon_per_run": 4.0,
                "max_epsilon_lifetime": 4.0,
                "allowed_base_models": [],
                **(policy or {}),
            },
            "ledger": ledger,
        }
        return parse(document, ClientConfig, source="client.toml")

    return make


@pytest.fixture
def spend(tmp_path):
    """Spends most of the cap on some training patients."""

    def make(config, run, train):
        store = FileStore(tmp_path / "state" / "ledger")
        ledger = open_site_ledger(config, store, PLAN, train=train, evaluation=["e"])
        return ledger.reserve(run=run, plan_hash=PLAN.hash(), round_number=1, training=[COST])

    return make


def test_without_a_namespace_every_run_counts_for_everybody(configure, spend):
    spend(configure(), "one", ["a"])
    with raises("FW-BUDGET-010"):
        spend(configure(), "two", ["b"])


def test_with_a_namespace_other_patients_have_budgets_of_their_own(configure, spend):
    spend(configure(named=True), "one", ["a"])
    spend(configure(named=True), "two", ["b"])
    with raises("FW-BUDGET-010"):
        spend(configure(named=True), "three", ["c", "b"])


def test_a_namespace_is_declared_when_the_ledger_begins(configure, spend):
    spend(configure(), "one", ["a"])
    with raises("FW-LEDGER-004"):
        spend(configure(named=True), "two", ["b"])


def test_a_ledger_put_back_is_found_by_the_anchor_of_the_file(configure, spend, tmp_path):
    config = configure(anchor_file=str(tmp_path / "other" / "anchor"), policy={"max_epsilon_lifetime": 8.0})
    spend(config, "one", ["a"])
    kept = {path: path.read_bytes() for path in (tmp_path / "state" / "ledger").iterdir()}
    spend(config, "two", ["a"])
    for path, content in kept.items():
        path.write_bytes(content)
    with raises("FW-LEDGER-002"):
        spend(config, "three", ["a"])


def test_a_rehearsal_on_a_copy_leaves_the_anchor_alone(configure, tmp_path):
    config = configure(anchor_file=str(tmp_path / "other" / "anchor"))
    open_site_ledger(config, MemoryStore(), PLAN, train=["a"], evaluation=["e"])
    assert not (tmp_path / "other").exists()


def test_the_doctor_misses_an_anchor_that_is_gone(configure, spend, tmp_path):
    config = configure(anchor_file=str(tmp_path / "other" / "anchor"))
    spend(config, "one", ["a"])

    def ledger() -> str:
        return next(finding.level for finding in examine(config, offline=True) if finding.name == "ledger")

    before = ledger()
    (tmp_path / "other" / "anchor").unlink()
    assert (before, ledger()) == ("ok", "FAIL")


@pytest.mark.parametrize(
    "ledger",
    [{"namespace": "mrn"}, {"namespace_key": "/etc/key"}, {"anchor_file": "relative"}, {"anchor_file": "STATE/x"}],
)
def test_half_a_namespace_or_an_anchor_in_the_state_folder_is_refused(configure, tmp_path, ledger):
    ledger = {key: value.replace("STATE", str(tmp_path / "state")) for key, value in ledger.items()}
    with pytest.raises(ConfigError):
        configure(**ledger)
