"""A hospital process that does all of a round but the training: keys, masks, checks of every result. JSON in argv.

Its vectors are zeros, so no torch is loaded; every byte and every check on the wire is that of a real round.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedward.adapter import Vector, adapter_hash
from fedward.client.flower import make_client_app, serve
from fedward.client.link import Endpoint
from fedward.client.result_verification import Follower, Published, Snapshots
from fedward.config import load_toml
from fedward.messages import Reply, Request, Stage, encode
from fedward.plan import Plan
from fedward.privacy.secagg.client import SecAggClient
from fedward.privacy.secagg.crypto import Identity
from fedward.privacy.secagg.encoding import RingVector
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.roster import LocalPolicy, minimum_threshold, verify_roster
from fedward.run import Run
from fedward.server.job_files import read_vector


class WireSite:
    """Answers every stage; see :class:`fedward.client.flower.Site`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        plan = load_toml(folder / "plan.toml", Plan)
        layout, start = read_vector(folder / "start.safetensors")
        run = Run.resolve(plan, layout)
        signed = (folder / "roster.cbor").read_bytes()
        verified = verify_roster(signed)
        roster = verified.roster
        rounds = range(1, run.final_round + 1)
        smallest, colluders = roster.policy.min_cohort, roster.colluders
        cohorts = {n0: minimum_threshold(n0, colluders) - colluders for n0 in range(smallest, len(roster.members) + 1)}
        policy = LocalPolicy(
            base_model_hash=roster.base_model_hash,
            adapter_layout_hash=layout.hash(),
            code_hash=roster.code_hash,
            plan_hash=plan.hash(),
            layout_hashes=frozenset(
                run.vector_layout(number, n0=n0, honest=honest).hash()
                for number in rounds
                for n0, honest in cohorts.items()
            ),
            max_rounds=rounds[-1],
            min_cohort=roster.policy.min_cohort,
            initial_adapter_hash=adapter_hash(start, layout),
        )
        identity = Identity.from_file(name, folder / f"{name}.key")
        self._secagg = SecAggClient(identity=identity, roster=signed, policy=policy, journal=MemoryJournal())
        self._layout = layout
        snapshots = Snapshots(MemoryJournal(), layout)
        self._follower = Follower(run, verified, self._secagg, snapshots, start)

    @property
    def adapter(self) -> Vector:
        """The global adapter as this hospital has checked it."""
        return self._follower.adapter

    def answer(self, request: Request) -> Reply:
        """Handles one stage as :class:`fedward.client.hospital.Hospital` does."""
        secagg, stage = self._secagg, request.stage
        if stage is Stage.MANIFEST:
            manifest, published = Published.of(request)
            self._follower.follow(published)
            accepted = secagg.accept_manifest(manifest)
            vector = RingVector.zeros(accepted.layout) if accepted.needs_training else None
            return Reply(secagg.contribute(vector, bytes(32)))
        if stage is Stage.MASK:
            upload = secagg.mask(request.payload)
            return Reply(upload.header, {"vector": upload.vector})
        if stage is Stage.RESULT:
            self._follower.follow(Published.of(request)[1])
            return Reply(adapter_hash(self._follower.adapter, self._layout))
        if stage is Stage.CHALLENGE:
            return Reply(encode(list(self._follower.challenge(Published.of(request)[1]))))
        plain = {
            Stage.JOIN: secagg.key_bundle,
            Stage.BUNDLES: secagg.accept_bundles,
            Stage.SEAL: secagg.accept_ciphertexts,
            Stage.CONFIRM: secagg.confirm,
            Stage.UNMASK: secagg.unmask,
        }
        return Reply(plain[stage](request.payload))


def main() -> None:
    """Serves one site until it is killed."""
    settings = json.loads(sys.argv[1])
    folder, name = Path(settings["folder"]), settings["name"]
    private = load_pem_private_key((folder / f"{name}.node.pem").read_bytes(), password=None)
    serve(
        make_client_app(WireSite(name, folder)),
        Endpoint(settings["address"], insecure=True),
        stop=threading.Event(),
        keys=(private, private.public_key()),  # type: ignore[arg-type,union-attr]
    )


if __name__ == "__main__":
    main()
