"""Adapter model: a frozen base model, LoRA on some of its linear maps, and a linear head.

LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685, equation 3): W = W0 + (alpha / rank) B A, with B = 0 at the
start. With ``train_a=False`` only B is trained (FFA-LoRA, Sun et al. 2024, https://arxiv.org/abs/2403.12313): then a
sum of adapters is the adapter of the sum, which a sum of products B A is not. Fed-SB trains a small matrix R between
two frozen factors: W = W0 + (alpha / rank) B R A.

The tensors that a federation trains, sorted by name, are its flat state vector. A strategy may train only some of them
in a round (:func:`train_only`), and may keep others at the hospital (``personal``), outside the vector.

The base model's tensors are read with safetensors and placed by name. The model library's own loader is not used on
foreign folders: it follows references to other files (adapters, remote code) that have no place here. Nothing is
allocated before the weights on disk are known to be those that the configuration describes.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from fedward.adapter import AdapterLayout, LayoutError, Vector, flatten, unflatten
from fedward.client.models.families.family import LANGUAGE_HEADS, LayerByLayer, refused
from fedward.client.models.precision import Precision, chosen_device, reduce_precision
from fedward.client.models.registry import ModelConfig, ModelFiles, ReadOut, damaged, listed, opened_weights
from fedward.client.models.vocabulary_loss import vocabulary_loss
from fedward.errors import ConfigError, IntegrityError
from fedward.messages import labelled_hash
from fedward.plan import Plan
from fedward.run import Run, Schedule
from fedward.strategies.factor import orthonormal_rows, public_matrix
from fedward.strategies.strategy import Kind, kind_of
from fedward.tasks.task import Head, HeadKind

Features = tuple[int, int]  # input and output units of a linear map

_PEFT_TASKS = {"causal": TaskType.CAUSAL_LM, "seq2seq": TaskType.SEQ_2_SEQ_LM}
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_BASE_PREFIX = "base.base_model.model."
_CORED_NAMES = {".lora_B.default.core.weight": ".lora_R.weight", ".lora_B.default.outer.weight": ".lora_B.weight"}
"""Layout names of the parameters of a :class:`CoredFactor`, by the end of their names in the model."""


@dataclass(frozen=True)
class LoraSettings:
    """Where LoRA sits and how large it is."""

    rank: int = 8  # inner dimension r
    alpha: float = 16.0  # the update is multiplied by alpha / rank (or alpha / sqrt(rank) with rank_stabilised)
    targets: tuple[str, ...] = ("query", "value")  # adapted maps of each layer, by the family's generic names
    top_layers: int | None = None  # adapt only this many layers, counted from the output; None for all
    rank_stabilised: bool = False  # rsLoRA scaling (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732)
    train_a: bool = True  # if not, A stays at its seeded initial value
    personal: tuple[Kind, ...] = ()  # trained parts that are no part of the state vector
    core: bool = False  # train a small R between frozen orthonormal factors instead
    head: Head = field(default_factory=Head)  # what the task needs on top
    base_precision: Precision = "float32"  # of the frozen base model
    start: ReadOut | None = None  # where the head starts, if not at zero

    @property
    def trained_kinds(self) -> tuple[Kind, ...]:
        """Parts of the adapter that training may change."""
        if self.core:
            return ("R", "head")
        return ("A", "B", "head") if self.train_a else ("B", "head")

    @property
    def state_kinds(self) -> tuple[Kind, ...]:
        """Of these, the parts that the state vector holds."""
        return tuple(kind for kind in self.trained_kinds if kind not in self.personal)

    def first_layer(self, config: ModelConfig) -> int:
        """Index of the lowest adapted layer; all below never change."""
        return 0 if self.top_layers is None else config.layers - self.top_layers

    def maps(self, config: ModelConfig) -> dict[str, Features]:
        """Input and output units of every adapted map, by module name.

        Raises FW-MODEL-007 (the settings do not fit the base model), FW-MODEL-010 (its family has no such head).
        """
        config.check_head(self.head)
        family = config.family
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise _misfit("The LoRA targets must be distinct, and at least one.")
        for target in self.targets:
            if target not in family.targets:
                fix = f"Its targets are {', '.join(family.targets)}."
                raise _misfit(f"{target[:40]!r} is not a LoRA target of this base model.", fix)
        if self.top_layers is not None and not 1 <= self.top_layers <= config.layers:
            raise _misfit(f"top_layers must lie between 1 and {config.layers} for this base model.")
        known = linear_maps(config, self.head.kind)
        path = family.layers_at(self.head.kind)
        layers = [f"{path}.{number}" for number in range(self.first_layer(config), config.layers)]
        for target in self.targets:
            if f"{layers[0]}.{family.targets[target]}" not in known:
                raise _misfit(f"The layers of this base model have no {target!r}.", "Choose other LoRA targets.")
        names = [f"{layer}.{family.targets[target]}" for layer in layers for target in self.targets]
        return {name: known[name] for name in names}

    def check(self, config: ModelConfig) -> None:
        """Raises like :meth:`maps` unless the settings fit the base model."""
        largest = min(min(features) for features in self.maps(config).values())
        if not 1 <= self.rank <= largest or not self.alpha > 0:
            raise _misfit(f"The LoRA rank must lie between 1 and {largest} and alpha above 0.")


def _misfit(told: str, fix: str | None = None) -> ConfigError:
    return ConfigError(told, code="FW-MODEL-007", fix=fix)


def load_base(files: ModelFiles, kind: HeadKind = "sequence") -> nn.Module:
    """The model of ``files`` under a head of ``kind``, in float32 and evaluation mode, every parameter frozen.

    Raises FW-MODEL-001 (weights unreadable, or not exactly those that the configuration describes).
    """
    config = files.config()
    empty = skeleton(config, kind)
    expected = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    inside = config.family.inside(kind)
    with opened_weights(files.folder) as tensors:
        where = _placed(config, tensors, kind, expected)
        for name, first in _shared(empty).items():
            del expected[name]
            _place_shared(where, name, first, tensors)
        for name in {name for name, _ in empty.named_buffers()} & expected.keys() - where.keys():
            del expected[name]  # it keeps the value that the library gives it
        slices = {name: tensors[stored].get_slice(stored) for name, stored in where.items()}
        lacking = expected.keys() - where.keys()
        if kind in LANGUAGE_HEADS and lacking and not any(name.startswith(inside) for name in lacking):
            raise damaged(
                f"The model's files hold no {kind!r} head: it was saved without an output over the vocabulary."
            )
        _check_shapes({name: tuple(each.get_shape()) for name, each in slices.items()}, expected)
        if any(each.get_dtype() not in _FLOATS for each in slices.values()):
            raise damaged("The model's weights are not floating-point numbers.")
        model = empty_base(config, kind)
        with torch.no_grad():
            state = model.state_dict()
            for name, stored in where.items():
                state[name].copy_(tensors[stored].get_tensor(stored))
    # peft writes this into the adapter's configuration: the public name, never a path of this machine.
    model.name_or_path = files.name
    return model.requires_grad_(False).eval()


def _check_shapes(held: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises FW-MODEL-001 with the names of tensors that are missing, too many or of another shape."""
    found = {
        "are missing": expected.keys() - held.keys(),
        "no part of it is": held.keys() - expected.keys(),
        "have another shape": {name for name in held.keys() & expected.keys() if held[name] != expected[name]},
    }
    told = "; ".join(f"{listed(names)} ({why})" for why, names in found.items() if names)
    if told:
        raise damaged(f"The model's weights are not those that its config.json describes: {told}.")


