"""Units of privacy in the ledger: named by its first record and never mixed; ledgers of 0.1 are of patients."""

from __future__ import annotations

import pytest

from fedward.errors import PolicyError
from fedward.privacy.book import Book
from fedward.privacy.ledger import MemoryStore, verify
from tests.codes import raises

# Written by fedward 0.1: genesis, one reserved round, its settlement; and the head that 0.1 printed for it.
OF_0_1 = bytes.fromhex(
    "00000063a663636170743078312e30303030303030303030303030702b33646b696e646767656e6573697364736974656773742d616e6e6165"
    "64656c7461753078312e34663862353838653336386631702d313766666f726d617401696e616d657370616365402729cff6ec79d8ff30242a"
    "9e40f929eddfe74f6d7b4e1dd0d794d2d6392620f5000000f9aa6261741a6553f1006372756e656963752d31646b696e646772657365727665"
    "64706c616e5820000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f65726f756e64016573706c69745820fe7112"
    "95d097745a3ef8b9c41a7f6d81fcaf786c3512d4bc906e682237dc0e5468747261696e696e6781866772656c65617365743078312e32303030"
    "303030303030303030702b33743078312e30303030303030303030303030702b300167706f6973736f6e683078302e30702b306a6576616c75"
    "6174696f6e8071747261696e696e675f70617469656e7473f6736576616c756174696f6e5f70617469656e7473f6fa6ca373c0e355dfc466d7"
    "347c1f3b6b0cefa50b17b163fd14ad84c1f203ccc00000001aa2646b696e6466736574746c656b7265736572766174696f6e0199a681a932eb"
    "8c1573384cee3cc308d9f6023b248634c15cf0218499703e3c3d"
)
HEAD_OF_0_1 = "99a681a932eb8c1573384cee3cc308d9f6023b248634c15cf0218499703e3c3d"


@pytest.fixture
def old(store):
    with store.exclusive():
        pass  # makes the folder
    (store.folder / "ledger.chain").write_bytes(OF_0_1)
    (store.folder / "ledger.last").write_bytes(OF_0_1[-62:])
    return store


def test_a_ledger_of_the_first_release_verifies_and_is_of_patients(old):
    book = verify(old)
    assert book.heads[-1].hex() == HEAD_OF_0_1
    assert book.genesis.unit == "patient"
    assert book.spent() == pytest.approx(0.3823, abs=1e-3)


def test_it_goes_on_for_patients_and_refuses_every_other_unit(old, open_it, spend):
    with raises("FW-LEDGER-010"):
        open_it(old, unit="question")
    assert verify(old).heads[-1].hex() == HEAD_OF_0_1
    spend(open_it(old))
    assert len(verify(old).heads) == 4


@pytest.mark.parametrize("unit, other", [("patient", "question"), ("question", "patient"), ("document", "question")])
def test_units_never_mix_in_one_ledger(open_it, spend, unit, other):
    store = MemoryStore()
    spend(open_it(store, unit=unit))
    records = len(store.load())
    with raises("FW-LEDGER-010") as refused:
        open_it(store, unit=other)
    assert refused.type is PolicyError
    assert f"prices each {unit}" in str(refused.value)
    assert len(store.load()) == records
    assert Book.replay(store.load()).genesis.unit == unit


def test_a_budget_that_is_used_up_is_stated_with_its_unit(open_it, spend, release):
    with raises("FW-BUDGET-010", match="unit question"):
        spend(open_it(unit="question", cap_epsilon=0.1), training=[release(noise=1.0)])
