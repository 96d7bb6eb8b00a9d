"""The encoder families fedward can adapt: which settings they have and where their parts lie.

A family is data, not code: adding one means adding a row here and a test on a tiny configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ACTIVATIONS = frozenset({"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh"})

METADATA_KEYS = frozenset(
    {
        "_name_or_path",
        "_num_labels",
        "architectures",
        "bos_token_id",
        "classifier_dropout",
        "directionality",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "label2id",
        "model_type",
        "num_labels",
        "output_past",
        "pad_token_id",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
        "position_embedding_type",
        "problem_type",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Keys that published configurations carry and that an encoder's forward pass does not need: read, never passed on."""

MUST_BE = {
    "add_cross_attention": (False,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "position_embedding_type": ("absolute", None),
    "sinusoidal_pos_embds": (False,),
}
"""Keys that change the computation: accepted only with the value fedward computes with."""


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        model_class: class name in transformers.
        integers, floats: configuration keys that are passed on, with the bounds checked in ``encoder_config``.
        required: the keys among them that must be present.
        names: where the generic sizes are found: ``hidden``, ``layers``, ``heads``, ``activation``.
        options: keyword arguments of the constructor.
        prefix: prefix of the encoder's tensors in checkpoints that also hold a task head.
        layers_path: attribute path of the list of layers, also the prefix of their tensor names.
        targets: generic LoRA target -> module path inside a layer; all map hidden to hidden units.
        position_offset: positions that the embedding table reserves before the first token.
        dropouts: keys that are set to zero: with patient-level clipping dropout only adds noise.
    """

    model_class: str
    integers: frozenset[str]
    floats: frozenset[str]
    names: Mapping[str, str]
    prefix: str
    layers_path: str
    targets: Mapping[str, str]
    dropouts: frozenset[str]
    options: Mapping[str, bool] = field(default_factory=dict)
    position_offset: int = 0

    @property
    def required(self) -> frozenset[str]:
        """Keys without which the sizes of the model are unknown."""
        sizes = {self.names[name] for name in ("hidden", "layers", "heads")}
        return frozenset(sizes | {"vocab_size", "max_position_embeddings"})


_BERT = Family(
    model_class="BertModel",
    integers=frozenset(
        {
            "hidden_size",
            "intermediate_size",
            "max_position_embeddings",
            "num_attention_heads",
            "num_hidden_layers",
            "type_vocab_size",
            "vocab_size",
        }
    ),
    floats=frozenset({"initializer_range", "layer_norm_eps"}),
    names={
        "hidden": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "activation": "hidden_act",
    },
    prefix="bert.",
    layers_path="encoder.layer",
    targets={
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
    },
    dropouts=frozenset({"attention_probs_dropout_prob", "hidden_dropout_prob"}),
    options={"add_pooling_layer": False},
)

FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "roberta": Family(
        model_class="RobertaModel",
        integers=_BERT.integers,
        floats=_BERT.floats,
        names=_BERT.names,
        prefix="roberta.",
        layers_path=_BERT.layers_path,
        targets=_BERT.targets,
        dropouts=_BERT.dropouts,
        options=_BERT.options,
        position_offset=2,
    ),
    "distilbert": Family(
        model_class="DistilBertModel",
        integers=frozenset({"dim", "hidden_dim", "max_position_embeddings", "n_heads", "n_layers", "vocab_size"}),
        floats=frozenset({"initializer_range"}),
        names={"hidden": "dim", "layers": "n_layers", "heads": "n_heads", "activation": "activation"},
        prefix="distilbert.",
        layers_path="transformer.layer",
        targets={
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "attention_output": "attention.out_lin",
        },
        dropouts=frozenset({"attention_dropout", "dropout", "qa_dropout", "seq_classif_dropout"}),
    ),
}
"""Supported values of ``model_type``."""
