"""The noise in every sum of six hospitals, two of which drop out, beside the price that their ledgers hold of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from fedward.client import records
from fedward.client.flower import make_client_app
from fedward.client.hospital import starting_state
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import resolve
from fedward.messages import Stage
from fedward.planning.budget import RunBudget
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import SyntheticHospitalConfig, load_scenario
from fedward.planning.statistics import make_statistics_plan
from fedward.privacy import noise
from fedward.privacy.accounting import epsilon, epsilon_everybody
from fedward.privacy.secagg.encoding import decode
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.server import SecAggServer
from fedward.run import EVALUATION, GRADIENT, SURVEY, TRAINING, Run
from fedward.server.flower import GridTransport
from fedward.server.rounds import Coordinator
from fedward.simulations.federation import InProcessGrid, Vanishing
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital, make_sites

pytestmark = pytest.mark.slow
ROUNDS, NAME, SEED = 9, "noise-1", 11
HOSPITALS = 6
RARELY = 1e-6  # sampling rate at which nobody is in a step, so that a gradient is its noise


def plan_of(placement: str, statistics: str | None, *, survey: bool = False):
    scenario = load_scenario("default")
    sites = [SyntheticHospitalConfig(name=f"site-{i}", patients=40) for i in range(HOSPITALS)]
    training = {"rounds": ROUNDS, "local_steps": 1}
    privacy = {"units_per_site": 60, "release_every": 1, "evaluate_every": 1, "placement": placement}
    scenario = scenario.model_copy(
        update={
            "data": scenario.data.model_copy(update={"site": sites}),
            "training": scenario.training.model_copy(update=training),
            "privacy": scenario.privacy.model_copy(update={**privacy, "statistics_noise": statistics}),
            "statistics": scenario.statistics.model_copy(update={"variables": ("label", "measurements")}),
        }
    )
    if survey:
        return scenario, make_statistics_plan(scenario)
    plan = make_plan(scenario, resolve(scenario.model))
    rates = {"learning_rate_head": RARELY, "learning_rate_lora": RARELY}
    update = {"privacy": plan.privacy.model_copy(update={"sampling_rate": RARELY})}
    if placement == "secure-grad":  # the divisor is small: so are the steps, lest the adapter leave the numbers
        update["optimizer"] = plan.optimizer.model_copy(update=rates)
    return scenario, plan.model_copy(update=update)


@dataclass
class Heard:
    """What the hospitals held before they added noise, in grid units, and what the coordinator decoded."""

    exact: dict[tuple[int, str, int], np.ndarray] = field(default_factory=dict)  # by round, hospital, size
    sums: list[tuple[int, tuple[str, ...], dict[str, np.ndarray]]] = field(default_factory=list)
    steps: dict[str, list[np.ndarray]] = field(
        default_factory=lambda: defaultdict(list)
    )  # gradients that moved weights
    speaker: str = ""
    turn: int = 0

    def listen(self, monkeypatch, hospitals) -> None:
        """Notes what goes into the noise of a share, and every gradient of a local step; the noise itself is real."""
        real, add, move = noise.noisy_release, noise.GradientSpec.with_share, torch.optim.Adam.step

        def released(values, **terms):
            self.exact[self.turn, self.speaker, values.size] = values.copy()
            return real(values, **terms)

        def shared(spec, total, stream):
            self.exact[self.turn, self.speaker, total.size] = total.copy()
            return add(spec, total, stream)

        def moved(optimizer, closure=None):
            parts = [p.grad.numpy().ravel() for group in optimizer.param_groups for p in group["params"]]
            self.steps[self.speaker].append(np.concatenate(parts).astype(np.float64))
            return move(optimizer, closure)

        monkeypatch.setattr(records, "noisy_release", released)
        monkeypatch.setattr(noise.GradientSpec, "with_share", shared)
        monkeypatch.setattr(torch.optim.Adam, "step", moved)
        for hospital in hospitals:
            monkeypatch.setattr(hospital, "_values", self._spoken(hospital))

    def _spoken(self, hospital):
        values = hospital._values

        def spoken(number, honest):
            self.turn, self.speaker = number, hospital.name
            return values(number, honest)

        return spoken

    def keep(self, summary, done) -> None:
        grids = {segment.name: segment.step for segment in done.layout.segments}
        decoded = {name: values / grids[name] for name, values in decode(done.sum).items()}
        self.sums.append((summary.round, tuple(done.survivors), decoded))


def play(scenario, plan, folder, monkeypatch):
    """All rounds by the code of a run; one hospital vanishes in a third of them and another in two thirds."""
    files = None if plan.statistics is not None else resolve(scenario.model)
    run = Run.of_statistics(plan) if files is None else resolve_run(plan, files.config())
    model = None if files is None else build_model(run, files)
    sites = make_sites(scenario, plan)
    encoded = [
        EncodedSite.count(site, run) if files is None else EncodedSite.encode(site, run, files, model) for site in sites
    ]
    agreement, heard = agree(run, [site.name for site in sites]), Heard()
    with RunBudget(run, NAME, folder, cap=1000.0).open([site.name for site in sites]) as ledgers:
        hospitals = [
            make_hospital(run, site, files, agreement, Randomness(SEED), ledger=ledgers[site.name], microbatch=None)
            for site in encoded
        ]
        heard.listen(monkeypatch, hospitals)
        gone = [Vanishing(each, 1 + run.rounds * k // 3, Stage.MASK) for k, each in enumerate(hospitals[:2], start=1)]
        grid = InProcessGrid({n: make_client_app(s) for n, s in enumerate([*gone, *hospitals[2:]], start=2)})
        try:
            transport = GridTransport(grid)
            transport.discover([hospital.name for hospital in hospitals], seconds=60)
            Coordinator(
                run=run,
                name=NAME,
                adapter=starting_state(run, model),
                secagg=SecAggServer(identity=agreement.coordinator, roster=agreement.signed, journal=MemoryJournal()),
                colluders=agreement.roster.colluders,
                transport=transport,
                on_round=heard.keep,
            ).run()
        finally:
            grid.close()
        charged = {number: ledgers[survivors[0]].book.reservation(NAME, number) for number, survivors, _ in heard.sums}
    return run, heard, charged


def sensitivity(run, name: str, shares: int) -> float:
    if name == GRADIENT:
        return run.gradient_spec(honest=shares).sensitivity_grid
    releases = {TRAINING: run.training_release, EVALUATION: run.evaluation_release}
    return (run.survey_release if name == SURVEY else releases[name]).l2_sensitivity_grid


def price(name: str, charge):
    """The event that a ledger holds of one segment."""
    kind = "dpsgd" if name == GRADIENT else "release"
    events = charge.evaluation if name == EVALUATION else charge.training
    (event,) = [event for event in events if event.kind == kind]
    return event


def noise_over_price(run, heard, charged, name: str) -> tuple[np.ndarray, set[int], set[int]]:
    """The noise of every sum that has the segment over the standard deviation that its price and survivors lead to."""
    found, counts, shares = [], set(), set()
    for number, survivors, decoded in heard.sums:
        if name not in decoded:
            continue
        size, event = decoded[name].size, price(name, charged[number])
        exact = sum(heard.exact[number, site, size] for site in survivors)
        whole = noise.total_sigma(event.noise_multiplier, sensitivity(run, name, event.shares))
        found.append((np.rint(decoded[name]) - exact) / (whole * np.sqrt(len(survivors) / event.shares)))
        counts.add(len(survivors))
        shares.add(event.shares)
    return np.concatenate(found), counts, shares


def assert_standard(values: np.ndarray) -> None:
    """Variance 1 within the 99.9 % interval of so many draws; the noise is seeded, so it is the same in every run."""
    low, high = chi2.interval(0.999, values.size) / np.float64(values.size)
    assert low < np.mean(values**2) < high


@pytest.mark.parametrize(
    ("placement", "statistics", "split"),
    [
        ("local", None, False),
        ("local", "shared", True),
        ("secure-grad", None, True),
        ("secure-grad", "own", False),
    ],
)
def test_every_segment_has_the_noise_that_its_price_says(tmp_path, monkeypatch, placement, statistics, split):
    run, heard, charged = play(*plan_of(placement, statistics), tmp_path, monkeypatch)
    segments = {name for _, _, decoded in heard.sums for name in decoded}
    assert segments == {TRAINING, EVALUATION, GRADIENT if placement == "secure-grad" else "delta"}
    for name in segments - {"delta"}:
        values, counts, shares = noise_over_price(run, heard, charged, name)
        assert_standard(values)
        assert counts == {4, 5, 6}, "hospitals have dropped out on the way"
        assert shares == ({3} if name == GRADIENT or split else {1})
    if placement == "local":  # each hospital's own steps carry all of it, whoever else is there
        whole = run.plan.privacy.noise_multiplier * run.plan.privacy.clip
        for site in heard.steps:
            assert_standard(np.concatenate(heard.steps[site]) * run.plan.privacy.expected_batch / whole)
        assert len(heard.steps) == HOSPITALS


@pytest.mark.parametrize(("statistics", "split"), [("own", False), ("shared", True)])
def test_counts_before_training_have_the_noise_that_their_price_says(tmp_path, monkeypatch, statistics, split):
    run, heard, charged = play(*plan_of("local", statistics, survey=True), tmp_path, monkeypatch)
    values, counts, shares = noise_over_price(run, heard, charged, SURVEY)
    assert_standard(values)
    assert (counts, shares) == ({4}, {3 if split else 1})
    events = charged[1].training
    assert (epsilon_everybody(events, 1e-5) == epsilon(events, 1e-5).epsilon) == (not split)
