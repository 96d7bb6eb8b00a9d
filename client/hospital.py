"""Hospital: what it does at each stage of a round; the whole client, apart from transport and files.

The order is the guarantee: check the manifest, charge the ledger, train, mask, confirm, unmask. A
refusal at any point leaves nothing half done and tells the coordinator a code, nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedward.adapter import Vector, adapter_hash
from fedward.agreements.code import core_hash
from fedward.client.models.adapter_model import AdapterModel, FrozenFactors, layout_of, set_vector, start_of
from fedward.client.records import Records, evaluation_statistics, survey_statistics, training_statistics
from fedward.client.result_verification import Follower, Published, Snapshots
from fedward.client.survey import Rows
from fedward.client.tasks.task import LocalTask
from fedward.client.training import BetweenSteps, GradientSummer, LocalState, LocalTrainer, cut_entries
from fedward.errors import PolicyError, ResourceError
from fedward.measures import Outcomes
from fedward.messages import Reply, Request, Stage
from fedward.messages import encode as encode_message
from fedward.plan import Plan
from fedward.privacy.dpsgd.engine import weight_change_canary
from fedward.privacy.ledger import Ledger
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg.client import AcceptedManifest, SecAggClient
from fedward.privacy.secagg.crypto import ShareRefused
from fedward.privacy.secagg.encoding import RingVector, encode
from fedward.privacy.secagg.journal import Journal, MemoryJournal
from fedward.privacy.secagg.messages import Result
from fedward.privacy.secagg.roster import LocalPolicy, Roster, VerifiedRoster, minimum_threshold
from fedward.run import EVALUATION, GRADIENT, SURVEY, TRAINING, Run, check_roster
from fedward.strategies.strategy import Step, Trained, nested_layout, nested_positions


@dataclass
class Streams:
    """Randomness by purpose; all from the operating system unless a run is marked NON-PRIVATE."""

    noise: SecureStream = field(default_factory=SecureStream.from_os)
    statistics: SecureStream = field(default_factory=SecureStream.from_os)
    rounding: SecureStream = field(default_factory=SecureStream.from_os)


class Learner:
    """What trains and scores at a hospital: its model, what it keeps for itself, and the trainer. Nothing leaves here.

    Raises FW-POLICY-019 (the model has another rank than the plan gives the hospital ``name``), FW-POLICY-017 (the
    plan prices another number of parameters), and like the trainer's preflight.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        task: LocalTask,
        model: AdapterModel,
        train: Records,
        *,
        journal: Journal,
        noise: SecureStream,
        microbatch: int | None,
    ) -> None:
        plan, rank = run.plan, run.plan.adapter.rank_of(name)
        if layout_of(model) != nested_layout(run.layout, rank):
            words = "The model of this hospital has another rank than the plan gives it."
            raise PolicyError(words, code="FW-POLICY-019")
        self._model, self._task, self._frozen = model, task, FrozenFactors(model, plan.adapter.init_seed)
        self.check()
        self.places = nested_positions(run.layout, rank)  # of the hospital's own state in the global one
        self.side = LocalState(name, run, model, self.places.size, journal)
        if run.sums_gradients and plan.privacy.parameters != run.layout.size:
            words = "The plan prices the noise of another number of parameters than are trained."
            raise PolicyError(words, code="FW-POLICY-017")
        make_trainer = GradientSummer if run.sums_gradients else LocalTrainer
        self.trainer = make_trainer(model, train, run, task, noise, microbatch=microbatch)
        self.trainer.preflight()

    def check(self) -> None:
        """Raises if a factor that the plan freezes is not as it starts."""
        self._frozen.check(self._model)

    def outcomes(self, adapter: Vector, records: Records) -> Outcomes:
        """What the model with the global ``adapter``, or the personal one, makes of ``records``."""
        set_vector(self._model, self.side.scored(adapter[self.places]))
        return self._task.outcomes(self._model, records)


