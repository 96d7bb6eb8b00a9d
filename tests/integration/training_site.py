"""A training hospital as a process of its own, for the integration test. Settings are JSON in argv.

It draws its synthetic records from the scenario, as the simulator does, and serves the same ClientApp.
"""

import json
import sys
import threading
from pathlib import Path

import torch

from fedward.client.flower import make_client_app, serve
from fedward.client.link import Endpoint
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import resolve
from fedward.config import load_toml
from fedward.plan import Plan
from fedward.planning.budget import RunBudget
from fedward.planning.scenario import load_scenario
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.journal import FileJournal
from fedward.privacy.secagg.roster import verify_roster
from fedward.run import Run
from fedward.simulations.parties import Agreement, EncodedSite, Randomness, make_hospital, make_sites


def main():
    settings = json.loads(sys.argv[1])
    folder, name = Path(settings["folder"]), settings["name"]
    torch.set_num_threads(1)
    plan = load_toml(folder / "plan.toml", Plan)
    scenario = load_scenario(str(folder / "scenario.toml"))
    (site,) = [site for site in make_sites(scenario, plan) if site.name == name]
    signed = (folder / "roster.cbor").read_bytes()
    identity = Identity.from_file(name, folder / f"{name}.key")
    agreement = Agreement(identity, {name: identity}, signed, verify_roster(signed).roster)
    files = None if plan.statistics is not None else resolve(scenario.model)
    run = Run.of_statistics(plan) if files is None else resolve_run(plan, files.config())
    encoded = (
        EncodedSite.count(site, run) if files is None else EncodedSite.encode(site, run, files, build_model(run, files))
    )
    with RunBudget(run, settings["run"], folder / "ledgers", cap=8.0).open([name]) as ledgers:
        hospital = make_hospital(  # charged round by round
            run,
            encoded,
            files,
            agreement,
            Randomness(settings["seed"]),
            ledger=ledgers.get(name),
            microbatch=None,
            journal=FileJournal(folder / "states" / name, (folder / "journal.key").read_bytes()),
        )
        serve(make_client_app(hospital), Endpoint(settings["address"], insecure=True), stop=threading.Event())


if __name__ == "__main__":
    main()
