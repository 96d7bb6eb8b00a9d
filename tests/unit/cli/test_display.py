"""What a coordinator wrote is shown as text, whatever it holds."""

from types import SimpleNamespace

import pytest

from fedward.cli.roster import _print
from fedward.cli.shared import plain


@pytest.mark.parametrize("trick", ["\x1b[2K\r", "\n  epsilon: 0.1", "\u202e", "\x07", "\x9b1A", "\u2028", "\t"])
def test_what_a_terminal_would_obey_is_not_printed(trick):
    assert plain(f"a{trick}b").isprintable()


def test_letters_of_any_language_stay():
    assert plain("Universitätsklinikum Kraków, 東京 (ε = 2)") == "Universitätsklinikum Kraków, 東京 (ε = 2)"


def test_a_roster_cannot_write_over_its_own_lines(capsys):
    shown = SimpleNamespace(
        federation="demo\x1b[2J[bold]all approved[/bold]",
        members=[],
        coordinator_fingerprint="1a2b",
        roster_fingerprint="3c4d",
        core="00" * 32,
        colluders=1,
        threshold=3,
        dropouts=0,
        min_cohort=3,
        unsafe_two_party=False,
    )
    _print(shown)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "[bold]" in text
