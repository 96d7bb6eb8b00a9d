"""Stored adapters are believed only if they are, bit for bit, what the chain of results names."""

from dataclasses import replace

import numpy as np
import pytest

from fedward.adapter import AdapterLayout, adapter_hash
from fedward.client.result_verification import Snapshot, Snapshots
from fedward.privacy.secagg.journal import ChainHead, FileJournal, MemoryJournal
from fedward.storage import JournalError
from fedward.strategies.optimizers import NOTHING
from tests.codes import raises

LAYOUT = AdapterLayout.of([("a", (2, 3)), ("b", (4,))])
ADAPTER = np.linspace(-1, 1, LAYOUT.size, dtype=np.float32)
MEMORY = np.linspace(0, 3, 7)


def head_of(adapter, round_number=1):
    return ChainHead(round_number, bytes([round_number]) * 32, adapter_hash(adapter, LAYOUT))


@pytest.fixture(params=["memory", "file"])
def journal(request, tmp_path):
    return MemoryJournal() if request.param == "memory" else FileJournal(tmp_path, b"k" * 32).beside("adapters")


def test_an_adapter_comes_back_bit_for_bit(journal):
    snapshots, second = Snapshots(journal, LAYOUT), ADAPTER * 2
    snapshots.put(head_of(ADAPTER), ADAPTER, NOTHING)
    snapshots.put(head_of(second, 2), second, MEMORY)
    adapter, memory = snapshots.load(head_of(ADAPTER))
    assert (adapter.tobytes(), memory.tobytes()) == (ADAPTER.tobytes(), b"")
    adapter, memory = snapshots.load(head_of(second, 2))
    assert (adapter.tobytes(), memory.tobytes()) == (second.tobytes(), MEMORY.tobytes())
    adapter[0] = 5
    snapshots.keep_only(head_of(second, 2))
    assert Snapshots(journal, LAYOUT).load(head_of(second, 2))[0].tobytes() == second.tobytes()
    with raises("FW-INTEGRITY-023"):
        snapshots.load(head_of(ADAPTER))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, round=2),
        lambda s: replace(s, result_hash=b"x" * 32),
        lambda s: replace(s, adapter_hash=b"x" * 32),
        lambda s: replace(s, adapter=s.adapter[:-4] + b"\0\0\0\0"),
        lambda s: replace(s, adapter=s.adapter[:-4]),
        lambda s: replace(s, adapter=s.adapter[:-1]),
        lambda s: replace(s, memory=b"\0" * 7),
        lambda s: b"",
        lambda s: s.to_bytes()[:-1],
    ],
)
def test_anything_else_under_its_name_is_refused(change):
    journal, head = MemoryJournal(), head_of(ADAPTER)
    snapshots = Snapshots(journal, LAYOUT)
    snapshots.put(head, ADAPTER, NOTHING)
    (name,) = journal._vectors
    changed = change(Snapshot.from_bytes(journal._vectors[name]))
    journal.put(name, changed if isinstance(changed, bytes) else changed.to_bytes())
    with raises("FW-INTEGRITY-023") as refusal:
        snapshots.load(head)
    assert (refusal.value.code, refusal.value.exit_code) == ("FW-INTEGRITY-023", 11)


def test_a_head_of_another_adapter_finds_nothing_to_believe():
    snapshots = Snapshots(MemoryJournal(), LAYOUT)
    other = replace(head_of(ADAPTER * 2))
    snapshots.put(other, ADAPTER, NOTHING)  # the file says so, the bits do not
    with raises("FW-INTEGRITY-023"):
        snapshots.load(other)


def test_journals_of_one_party_do_not_open_each_others_files(tmp_path):
    first = FileJournal(tmp_path, b"k" * 32)
    second, third = first.beside("adapters"), first.beside("others")
    for journal in (first, second, third):
        journal.save(b"state")
    state = (tmp_path / "adapters" / "state").read_bytes()
    for folder, journal in ((tmp_path, first), (tmp_path / "others", third)):
        (folder / "state").write_bytes(state)
        with pytest.raises(JournalError):
            journal.load()
    assert second.load() == b"state"
