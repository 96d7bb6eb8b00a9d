"""One training step of a language model, as a hospital takes it and as plain LoRA does, in a process of its own.

Plain LoRA is the same model on the same records in the same calls of the same shapes, with the same chunked loss and
checkpointing: the gradient of the mean loss by ordinary back-propagation, call after call, and the same optimizer.
``tight`` is the same without fixed shapes: records of similar length, each batch padded to its longest and not filled
up. A worker process holds one side and takes a step
whenever it is told to, so that two sides can take turns and a busy machine reaches both alike.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.resident import held, peak, start_again
from fedward.client.models.adapter_model import (
    AdapterModel,
    assemble,
    empty_base,
    get_vector,
    load_base,
    lora_of,
    resolve_run,
)
from fedward.client.models.inputs import TokenInputs, calls_on, prepare
from fedward.client.models.precision import Precision
from fedward.client.models.registry import ModelConfig, check_model_config, resolve
from fedward.client.models.tokens import Tokens
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.client.training import LocalTrainer
from fedward.errors import FedwardError
from fedward.plan import AdapterPlan, Plan, PrivacyPlan, TrainingPlan
from fedward.privacy.dpsgd.engine import Call
from fedward.privacy.noise import SecureStream
from fedward.run import Schedule

Side = Literal["plain", "private", "tight"]
SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_1B = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
    "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip
TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500, "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}  # fmt: skip
SHAPES = {"smollm2": SMOLLM2, "llama-1b": LLAMA_1B, "tiny": TINY}
ATTENTION = ("query", "value")
ALL_LINEAR = (
    "query", "key", "value", "attention_output", "feed_forward_gate", "feed_forward_up", "feed_forward_down",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is trained on what: made-up records."""

    shape: str = "smollm2"
    targets: tuple[str, ...] = ATTENTION
    records: int = 8
    tokens: int = 128  # of the longest record
    shortest: int | None = None  # tokens of the shortest; None: all are as long
    top_layers: int | None = None
    scored: float = 1.0  # share of the tokens that are scored, the last ones of each record
    cached: bool = True  # whether the output of layers that never change is kept
    device: str = "cpu"
    precision: Precision = "float32"  # of the frozen base model

    @property
    def name(self) -> str:
        """What a table calls it."""
        maps = "q, v" if self.targets == ATTENTION else "all linear maps"
        lengths = f"{self.tokens}" if self.shortest is None else f"{self.shortest} to {self.tokens}"
        return f"{maps}, {self.records} x {lengths}"


class TightInputs(TokenInputs):
    """Token ids that are padded to the longest of a batch."""

    def outputs(self, model: AdapterModel, records: NDArray[np.int64], *, width: int | None = None) -> Tensor:
        """See :class:`Inputs`."""
        return super().outputs(model, records, width=int(self.lengths[records].max()))


def weights_of(shape: str) -> str:
    """Where the weights of a shape come from: the fetched model, or random numbers."""
    try:
        resolve(shape)
    except FedwardError:
        return "random"
    return "fetched"


def build_model(setting: Setting, run: Schedule, config: ModelConfig) -> AdapterModel:
    """The adapter model, of the fetched base model where there is one."""
    lora = lora_of(run, config)
    if weights_of(setting.shape) == "fetched":
        bare = load_base(resolve(setting.shape), lora.head.kind)
    else:
        with torch.device(setting.device):  # a GPU draws a billion numbers in no time
            bare = empty_base(config, lora.head.kind)
        bare.name_or_path = setting.shape
    model = assemble(bare.requires_grad_(False), config, lora, seed=0)
    model.to(setting.device)
    return model


def plan_of(setting: Setting) -> Plan:
    """A plan in which every step takes every record."""
    return Plan(
        name="benchmark",
        task="sft",
        strategy="fedit",
        base_model_sha256="0" * 64,
        adapter=AdapterPlan(
            rank=8,
            targets=setting.targets,
            top_layers=setting.top_layers,
            max_tokens=setting.tokens,
            base_precision=setting.precision,
        ),
        training=TrainingPlan(local_steps=1),
        privacy=PrivacyPlan(noise_multiplier=1.0, sampling_rate=1.0, units_per_site=setting.records),
    )


