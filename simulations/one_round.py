"""Round: key set-up and one round of three hospitals, from a plan to the next adapter, with the real objects.

Nothing here is simplified: the hospitals train under differential privacy and mask what they send, the coordinator adds
masked vectors and learns the sum, and every hospital checks what it is told. Only the transport is a function call.

Run it: ``python -m fedward.simulations.one_round``
"""

from collections.abc import Iterable, Iterator

from fedward.client.data import Example
from fedward.client.hospital import Hospital
from fedward.client.models.adapter_model import build_model, resolve_run, start_of
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.messages import Reply, Request
from fedward.plan import AdapterPlan, Plan, PrivacyPlan, TrainingPlan
from fedward.privacy.ledger import Ledger, MemoryStore, Population
from fedward.privacy.secagg.journal import MemoryJournal
from fedward.privacy.secagg.server import SecAggServer
from fedward.server.rounds import Coordinator
from fedward.simulations.parties import EncodedSite, Randomness, agree, make_hospital

HOSPITALS = ("alder", "birch", "cedar")


class DirectCalls:
    """The transport: in a deployment Flower carries these requests over TLS."""

    def __init__(self, hospitals: dict[str, Hospital]) -> None:
        self.hospitals = hospitals

    def exchange(self, requests: Iterable[tuple[str, Request]], *, seconds: float) -> Iterator[tuple[str, Reply]]:
        """See :class:`fedward.messages.Transport`."""
        for site, request in requests:
            print(f"  {request.stage:9} -> {site}: {request.stage.content}")
            yield site, self.hospitals[site].answer(request)


def patients(site: str, part: str) -> list[Example]:
    """Twenty invented patients: a high lactate is bad news."""
    texts = ("age 70s . lactate very high . intubated", "age 50s . lactate normal . elective")
    return [Example(f"{site}-{part}-{i}", site, texts[i % 2], 1 - i % 2) for i in range(20)]


def main() -> Coordinator:
    """Plays the round and returns the coordinator."""
    files = resolve("tiny-clinical")
    plan = Plan(
        name="one-round",
        base_model_sha256=files.sha256,
        adapter=AdapterPlan(rank=2, top_layers=1),
        training=TrainingPlan(rounds=1, local_steps=2),
        privacy=PrivacyPlan(noise_multiplier=1.0, evaluation_noise_multiplier=4.0, units_per_site=20),
    )
    run = resolve_run(plan, files.config())  # names become objects, here and nowhere else
    agreement, task, model = agree(run, HOSPITALS), local_task(plan.task), build_model(run, files)

    def hospital(site: str) -> Hospital:
        train, evaluation = (
            Records.encode(patients(site, part), task, files, model, max_tokens=16) for part in ("train", "evaluation")
        )
        population = Population(plan.split_salt, plan.evaluation_fraction)
        ledger = Ledger(MemoryStore(), site=site, cap_epsilon=50.0, delta=plan.privacy.delta, population=population)
        records = EncodedSite(site, train, evaluation)
        return make_hospital(run, records, files, agreement, Randomness(), ledger=ledger, microbatch=None)

    coordinator = Coordinator(
        run=run,
        name="one-round-1",
        adapter=start_of(run, files.config()),
        secagg=SecAggServer(identity=agreement.coordinator, roster=agreement.signed, journal=MemoryJournal()),
        colluders=agreement.roster.colluders,
        transport=DirectCalls({site: hospital(site) for site in HOSPITALS}),
    )
    print("Key set-up")
    coordinator.join()
    print("Round 1")
    coordinator.play(1)
    (summary,) = coordinator.summaries
    print(f"{summary.survivors} hospitals in the sum; {summary.measures}; adapter {coordinator.adapter[:3]} ...")
    return coordinator


if __name__ == "__main__":
    main()
