"""report.html: self-contained, escaped, honest about privacy and about what nobody sees."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from fedward.simulations.report import render, write_report
from fedward.simulations.report.view import CHART_HEIGHT, CHART_WIDTH, line_chart, nice_ticks, scale
from fedward.simulations.result import RunResult

BLOCKS = {"p", "dt", "dd", "th", "td", "li", "div", "h1", "h2"}
VOID = {"meta", "br", "line", "circle", "polyline"}


class Outline(HTMLParser):
    """Checks that tags close in order and collects attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in BLOCKS:
            self.text += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data


def words(page: str) -> str:
    return " ".join(Outline(page).text.split())


def test_the_page_is_well_formed_and_loads_nothing(result, public_result):
    for each in (result, public_result):
        page = render(each)
        outline = Outline(page)
        assert outline.open == []
        assert page.startswith("<!doctype html>")
        assert "<script" not in page
        assert "url(" not in page
        names = {name for _, name, _ in outline.attributes}
        assert not names & {"src", "href", "style", "onclick", "onload", "xlink:href"}


def test_the_policy_allows_exactly_the_style_of_the_page(result):
    page = render(result)
    style = re.search(r"<style>(.*)</style>", page, flags=re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in page


def test_the_headline_says_what_was_measured(result):
    text = words(render(result))
    assert "Six hospitals trained one model" in text
    assert "It reaches AUROC 0.838; the hospitals training alone reach 0.771 on average" in text
    assert "pooling all records in one place 0.849" in text
    assert "the right one is put first" in text
    assert "+0.066" in text
    assert "8.00 at delta 1e-5" in text
    assert "11.9 kB" in text


def test_a_private_run_has_no_banner_and_a_full_certificate(result):
    text = words(render(result))
    assert "NON-PRIVATE" not in text
    for statement in (
        "one patient, with all of that patient's records",
        "add or remove one patient",
        "Poisson over patients, rate q = 0.2",
        "T = 40",
        "C = 0.5 per patient",
        "sigma = 0.8723",
        "agrees: PRV 8.03",
        "A patient treated at two hospitals: the epsilons add.",
    ):
        assert statement in text
    assert result.adapter_sha256 in text
    assert "anonymous" not in text.lower()
    assert "proven" not in text.lower()


def test_a_run_without_privacy_says_so_first_and_invents_nothing(public_result):
    text = words(render(public_result))
    assert text.index("NON-PRIVATE") < text.index("trained one model")
    assert "The scenario trains without differential privacy." in text
    assert "Epsilon none: the run has no differential privacy" in text
    assert "coin flip" not in text
    assert "best possible" not in text
    assert "Pooled central" not in text


def test_a_seeded_run_calls_its_epsilon_nominal(result):
    raw = result.model_dump()
    raw["privacy"]["private"] = False
    raw["non_private_reasons"] = ("The noise was seeded and can be reproduced.",)
    text = words(render(RunResult.model_validate(raw)))
    assert "The noise was seeded" in text
    assert "nominal: this run is NON-PRIVATE" in text
    assert "coin flip" not in text


def test_exact_evaluation_is_named_as_not_covered(result):
    raw = result.model_dump()
    raw["privacy"]["evaluation"] |= {"noise_multiplier": None, "epsilon": None, "delta": None}
    assert "exact and NOT covered" in words(render(RunResult.model_validate(raw)))


def test_the_hospital_table_is_marked_as_seen_by_nobody(result):
    text = words(render(result))
    assert "Simulator's omniscient view" in text
    assert text.index("No coordinator sees these numbers.") < text.index("alder")
    for hospital in result.hospitals:
        assert hospital.name in text


def test_an_inexact_sum_or_a_failed_cross_check_is_loud(result):
    raw = result.model_dump()
    raw["secure_sum"]["exact"] = False
    raw["privacy"]["cross_check"]["agrees"] = False
    text = words(render(RunResult.model_validate(raw)))
    assert "NO the unmasked sum differed" in text
    assert "DISAGREES" in text


def test_names_from_a_scenario_cannot_inject_markup(result):
    raw = result.model_dump()
    raw["scenario"]["name"] = "<script>alert(1)</script>"
    raw["hospitals"][0]["name"] = '"><img src=x>'
    page = render(RunResult.model_validate(raw))
    assert "<script" not in page
    assert "<img" not in page


def test_a_run_without_any_defined_score_still_reports(result):
    raw = result.model_dump()
    raw["scores"] = dict.fromkeys(raw["scores"]) | {"others": {}, "central_others": {}, "untrained_others": {}}
    raw["curve"] = ()
    for hospital in raw["hospitals"]:
        for key in [key for key in hospital if key.startswith(("alone", "federated"))]:
            hospital[key] = None
    text = words(render(RunResult.model_validate(raw)))
    assert "AUROC is not defined on these evaluation patients." in text


def test_write_report_is_reproducible(result, tmp_path):
    path = write_report(result, tmp_path)
    assert path.name == "report.html"
    assert path.read_text(encoding="utf-8") == render(result)


@pytest.mark.parametrize(("low", "high"), [(0, 8), (0.31, 0.69), (-3, 5), (1e-5, 3e-5), (0.84, 0.85)])
def test_ticks_are_round_and_enclose_the_data(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 3 <= len(ticks) <= 8


def test_a_chart_stays_inside_its_frame_and_breaks_at_gaps():
    chart = line_chart([0, 1, 2, 3, 4], [0.5, 0.6, None, 0.7, 0.9], references=[(1.0, "end", "limit")])
    assert len(chart.lines) == 2
    assert len(chart.dots) == 4
    for x, y in chart.dots:
        assert chart.left <= x <= CHART_WIDTH
        assert 0 <= y <= CHART_HEIGHT
    assert chart.dots[0][1] > chart.dots[-1][1], "a larger value is drawn higher"
    assert chart.references[0].at <= chart.dots[-1][1]
    assert line_chart([0, 1], [None, None]) is None
    assert line_chart([1], [0.7]).dots


def test_a_scale_maps_its_ends_to_the_edges():
    axis = scale([0.71, 0.88], floor=0.0, ceiling=1.0)
    assert axis.at(axis.low) == 0
    assert axis.at(axis.high) == 100
    assert axis.low <= 0.71 < 0.88 <= axis.high <= 1.0