def records_of(model: AdapterModel, setting: Setting) -> Records:
    """Records of random tokens that are nobody's, of which the last ones are scored."""
    numbers = np.random.Generator(np.random.Philox(0))
    ids = numbers.integers(3, model.config.vocabulary, size=(setting.records, setting.tokens), dtype=np.int64)
    lengths = np.linspace(setting.shortest or setting.tokens, setting.tokens, setting.records).astype(np.int64)
    places = np.arange(setting.tokens)
    mask = (places < lengths[:, None]).astype(np.int64)
    scored = (places < lengths[:, None] - 1) & (places >= np.round((1 - setting.scored) * lengths)[:, None])
    targets = np.where(scored, np.roll(ids, -1, axis=1), -1)
    targets = np.append(targets, np.ones((setting.records, 1), np.int64), axis=1)  # how many characters they spell
    tokens, units = Tokens(ids, mask), np.arange(setting.records, dtype=np.int64)
    inputs = prepare(model, tokens) if setting.cached else TokenInputs(tokens)
    return Records(inputs, targets, units, ("",) * setting.records, units.copy())


def step_of(setting: Setting, side: Side) -> Callable[[], None]:
    """A whole step of one side, ready to be taken again and again."""
    fetched, plan = weights_of(setting.shape) == "fetched", plan_of(setting)
    config = resolve(setting.shape).config() if fetched else check_model_config(SHAPES[setting.shape])
    run, task = resolve_run(plan, config), local_task(plan.task)
    model = build_model(setting, run, config)
    records = records_of(model, setting)
    if side == "private":
        trainer, start = LocalTrainer(model, records, run, task, SecureStream.from_os()), get_vector(model)
        if model.recomputes:
            raise RuntimeError("the private side computes layers again, and the plain side would not")

        def private() -> None:
            trainer.run(start, 1)

        return private
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    calls = calls_on(model, records.inputs)
    if side == "tight":
        records = dataclasses.replace(records, inputs=TightInputs(records.inputs.tokens))
        rows, most = np.arange(setting.records), max(call.rows for call in calls)  # sorted by length
        parts = [rows[start : start + most] for start in range(0, len(rows), most)]
        calls = [Call(part, len(part)) for part in parts]

    def add(call: Call) -> None:  # what a call has computed is dropped before the next
        losses = task.losses(model, records, call.filled)[: len(call.positions)]
        (losses.sum() / setting.records).backward()

    def plain() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        for call in calls:
            add(call)
        optimizer.step()

    return plain


class Worker:
    """A process that holds one side and takes a step whenever it is told to."""

    def __init__(self, setting: Setting, side: Side) -> None:
        command = [sys.executable, "-m", "benchmarks.language_steps", side, json.dumps(asdict(setting))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self) -> dict[str, float]:
        """Seconds of one step, and by how many bytes memory peaked above what was held before the worker's first."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker ended early; it may have needed more memory than there is")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def compare(setting: Setting, sides: Sequence[Side], *, steps: int) -> dict[Side, dict[str, list[float]]]:
    """Seconds and bytes of each side, step by step; the sides take turns, the first step of each is not counted."""
    workers = {side: Worker(setting, side) for side in sides}
    found: dict[Side, dict[str, list[float]]] = {side: {"seconds": [], "bytes": []} for side in sides}
    try:
        for turn in range(steps + 1):
            for side in sides if turn % 2 else sides[::-1]:
                measured = workers[side].step()
                if turn:
                    for key, value in measured.items():
                        found[side][key].append(value)
    finally:
        for worker in workers.values():
            worker.close()
    return found


def _seconds(work: Callable[[], None], device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _serve(setting: Setting, side: Side) -> None:
    """Answers each line of standard input with what a step took."""
    torch.set_num_threads(1)
    step, on_gpu = step_of(setting, side), setting.device != "cpu"
    gc.collect()
    seconds: list[float] = []
    start_again()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else held()
    for _ in sys.stdin:
        gc.collect()
        seconds.append(_seconds(step, setting.device))
        most = torch.cuda.max_memory_allocated() if on_gpu else peak()
        print(json.dumps({"seconds": seconds[-1], "bytes": most - before}), flush=True)


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    _serve(Setting(**{**given, "targets": tuple(given["targets"])}), sys.argv[1])  # type: ignore[arg-type]