@dataclass(kw_only=True, eq=False, repr=False)
class Hospital:
    """One hospital in one run."""

    name: str  # on the roster
    run: Run  # the plan it has approved, resolved
    task: LocalTask
    model: AdapterModel | None  # of the plan at this hospital's rank, trained in place; None where it trains nothing
    train: Records
    evaluation: Records  # of other patients than ``train``
    secagg: SecAggClient  # holds roster, keys and journal
    roster: VerifiedRoster
    ledger: Ledger | None  # charged before the first noisy step of a round; None only where the plan is not private
    streams: Streams = field(default_factory=Streams)
    adapters: Journal | None = None  # keeps that of the last accepted result; beside the journal of secagg, or nowhere
    microbatch: int | None = None  # records per forward pass
    between_steps: BetweenSteps = None
    survey: Rows | None = None  # of a plan of statistics: what each unit of both populations adds

    def __post_init__(self) -> None:
        run, agreed = self.run, self.roster.roster
        _check_units(run, self.train, self.evaluation, self.ledger)
        self._check_survey()
        self._colluders, self._sites = agreed.colluders, frozenset(agreed.keys)
        check_roster(run, self._sites, min_cohort=agreed.policy.min_cohort)
        journal = MemoryJournal() if self.adapters is None else self.adapters
        self._start, snapshots = starting_state(run, self.model), Snapshots(journal, run.layout)
        self._follower = Follower(run, self.roster, self.secagg, snapshots, self._start, on_checked=self._note)
        self._learner = None if run.surveys else self._make_learner(journal)
        self._run_name, self._trained = "", 0
        self._handlers: dict[Stage, Callable[[Request], Reply]] = {
            Stage.JOIN: lambda request: Reply(self.secagg.key_bundle(request.payload)),
            Stage.BUNDLES: lambda request: Reply(self.secagg.accept_bundles(request.payload)),
            Stage.SEAL: lambda request: Reply(self.secagg.accept_ciphertexts(request.payload)),
            Stage.MANIFEST: self._contribute,
            Stage.MASK: self._mask,
            Stage.CONFIRM: lambda request: Reply(self.secagg.confirm(request.payload)),
            Stage.UNMASK: lambda request: Reply(self.secagg.unmask(request.payload)),
            Stage.RESULT: self._finish,
            Stage.CHALLENGE: self._challenge,
        }

    def _check_survey(self) -> None:
        """Refuses, before anything is charged, rows that are not one for each unit of this hospital."""
        units = {*self.train.names, *self.evaluation.names}
        blocks = self.survey or {}
        if self.run.surveys and not (blocks and {len(rows) for rows in blocks.values()} == {len(units)}):
            words = "The statistics of this hospital do not have one row for each unit."
            raise PolicyError(words, code="FW-POLICY-016", of_records=True)

    def _make_learner(self, journal: Journal) -> Learner:
        if self.model is None:
            raise PolicyError("This hospital has no model for a plan that trains one.", code="FW-POLICY-019")
        noise, microbatch, name = self.streams.noise, self.microbatch, self.name
        return Learner(
            name, self.run, self.task, self.model, self.train, journal=journal, noise=noise, microbatch=microbatch
        )

    @property
    def learner(self) -> Learner:
        """What trains and scores here; raises FW-POLICY-019 in a plan that trains nothing."""
        if self._learner is None:
            raise PolicyError("A plan that trains nothing was asked for training.", code="FW-POLICY-019")
        return self._learner

    def answer(self, request: Request) -> Reply:
        """Handles one request; raises FedwardError to refuse, whose code is all that may leave."""
        handler = self._handlers.get(request.stage)
        if handler is None:
            words = "The coordinator asked for something that a hospital does not answer."
            raise PolicyError(words, code="FW-POLICY-011")
        return handler(request)

    @property
    def adapter(self) -> Vector:
        """The global adapter as this hospital has checked it."""
        return self._follower.adapter

    # --- manifest: check, charge, train, share -------------------------------------------------------

    def _contribute(self, request: Request) -> Reply:
        manifest, published = Published.of(request)
        self._follower.follow(published)
        accepted = self.secagg.accept_manifest(manifest)
        self._check(accepted)
        trained = self._trained
        try:
            vector = self._train_round(accepted) if accepted.needs_training else None
            return Reply(self.secagg.contribute(vector, bytes(32) if self.ledger is None else self.ledger.head()))
        except ResourceError:
            # Nothing of it was stored, let alone said: with space again it is trained anew, for its one charge.
            self._trained = trained
            raise

    def _check(self, accepted: AcceptedManifest) -> None:
        """Compares the manifest with the plan and with what this hospital has followed."""
        manifest, run = accepted.manifest, self.run
        honest = manifest.threshold - self._colluders
        if accepted.layout != run.vector_layout(manifest.round, n0=manifest.n0, honest=honest):
            words = "The manifest asks for other segments than the plan names for this round."
            raise PolicyError(words, code="FW-POLICY-010")
        asked, last = frozenset(manifest.first_cohort), self._follower.round
        if not asked <= run.cohort(manifest.round, self._sites):
            words = "The manifest puts hospitals into a sum that the plan does not give them a part in."
            raise PolicyError(words, code="FW-POLICY-020")
        if run.follows_up(run.step(manifest.round)):
            same = last == manifest.round - 1 and self.learner.side.summed(manifest.run, last) == asked
            if not same or manifest.threshold != manifest.n0:
                words = "The manifest would let the round's next sum be over other hospitals."
                raise PolicyError(words, code="FW-POLICY-021")
        self._run_name = self._run_name or manifest.run
        followed = adapter_hash(self.adapter, run.layout)
        if manifest.run != self._run_name or manifest.adapter_hash != followed:
            words = "The manifest does not continue the run that this hospital has followed."
            raise PolicyError(words, code="FW-POLICY-014")

    def _train_round(self, accepted: AcceptedManifest) -> RingVector:
        run, plan, round_number = self.run, self.run.plan, accepted.manifest.round
        if round_number <= self._trained:
            raise PolicyError("The training of this round had begun before.", code="FW-POLICY-013")
        if self._learner is not None:
            self._learner.check()
        self._trained = round_number
        if self._learner is not None:
            self._learner.side.ready(accepted.manifest.run, self._follower.round)
        if round_number == 2 and self._follower.round and run.sums_gradients:  # round 1 may have been lost
            weight_change_canary(self._start, self.adapter, private=plan.privacy.private)
        honest = accepted.manifest.threshold - self._colluders
        if self.ledger is not None:
            self.ledger.reserve(
                run=accepted.manifest.run,
                plan_hash=plan.hash(),
                round_number=round_number,
                training=run.training_events(round_number, honest=honest),
                evaluation=run.evaluation_events(round_number, honest=honest),
            )
        return self.encode(accepted, self._values(round_number, honest))

    def _values(self, round_number: int, honest: int) -> dict[str, NDArray[np.int64] | Vector]:
        """What the round asks for, noised where it is to be; the only place where records become numbers that leave."""
        run, statistics, step = self.run, self.streams.statistics, self.run.step(round_number)
        values: dict[str, NDArray[np.int64] | Vector] = {}
        if run.surveys:
            values[SURVEY] = survey_statistics(self.survey or {}, run, honest=honest, stream=statistics)
        if run.releases_evaluation(round_number):
            found = self.outcomes(self.evaluation)
            values[EVALUATION] = evaluation_statistics(found, run, honest=honest, stream=statistics)
        if run.releases_training(round_number):
            found = self.outcomes(self.train)
            values[TRAINING] = training_statistics(found, run, honest=honest, stream=statistics)
        if step.scores_only:
            return values
        if isinstance(self.learner.trainer, GradientSummer):
            values[GRADIENT] = self.learner.trainer.run(self.adapter, honest=honest, between_steps=self.between_steps)
            return values
        strategy = run.strategy
        sent = strategy.messages(step, self._trained_in(step), self._follower.memory, self.name)
        for part in strategy.sends(step):
            bound = part.bound or run.plan.secure_sum.delta_bound
            values[part.name] = cut_entries(sent[part.name], bound, f"round {round_number}, {part.name}")
        return values

    def _trained_in(self, step: Step) -> Trained:
        """This training round's delta: made now if the phase trains, otherwise what an earlier phase has kept."""
        start, whole, learner = self.adapter, np.zeros(self.run.layout.size, np.float32), self.learner
        if self.run.trains(step) and isinstance(learner.trainer, LocalTrainer):
            own, memory = start[learner.places], self._follower.memory
            delta, variate = learner.side.train(learner.trainer, step, own, memory, between_steps=self.between_steps)
        else:
            delta, variate = learner.side.trained(self._run_name, step.number - 1), None
        whole[learner.places] = delta
        return Trained(step.round, start, whole, variate)

    def outcomes(self, records: Records) -> Outcomes:
        """What this hospital's model, its personal one if it has one, makes of ``records``."""
        return self.learner.outcomes(self.adapter, records)

    def _note(self, result: Result) -> None:
        if self._learner is not None:
            self._learner.side.follow(result.run, result.round, result.survivors)

    def encode(self, accepted: AcceptedManifest, values: dict[str, NDArray[np.int64] | Vector]) -> RingVector:
        """Puts a round's values into the ring; the simulator overrides this to compare sums."""
        return encode(accepted.layout, values, self.streams.rounding.uniform32)

    # --- mask and the result ---------------------------------------------------------------------

    def _mask(self, request: Request) -> Reply:
        try:
            upload = self.secagg.mask(request.payload)
        except ShareRefused as error:
            return Reply(error.complaint, refusal=error.code)
        # The round's charge is closed before its vector leaves, with the name of this very vector: a second training
        # of the round, from another state folder over the same ledger, ends here.
        live = self.secagg.live
        if self.ledger is not None and live is not None:
            reservation = self.ledger.book.reservation(live.run, live.round)
            if reservation is not None:
                self.ledger.settle(reservation, output=self.secagg.output)
        return Reply(upload.header, {"vector": upload.vector})

    def _finish(self, request: Request) -> Reply:
        self._follower.follow(Published.of(request)[1])
        return Reply(adapter_hash(self.adapter, self.run.layout))

    def _challenge(self, request: Request) -> Reply:
        return Reply(encode_message(list(self._follower.challenge(Published.of(request)[1]))))