def empty_base(config: ModelConfig, kind: HeadKind = "sequence", *, seed: int = 0) -> nn.Module:
    """A model with the library's random initial weights; the global random state is left untouched."""
    with isolated_randomness(seed):
        return _construct(config, kind)


def skeleton(config: ModelConfig, kind: HeadKind = "sequence") -> nn.Module:
    """The same modules on torch's meta device, no memory; raises FW-MODEL-002 (settings that do not go together)."""
    try:
        with torch.device("meta"):
            return _construct(config, kind)
    except Exception as error:  # the library checks its configurations with exceptions of many kinds
        raise refused("The model's config.json describes no model that can be built.") from error


@lru_cache(maxsize=64)
def linear_maps(config: ModelConfig, kind: HeadKind) -> Mapping[str, Features]:
    """Input and output units of every linear map of the model, by module name; found once per configuration."""
    maps = {}
    for name, module in skeleton(config, kind).named_modules():
        if isinstance(module, nn.Linear):
            maps[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):  # GPT-2's linear map, whose weight is transposed
            maps[name] = (module.weight.shape[0], module.weight.shape[1])
    return maps


def transformer_layers(base: nn.Module, config: ModelConfig) -> nn.ModuleList:
    """The list of transformer layers inside a model without a head."""
    return attrgetter(config.family.layers_path)(base)


