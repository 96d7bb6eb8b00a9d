"""Agreement of a chaos federation: scenario, plan, roster and keys in a folder.

Everything of the federation is real but the records, which are synthetic, and the noise: it is drawn anew from a seed
for each round, so that whatever dies and comes back must lead to the same bits.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from fedward.client.hospital import starting_state
from fedward.client.models.adapter_model import build_model, resolve_run
from fedward.client.models.registry import ModelFiles, resolve
from fedward.config import load_toml, to_toml
from fedward.plan import Plan
from fedward.planning.estimate import make_plan
from fedward.planning.scenario import Scenario, load_scenario
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.roster import verify_roster
from fedward.run import Run
from fedward.server.deployment.settings import private_pem
from fedward.server.job_files import write_vector
from fedward.simulations.chaos.places import Places
from fedward.simulations.parties import COORDINATOR, Agreement, agree
from fedward.storage import write_new_secret

SEED = 17
SCENARIO = {
    "name": "chaos",
    "seed": SEED,
    "adapter": {"top_layers": 1, "rank": 2, "max_tokens": 32},
    "compare": {"local": False, "central": False},
}


@dataclass(frozen=True)
class Agreed:
    """What all parties have in common, read back from the folder."""

    scenario: Scenario
    run: Run
    files: ModelFiles
    agreement: Agreement

    @classmethod
    def read(cls, places: Places) -> Agreed:
        """From ``places.agreed``."""
        folder = places.agreed
        scenario, plan = load_scenario(str(folder / "scenario.toml")), load_toml(folder / "plan.toml", Plan)
        files, signed = resolve(scenario.model), (folder / "roster.cbor").read_bytes()
        roster = verify_roster(signed).roster
        members = {name: Identity.from_file(name, folder / f"{name}.key") for name in roster.keys}
        coordinator = Identity.from_file(COORDINATOR, folder / f"{COORDINATOR}.key")
        agreement = Agreement(coordinator, members, signed, roster)
        return cls(scenario, resolve_run(plan, files.config()), files, agreement)


def make(places: Places, *, hospitals: int, rounds: int, leg_seconds: int) -> list[str]:
    """Writes the agreement of so many hospitals on so many training rounds; returns their names."""
    folder, names = places.agreed, [f"site-{number}" for number in range(hospitals)]
    folder.mkdir(parents=True)
    document = SCENARIO | {
        "training": {"rounds": rounds, "local_steps": 1},
        "privacy": {"units_per_site": 40, "release_every": 2},
        "secure_sum": {"leg_seconds": leg_seconds},
    }
    sites = "".join(f'\n[[data.site]]\nname = "{name}"\npatients = 60\n' for name in names)
    (folder / "scenario.toml").write_text(to_toml(document) + sites, encoding="utf-8")
    scenario = load_scenario(str(folder / "scenario.toml"))
    files = resolve(scenario.model)
    plan = make_plan(scenario, files)
    (folder / "plan.toml").write_text(to_toml(plan.model_dump()), encoding="utf-8")
    run = resolve_run(plan, files.config())
    seeds = {name: secrets.token_bytes(32) for name in (COORDINATOR, *names)}
    (folder / "roster.cbor").write_bytes(agree(run, names, seed_of=seeds.__getitem__).signed)
    for name, seed in seeds.items():
        write_new_secret(folder / f"{name}.key", seed)
    for name in names:
        (folder / f"{name}.node.pem").write_bytes(private_pem(ec.generate_private_key(ec.SECP384R1())))
    write_new_secret(folder / "journal.key", secrets.token_bytes(32))
    write_vector(starting_state(run, build_model(run, files)), run.layout, folder / "start.safetensors")
    return names
