"""The folder of a result: whole or absent, and an earlier one survives every failure."""

from pathlib import Path

import pytest

from fedward.simulations.run import Options, staged


@pytest.fixture
def earlier(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "result.json").write_text("earlier", encoding="utf-8")
    return out


def write(options):
    with staged(options) as folder:
        (folder / "result.json").write_text("new", encoding="utf-8")


def test_a_new_result_takes_the_place_of_the_earlier_one(earlier):
    write(Options(out=earlier, force=True))
    assert (earlier / "result.json").read_text(encoding="utf-8") == "new"
    assert [path.name for path in earlier.parent.iterdir()] == ["run"]


def test_a_failed_run_leaves_the_earlier_result_and_nothing_else(earlier):
    with pytest.raises(KeyError), staged(Options(out=earlier, force=True)) as folder:
        (folder / "half").touch()
        raise KeyError
    assert (earlier / "result.json").read_text(encoding="utf-8") == "earlier"
    assert [path.name for path in earlier.parent.iterdir()] == ["run"]


def test_a_failed_move_puts_the_earlier_result_back(earlier, monkeypatch):
    move = Path.replace

    def disk_full(self, target):
        if (self / "result.json").read_text(encoding="utf-8") == "new":
            raise OSError(28, "No space left on device")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", disk_full)
    with pytest.raises(OSError, match="No space"):
        write(Options(out=earlier, force=True))
    assert (earlier / "result.json").read_text(encoding="utf-8") == "earlier"
    assert [path.name for path in earlier.parent.iterdir()] == ["run"]
