"""BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805): the encoder of most clinical models."""

from fedward.client.models.families.encoder_layers import FIXED, EncoderLayers, sizes_by
from fedward.client.models.families.family import (
    ACTIVATION,
    LAYERS,
    POOLING_KEY,
    Choice,
    Family,
    Number,
    Optional,
    Whole,
)

FAMILY = Family(
    name="bert",
    heads={"sequence": "BertModel", "token": "BertModel", "masked": "BertForMaskedLM"},
    settings={
        "hidden_act": ACTIVATION,
        "hidden_size": Whole(),
        "initializer_range": Number(),
        "intermediate_size": Whole(),
        "layer_norm_eps": Number(),
        "max_position_embeddings": Whole(),
        "num_attention_heads": Whole(),
        "num_hidden_layers": LAYERS,
        "pad_token_id": Optional(Whole(least=0), 0),
        "tie_word_embeddings": Choice((True, False)),
        "type_vocab_size": Whole(),
        "vocab_size": Whole(),
        POOLING_KEY: Choice(("mean", "sum")),
    },
    required=frozenset(
        {"hidden_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size"}
    ),
    defaults={"hidden_act": "gelu", "pad_token_id": 0},
    overridden={"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0},
    fixed=FIXED,
    sizes=sizes_by("hidden_size", "num_hidden_layers", "num_attention_heads"),
    layers_path="encoder.layer",
    targets={
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "feed_forward_up": "intermediate.dense",
        "feed_forward_down": "output.dense",
    },
    layer_by_layer=EncoderLayers(),
    options={"add_pooling_layer": False},
    body="bert",
    output="cls.predictions.decoder",
    transform=lambda model, hidden: model.cls.predictions.transform(hidden),
    prefix="bert.",
)
