"""Shifted dates keep intervals, masked texts hold no identifier and are masked once."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.client.data.deid import rules_for
from fedward.client.preparation.dates import LONGEST_SHIFT, DateShift

KEYS = st.binary(min_size=32, max_size=32)
DAYS = st.dates(date(1951, 1, 1), date(2050, 12, 31))
FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%m/%d/%Y", "%d.%m.%Y", "%d %B %Y", "%b %d, %Y", "%d%b%Y", "%Y年%m月%d日", "%Y%m%d")


def _day(text: str, form: str) -> date:
    """A written day; "May" does not tell whether its month is abbreviated."""
    try:
        return datetime.strptime(text, form).date()
    except ValueError:
        return datetime.strptime(text, form.replace("%B", "%b")).date()


@settings(max_examples=150, deadline=None)
@given(KEYS, DAYS, DAYS, st.sampled_from(FORMS), st.sampled_from(FORMS), st.text(max_size=8))
def test_dates_keep_intervals(key: bytes, one: date, other: date, first: str, second: str, unit: str) -> None:
    shift = DateShift(key)
    moved = []
    for day, form in ((one, first), (other, second)):
        text = shift.shifted(day.strftime(form), unit)
        assert text is not None
        moved.append(_day(text, form))
    assert moved[1] - moved[0] == other - one
    assert timedelta(days=1) <= one - moved[0] <= timedelta(days=LONGEST_SHIFT)
    assert shift.moment(datetime(2020, 5, 1, 9, 30), unit) == datetime(2020, 5, 1, 9, 30) + timedelta(
        days=shift.days(unit)
    )


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["3/4", "March 2024", "3月5日", "31.02.2024", "2024-13-01", "yesterday", "", "13/13/2024"]), KEYS
)
def test_what_is_no_whole_date_is_masked(text: str, key: bytes) -> None:
    assert DateShift(key).shifted(text, "1") is None


ENGLISH = {
    "4471902": "MRN {}", "617-555-0199": "call {}", "a.lee@ward.example": "mail {}", "2024-03-05": "seen {}",
    "March 5, 2024": "since {}", "Okafor": "Mr. {}", "123-45-6789": "SSN {}", "MA 02139": "Cambridge {}",
}  # fmt: skip
CHINESE = {
    "ZY0098123": "住院号：{}", "13912345678": "电话{}", "钱大川": "患者{}，男", "2024年3月5日": "于{}入院",
    "11010519491231002X": "身份证号{}", "lan@ward.example": "邮箱{}", "310009": "邮编：{}", "wx_lan88": "微信：{}",
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([("en", ENGLISH, ". "), ("zh", CHINESE, "。")]),
    st.lists(st.integers(0, 7), min_size=1, max_size=8),
    st.lists(st.sampled_from(["BP 120/80", "", "K 4.1", "血压120/80mmHg"]), min_size=8, max_size=8),
)
def test_a_masked_text_has_no_identifier_left(
    language: tuple[str, dict[str, str], str], chosen: list[int], between: list[str]
) -> None:
    name, forms, stop = language
    parts = list(forms.items())
    text = stop.join(
        f"{parts[at][1].format(parts[at][0])}{stop}{filler}" for at, filler in zip(chosen, between, strict=False)
    )
    masked = rules_for(name)(text).text
    assert not any(parts[at][0] in masked for at in chosen)
    assert rules_for(name)(masked).text == masked