def starting_state(run: Run, model: AdapterModel | None) -> Vector:
    """The global state before the first round; a zero where nothing is trained."""
    if model is None:
        return np.zeros(run.layout.size, np.float32)
    return start_of(run, model.config)


def _check_units(run: Run, train: Records, evaluation: Records, ledger: Ledger | None) -> None:
    """Refuses, before anything is built, what the plan's price does not cover for these records."""
    plan, names = run.plan, set(train.names)
    counted = names | set(evaluation.names) if run.surveys else names
    if plan.privacy.private and ledger is None:
        raise PolicyError("A private plan needs a ledger to charge.", code="FW-POLICY-012")
    if plan.privacy.private and plan.privacy.delta * 10 * len(counted) > 1:
        words = "The plan's delta exceeds 1 / (10 x units of this hospital that its noise is for)."
        raise PolicyError(words, code="FW-POLICY-015", of_records=True)
    if ledger is not None and ledger.book.genesis.unit != plan.privacy.unit:
        raise PolicyError("The plan protects other units than this hospital's ledger counts.", code="FW-LEDGER-010")
    pairs = [set(zip(part.names, part.units.tolist(), strict=True)) for part in (train, evaluation)]
    one_to_one = all(len({name for name, _ in p}) == len(p) == len({unit for _, unit in p}) for p in pairs)
    if names & set(evaluation.names) or not one_to_one:
        words = "Training and evaluation records are partly of the same units."
        raise PolicyError(words, code="FW-POLICY-016", of_records=True)
    if not run.surveys and run.evaluation_release is not None and not len(evaluation):
        words = "The plan asks for statistics of evaluation records; there are none."
        raise PolicyError(words, code="FW-POLICY-016", of_records=True)


