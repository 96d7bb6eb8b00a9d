"""From a scenario to a plan: the noise is calibrated once, here, and then fixed for everyone."""

from pathlib import Path

from fedward.adapter import adapter_hash
from fedward.agreements.code import plan_code_hash
from fedward.agreements.proposal import PlanTerms, write_terms
from fedward.client.models.adapter_model import expected_layout, lora_of, resolve_run, start_of
from fedward.client.models.registry import ModelFiles, resolve
from fedward.config import to_toml
from fedward.errors import ConfigError
from fedward.plan import Plan, PrivacyPlan
from fedward.planning.scenario import Scenario
from fedward.privacy.accounting import calibrate, calibrate_releases
from fedward.privacy.dpsgd.clipping import gradient_noise, planned_clipping
from fedward.privacy.noise import gradient_distance
from fedward.run import Schedule
from fedward.server.deployment.records import PLAN_FILE, START_FILE
from fedward.server.job_files import write_vector
from fedward.strategies.registry import spelt_out


def make_plan(scenario: Scenario, files: ModelFiles) -> Plan:
    """The plan of ``scenario`` on the base model ``files``, noise included; raises like its two halves."""
    return with_noise(draft_plan(scenario, files), files)


def draft_plan(scenario: Scenario, files: ModelFiles) -> Plan:
    """The plan without its noise, which takes seconds to calibrate. Raises ConfigError (of strategy or options)."""
    shared = {name: getattr(scenario, name) for name in Plan.model_fields if name in Scenario.model_fields}
    salt = f"{scenario.name}/{scenario.seed}"
    draft = spelt_out(Plan(**shared, base_model=files.name, base_model_sha256=files.sha256, split_salt=salt))
    options = Schedule.of(draft).kind.options(draft)
    return draft.model_copy(update={"strategy_options": options.model_dump()})  # defaults too: the plan says everything


def with_noise(draft: Plan, files: ModelFiles) -> Plan:
    """``draft`` with the noise that its epsilon asks for. Raises ConfigError (no noise within reach achieves it)."""
    schedule = Schedule.of(draft)
    parameters = expected_layout(files.config(), lora_of(schedule)).size if schedule.sums_gradients else 0
    return draft.model_copy(update={"privacy": _calibrated(schedule, parameters)})


def _calibrated(schedule: Schedule, parameters: int) -> PrivacyPlan:
    plan, release = schedule.plan, schedule.evaluation_release
    privacy = plan.privacy.model_copy(update={"parameters": parameters})
    if not privacy.private:
        return privacy
    training = calibrate(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        sampling_rate=privacy.sampling_rate,
        steps=plan.training.rounds * schedule.private_steps,
        releases=schedule.training_releases,
        release_share=privacy.release_share,
        sampler_distance=schedule.training_release.sampler_distance,
        step_distance=gradient_distance(parameters),
    )
    gradient_noise(planned_clipping(privacy), training.noise_multiplier)  # raises if the count would cost too much
    # Evaluation units are others than training units (the split depends on the unit alone), so their statistics have
    # a budget of their own of the same size.
    evaluation = 0.0
    if release is not None:
        evaluation = calibrate_releases(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            releases=schedule.evaluation_releases,
            sampler_distance=release.sampler_distance,
        )
    noise = {
        "noise_multiplier": training.noise_multiplier,
        "release_noise_multiplier": training.release_noise_multiplier or 0.0,
        "evaluation_noise_multiplier": evaluation,
    }
    return privacy.model_copy(update=noise)


def write_plan(scenario: Scenario, folder: Path) -> tuple[Plan, PlanTerms]:
    """Writes a new plan folder: ``plan.toml``, ``start.safetensors``, ``terms.cbor``. Raises FW-CONFIG-005 (used)."""
    if folder.exists() and any(folder.iterdir()):
        fix = "Choose another --out folder."
        raise ConfigError(f"{folder} holds something already.", code="FW-CONFIG-005", fix=fix)
    files = resolve(scenario.model)
    plan = make_plan(scenario, files)
    config = files.config()
    run, family = resolve_run(plan, config), config.family.name
    layout, start = run.layout, start_of(run, config)
    terms = PlanTerms(
        plan=plan.model_dump_json().encode(),
        plan_hash=plan.hash(),
        base_model_hash=bytes.fromhex(plan.base_model_sha256),
        adapter_layout_hash=layout.hash(),
        initial_adapter_hash=adapter_hash(start, layout),
        family=family,
        code_hash=plan_code_hash(plan, family),
        parameters=layout.size,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_text(to_toml(plan.model_dump()), encoding="utf-8")
    write_vector(start, layout, folder / START_FILE)
    write_terms(terms, folder)
    terms.read()
    return plan, terms