def _shared(model: nn.Module) -> dict[str, str]:
    """Other names of parameters that a model holds under several (an output layer that is the word embedding), and the
    first of each."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(each), name) for name, each in model.named_parameters(remove_duplicate=False)}
    return {name: known for name, known in names.items() if name != known}


def _place_shared(where: dict[str, str], name: str, first: str, tensors: Mapping[str, Any]) -> None:
    """Places one parameter of two names, which a file may hold once or twice; FW-MODEL-001 where they differ."""
    stored = where.pop(name, None)
    if stored is None:
        return
    known = where.setdefault(first, stored)
    if known != stored and not torch.equal(tensors[stored].get_tensor(stored), tensors[known].get_tensor(known)):
        raise damaged("The model's weights hold two versions of a matrix that is one by its config.json.")


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Runs a block under a seeded global generator and restores the generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _construct(config: ModelConfig, kind: HeadKind) -> nn.Module:
    model_class = getattr(transformers, config.family.heads[kind])
    if kind not in LANGUAGE_HEADS:
        return model_class(model_class.config_class(**config.settings), **config.family.options)
    model = model_class(model_class.config_class(**config.settings))
    output, embedding = attrgetter(config.family.output)(model), model.get_input_embeddings()
    if config.settings.get("tie_word_embeddings") is False and output.weight is embedding.weight:
        output.weight = nn.Parameter(output.weight.detach().clone())  # the library ties them in some models regardless
    return model


def _placed(
    config: ModelConfig, tensors: Mapping[str, Any], kind: HeadKind, expected: Collection[str]
) -> dict[str, str]:
    """Name in the model -> name in the file, without what lies outside the model."""
    where: dict[str, str] = {}
    family, inside = config.family, config.family.inside(kind)
    for name in tensors:
        stem, _, last = name.removeprefix(family.prefix).rpartition(".")
        renamed = f"{stem}.{_OLD_NAMES.get(last, last)}" if stem else last
        known = [each + renamed for each in ("", family.prefix, inside) if each + renamed in expected]
        if kind in LANGUAGE_HEADS and known:
            placed = known[0]
        elif family.outside.match(renamed):
            continue
        else:
            placed = inside + renamed
        if placed in where:
            raise damaged("The model's weights hold one tensor under two names.")
        where[placed] = name
    return where


class CoredFactor(nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
    """Stands in the place of peft's factor B and computes ``B R h``, ``[..., r]`` -> ``[..., m]``.

    R (``core``, ``nn.Linear(r, r)`` that starts at zero) is a plain linear layer, so the private engine's rule for
    linear layers is its rule: the gradient of one record is (B^T dY)^T h, summed over tokens. B (``outer``) is frozen.
    """

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.core = nn.Linear(rank, rank, bias=False)
        self.outer = nn.Linear(rank, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """The output of the factor."""
        return self.outer(self.core(hidden))


def insert_cores(encoder: PeftModel) -> None:
    """Puts a :class:`CoredFactor` in the place of every factor B of ``encoder``."""
    for module in list(encoder.modules()):
        factors = getattr(module, "lora_B", None)
        if isinstance(factors, nn.ModuleDict) and "default" in factors:
            plain = factors["default"]
            factors["default"] = CoredFactor(plain.in_features, plain.out_features)


def public_factor(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """The frozen factor ``name`` beside a core: A with orthonormal rows ``[r, n]``, B with such columns ``[m, r]``.

    Gram-Schmidt of uniform numbers from one Philox stream per tensor: derived from the plan alone, so that every
    hospital holds the same bits and nobody chooses them after seeing a gradient. The leading rows and columns do not
    depend on the rank: a hospital of lower rank has the leading part, and trains the leading block of R.
    """
    upright = kind_of(name) == "B"
    rank, width = shape[::-1] if upright else shape
    basis = orthonormal_rows(public_matrix(rank, width, "frozen-factor", seed, name))[1].astype(np.float32)
    return np.ascontiguousarray(basis.T if upright else basis)


def with_core_folded(outer: Tensor, core: Tensor) -> Tensor:
    """B R ``[m, r]``, rounded once to float32: the factor B of an ordinary LoRA adapter with the same function."""
    return (outer.double() @ core.double()).to(torch.float32)


class AdapterModel(nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
    """Scores of texts: the peft model around the base model, then ``nn.Linear(hidden, outputs)`` on its last state.

    Under the head of a language model there is no such map: outputs are last hidden states, of which
    :meth:`token_losses` makes losses without ever holding a number for each word of the vocabulary at every token.
    """

    def __init__(self, base: PeftModel, config: ModelConfig, lora: LoraSettings) -> None:
        super().__init__()
        self.base = base
        self.config = config
        self._pool = {"mean": mean_pool, "sum": sum_pool, "last": last_token}[config.pooling]
        self.lora = lora
        self._inside = config.family.inside(lora.head.kind).rstrip(".")  # path of the model without any head
        self.recomputes = False  # whether layers keep only their inputs and are run again for their gradients
        self.most_rows: int | None = None  # records in a call at most, where fewer fit or rows are not alike
        self.head = None if lora.head.kind in LANGUAGE_HEADS else nn.Linear(config.hidden, lora.head.outputs)

    @property
    def device(self) -> torch.device:
        """Where its parameters lie."""
        return next(self.parameters()).device

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Outputs of the head, as in :meth:`score`, on token ids int64 ``[B, T]`` under a 0/1 mask ``[B, T]``."""
        if self.config.family.layer_by_layer is not None:  # in a decoder, no cache of keys and values is built
            return self.forward_from(0, self.embed(input_ids), attention_mask)
        hidden = self.body()(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.score(hidden, attention_mask)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the encoder of a sequence-to-sequence model makes of ids ``[B, S]`` under a mask, ``[B, S, hidden]``."""
        encoder = attrgetter(self.config.family.encoder)(self.bare_base())
        return encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    def decode(self, input_ids: Tensor, attention_mask: Tensor, source: Tensor, source_mask: Tensor) -> Tensor:
        """Last states ``[B, T, hidden]`` of its decoder on ids ``[B, T]``, given ``source`` ``[B, S, hidden]``."""
        decoded = self.body()(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=source,
            encoder_attention_mask=source_mask,
            use_cache=False,
        )
        return decoded.last_hidden_state

    def forward_from(self, layer: int, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Outputs from the input of transformer layer ``layer``, float32 ``[B, T, hidden]``."""
        hidden = self.run_layers(layer, self.config.layers, hidden, attention_mask)
        return self.score(self._steps.finish(self.body(), hidden), attention_mask)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Input of the first layer, ``[B, T, hidden]``."""
        return self._steps.embed(self.body(), input_ids)

    def run_layers(self, first: int, end: int, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Output of layers ``first`` to ``end - 1`` on their input ``[B, T, hidden]``."""
        body = self.body()
        layers = transformer_layers(body, self.config)[first:end]
        if not (self.recomputes and torch.is_grad_enabled()):
            return self._steps.run(body, layers, hidden, attention_mask)
        for layer in layers:
            step = partial(self._steps.run, body, [layer])
            hidden = checkpoint(step, hidden, attention_mask, use_reentrant=False)
        return hidden

    def score(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """The head on the last hidden state ``[B, T, hidden]``.

        A ``sequence`` head gives ``[B]``, or ``[B, outputs]`` for several; ``token`` gives ``[B, T, outputs]``, a
        language model ``hidden`` itself.
        """
        if self.head is None:
            return hidden
        hidden = hidden.float()  # the head is float32 whatever the base model is
        if self.lora.head.kind == "token":
            return self.head(hidden)
        return self.head(self._pool(hidden, attention_mask)).squeeze(-1)

    def token_losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p(target) in nats, float32 ``[M]``, at states ``[M, hidden]`` of a language model; token ids ``[M]``."""
        weight, bias = self._output
        return vocabulary_loss(self._transformed(hidden), weight, bias, targets)

    def logits(self, hidden: Tensor) -> Tensor:
        """A number for each word of the vocabulary, ``[M, vocabulary]``, at states ``[M, hidden]``; to generate."""
        weight, bias = self._output
        return nn.functional.linear(self._transformed(hidden), weight, bias)

    def _transformed(self, hidden: Tensor) -> Tensor:
        transform = self.config.family.transform
        return hidden if transform is None else transform(self.bare_base(), hidden)

    @property
    def _output(self) -> tuple[Tensor, Tensor | None]:
        """Weight ``[vocabulary, d]`` and bias ``[vocabulary]`` of the output map of a language model."""
        family, base = self.config.family, self.bare_base()
        output = attrgetter(family.output)(base)
        return output.weight, attrgetter(family.output_bias)(base).flatten() if family.output_bias else output.bias

    def body(self) -> nn.Module:
        """The transformers model without any head, whose layers are run one by one."""
        return attrgetter(self._inside)(self.bare_base()) if self._inside else self.bare_base()

    def bare_base(self) -> nn.Module:
        """The transformers model inside the peft wrapper (its LoRA layers included)."""
        return self.base.get_base_model()

    @property
    def _steps(self) -> LayerByLayer:
        steps = self.config.family.layer_by_layer
        if steps is None:
            raise LayoutError("The layers of this model cannot be computed one by one.")
        return steps


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean of ``hidden`` ``[B, T, d]`` over the tokens that ``attention_mask`` ``[B, T]`` keeps -> ``[B, d]``."""
    weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)


SUM_SCALE = 10.0


def sum_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """A tenth of the sum of ``hidden`` ``[B, T, d]`` over the tokens that ``attention_mask`` ``[B, T]`` keeps."""
    return (hidden * attention_mask.to(hidden.dtype).unsqueeze(-1)).sum(1) / SUM_SCALE


def last_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """``hidden`` ``[B, T, d]`` at the last token that ``attention_mask`` ``[B, T]`` keeps -> ``[B, d]``."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (places * attention_mask).argmax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def resolve_run(plan: Plan, config: ModelConfig) -> Run:
    """``plan`` bound to the base model of ``config``: the one place where a hospital resolves it.

    Raises ConfigError for names or settings that do not go together, or that the model or its family cannot have.
    """
    schedule = Schedule.of(plan)
    return Run.bind(schedule, expected_layout(config, lora_of(schedule, config)))


def lora_of(schedule: Schedule, config: ModelConfig, *, site: str | None = None) -> LoraSettings:
    """Where LoRA sits and what of it is trained; the strategy decides which factors, the model under which head.

    A hospital of lower rank r' has alpha r' / r, so that B A is multiplied by the same number everywhere.
    """
    adapter, declared = schedule.plan.adapter, schedule.kind.declaration
    rank = adapter.rank if site is None else adapter.rank_of(site)
    return LoraSettings(
        rank=rank,
        alpha=adapter.alpha if rank == adapter.rank else adapter.alpha * rank / adapter.rank,
        targets=adapter.targets,
        top_layers=adapter.top_layers,
        train_a="A" in (*declared.state, *declared.personal),
        personal=declared.personal,
        core=declared.has_core,
        head=config.head_for(schedule.task),
        base_precision=adapter.base_precision,
        start=_read_out(schedule, config) if adapter.start == "public" else None,
    )


def _read_out(schedule: Schedule, config: ModelConfig) -> ReadOut:
    found = config.read_outs.get(schedule.task.name)
    if found is None:
        known = ", ".join(sorted(config.read_outs))
        told = f"The base model brings no read-out for {schedule.task.name!r}, and adapter.start is 'public'."
        fix = f"It has: {known}." if known else "Set adapter.start = 'zero', or use clinical-prior."
        raise ConfigError(told, code="FW-MODEL-022", fix=fix)
    return found


def build_model(schedule: Schedule, files: ModelFiles, *, site: str | None = None) -> AdapterModel:
    """The adapter model of a run on ``files``, at the rank of ``site``, or the plan's full rank without one.

    Raises FW-MODEL-020 (``files`` have another hash than the plan pins), and like :func:`build`.
    """
    if files.sha256 != schedule.plan.base_model_sha256:
        raise IntegrityError(f"The base model {files.name!r} differs from the plan's.", code="FW-MODEL-020")
    return build(files, lora_of(schedule, files.config(), site=site), seed=schedule.plan.adapter.init_seed)


def build(files: ModelFiles, lora: LoraSettings, *, seed: int) -> AdapterModel:
    """The model at its starting point, bit for bit the same at every hospital, from the plan's public ``seed``.

    B starts at zero, the head at zero or a read-out, A uniform in +-1/sqrt(inputs) from a Philox stream per tensor. A
    core R starts at zero too, between orthonormal factors. There is no dropout: under per-unit clipping it would only
    add noise.

    Raises FW-MODEL-007 (the settings do not fit the base model), FW-MODEL-010 (its family has no such head),
    LayoutError (the trainable tensors are not exactly those that the settings name).
    """
    config = files.config()
    expected_layout(config, lora)  # before anything is loaded
    return assemble(load_base(files, lora.head.kind), config, lora, seed=seed)


def assemble(bare: nn.Module, config: ModelConfig, lora: LoraSettings, *, seed: int) -> AdapterModel:
    """The same on a base model that :func:`load_base` or :func:`empty_base` has made; raises as :func:`build`."""
    expected = expected_layout(config, lora)
    reduce_precision(bare, bare.get_submodule(config.family.layers_at(lora.head.kind)), lora.base_precision)
    with isolated_randomness(seed):
        base = get_peft_model(bare, _peft_config(bare, config, lora))
        if lora.core:
            insert_cores(base)
        model = AdapterModel(base, config, lora)
    with torch.no_grad():
        for name, parameter in adapter_parameters(model).items():
            parameter.copy_(torch.tensor(initial_tensor(lora, name, tuple(parameter.shape), seed)))
    train_only(model, lora.trained_kinds)
    if layout_of(model) != expected:
        raise LayoutError("The model's trainable tensors are not those that the LoRA settings name.")
    model.to(chosen_device()).eval()
    return model


def _peft_config(bare: nn.Module, config: ModelConfig, lora: LoraSettings) -> LoraConfig:
    first, maps = lora.first_layer(config), lora.maps(config)
    paths = [config.family.targets[target] for target in lora.targets]
    # peft looks for names that end in a path, of layers with a number behind two dots; else it needs the full names.
    clear = not any(other.endswith(f".{path}") for other in config.family.targets.values() for path in paths)
    clear = clear and (not first or "." in config.family.layers_at(lora.head.kind)) and not config.family.encoder
    return LoraConfig(
        task_type=_PEFT_TASKS.get(lora.head.kind, TaskType.FEATURE_EXTRACTION),
        base_model_name_or_path=bare.name_or_path,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=paths if clear else list(maps),
        layers_to_transform=list(range(first, config.layers)) if first and clear else None,
        use_rslora=lora.rank_stabilised,
        fan_in_fan_out=any(isinstance(bare.get_submodule(name), Conv1D) for name in maps),
    )


def initial_tensor(lora: LoraSettings, name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """The tensor ``name`` of LoRA or head as :func:`build` leaves it, derived from the plan's public seed alone.

    One stream per tensor: its values depend on its name alone, and its first rows not on how many follow.
    """
    kind = kind_of(name)
    if kind == "head" and lora.start is not None:
        start = lora.start.weight if name.endswith("weight") else (lora.start.bias,)
        return np.array(start, np.float32).reshape(shape)
    if lora.core and kind in ("A", "B"):
        return public_factor(name, shape, seed)
    if kind != "A":
        return np.zeros(shape, np.float32)
    key = int.from_bytes(labelled_hash("adapter-initialisation", seed, name)[:16], "big")
    bound = shape[1] ** -0.5
    return np.random.Generator(np.random.Philox(key=key)).uniform(-bound, bound, shape).astype(np.float32)


@lru_cache(maxsize=256)
def expected_layout(config: ModelConfig, lora: LoraSettings) -> AdapterLayout:
    """The layout of the state, derived without loading a model; raises like :meth:`LoraSettings.maps`."""
    lora.check(config)
    outputs, rank = lora.head.outputs, lora.rank
    shapes: list[tuple[str, tuple[int, ...]]] = []
    if lora.head.kind not in LANGUAGE_HEADS:
        shapes += [("head.weight", (outputs, config.hidden)), ("head.bias", (outputs,))]
    for name, (inputs, units) in lora.maps(config).items():
        shapes.append((f"{name}.lora_B.weight", (units, rank)))
        shapes.append((f"{name}.lora_A.weight", (rank, inputs)))
        shapes.append((f"{name}.lora_R.weight", (rank, rank)))
    return AdapterLayout.of((name, shape) for name, shape in shapes if kind_of(name) in lora.state_kinds)


def start_vector(config: ModelConfig, lora: LoraSettings, *, seed: int) -> NDArray[np.float32]:
    """The state of a model that :func:`build` has just built, float32, derived without building it."""
    layout = expected_layout(config, lora)
    return flatten({t.name: initial_tensor(lora, t.name, t.shape, seed) for t in layout.tensors}, layout)


def start_of(schedule: Schedule, config: ModelConfig) -> Vector:
    """The global state before the first round, float32, at the plan's full rank."""
    return start_vector(config, lora_of(schedule, config), seed=schedule.plan.adapter.init_seed)


def tensor_name(parameter_name: str) -> str:
    """Layout name of a parameter of :class:`AdapterModel`."""
    name = parameter_name.removeprefix(_BASE_PREFIX)
    for ending, layout_ending in _CORED_NAMES.items():
        name = name.replace(ending, layout_ending)
    return name.replace(".default.weight", ".weight")


def adapter_parameters(model: AdapterModel) -> dict[str, nn.Parameter]:
    """Every parameter of LoRA and head by layout name, frozen or not."""
    return {tensor_name(name): p for name, p in model.named_parameters() if "lora_" in name or name.startswith("head.")}


def trainable(model: AdapterModel) -> dict[str, nn.Parameter]:
    """Parameters of the state by layout name; a round may train only some of them."""
    kinds = model.lora.state_kinds
    return {name: p for name, p in adapter_parameters(model).items() if kind_of(name) in kinds}


def train_only(model: AdapterModel, kinds: Collection[Kind]) -> None:
    """Lets exactly the parts ``kinds`` of the adapter be trained; all else is frozen."""
    model.requires_grad_(False)
    for name, parameter in adapter_parameters(model).items():
        parameter.requires_grad_(kind_of(name) in kinds)


def layout_of(model: AdapterModel) -> AdapterLayout:
    """Names and shapes of the state's tensors, at the model's rank."""
    return AdapterLayout.of((name, tuple(parameter.shape)) for name, parameter in trainable(model).items())


def get_vector(model: AdapterModel) -> NDArray[np.float32]:
    """A copy of the state as one vector, float32 ``[layout.size]``."""
    arrays = {name: parameter.detach().cpu().numpy() for name, parameter in trainable(model).items()}
    return flatten(arrays, layout_of(model))


def set_vector(model: AdapterModel, vector: NDArray[np.float32]) -> None:
    """Overwrites the state; raises :class:`LayoutError` if ``vector`` does not fit."""
    set_parameters(model, unflatten(vector, layout_of(model)))


def set_parameters(model: AdapterModel, parts: Mapping[str, NDArray[np.float32]]) -> None:
    """Overwrites the adapter's tensors in ``parts``, by layout name."""
    parameters = adapter_parameters(model)
    with torch.no_grad():
        for name, part in parts.items():
            parameters[name].copy_(torch.tensor(part))


class FrozenFactors:
    """What the factors that are never trained have to be, by the plan's public seed.

    With another A than the plan's, a mean of B says nothing about a mean of products. The frozen factors are in no
    message and in no hash of the state, so nobody else would notice. A hospital therefore compares them bit for bit
    when it starts and before every round. Of the model that it is made from, no value is looked at.
    """

    def __init__(self, model: AdapterModel, seed: int) -> None:
        self._expected = {
            name: initial_tensor(model.lora, name, tuple(parameter.shape), seed)
            for name, parameter in adapter_parameters(model).items()
            if kind_of(name) not in model.lora.trained_kinds
        }

    def check(self, model: AdapterModel) -> None:
        """Raises FW-STRATEGY-009 unless every frozen factor of ``model`` has its initial bits."""
        held = adapter_parameters(model)
        for name, expected in self._expected.items():
            if not np.array_equal(held[name].detach().cpu().numpy(), expected):
                told = "A frozen factor of this hospital is not the one of the plan."
                raise IntegrityError(told, code="FW-STRATEGY-009")