def base_model_hash(plan: Plan) -> bytes:
    """The base model of the plan, as manifests name it."""
    return bytes.fromhex(plan.base_model_sha256)


def local_policy(
    run: Run,
    model: AdapterModel | None,  # of the plan, on the base model as this hospital has it
    roster: Roster,  # that this hospital has approved
    *,
    min_cohort: int,  # smallest first cohort this hospital accepts
    name: str = "",  # of the run it approves; if empty, the first run under the plan is the only one
) -> LocalPolicy:
    """What a hospital enforces once it has approved the plan of ``run``.

    A plan that trains nothing runs under any roster: the model that the roster pins is not used.
    """
    plan, hospitals, colluders = run.plan, len(roster.members), roster.colluders
    pins = (base_model_hash(plan), run.layout.hash())
    base_model, adapter_layout = (roster.base_model_hash, roster.adapter_layout_hash) if run.surveys else pins
    vector_layouts = {
        run.vector_layout(number, n0=n0, honest=minimum_threshold(n0, colluders) - colluders).hash()
        for n0 in range(max(min_cohort, colluders + 2), hospitals + 1)
        for number in range(1, run.final_round + 1)
    }
    return LocalPolicy(
        base_model_hash=base_model,
        adapter_layout_hash=adapter_layout,
        code_hash=core_hash(),
        plan_hash=plan.hash(),
        layout_hashes=frozenset(vector_layouts),
        max_rounds=run.final_round,
        min_cohort=min_cohort,
        initial_adapter_hash=adapter_hash(starting_state(run, model), run.layout),
        run=name,
    )
