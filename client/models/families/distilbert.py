"""DistilBERT (Sanh et al. 2019, https://arxiv.org/abs/1910.01108): half of BERT's layers, with names of their own."""

from fedward.client.models.families.encoder_layers import FIXED, EncoderLayers, sizes_by
from fedward.client.models.families.family import ACTIVATION, LAYERS, Choice, Family, Number, Optional, Whole

FAMILY = Family(
    name="distilbert",
    heads={"sequence": "DistilBertModel", "token": "DistilBertModel", "masked": "DistilBertForMaskedLM"},
    settings={
        "activation": ACTIVATION,
        "dim": Whole(),
        "hidden_dim": Whole(),
        "initializer_range": Number(),
        "max_position_embeddings": Whole(),
        "n_heads": Whole(),
        "n_layers": LAYERS,
        "pad_token_id": Optional(Whole(least=0), 0),
        "tie_word_embeddings": Choice((True, False)),
        "vocab_size": Whole(),
    },
    required=frozenset({"dim", "max_position_embeddings", "n_heads", "n_layers", "vocab_size"}),
    defaults={"activation": "gelu", "pad_token_id": 0},
    overridden=dict.fromkeys(("attention_dropout", "dropout", "qa_dropout", "seq_classif_dropout"), 0.0),
    fixed={**FIXED, "sinusoidal_pos_embds": Choice((False,))},
    sizes=sizes_by("dim", "n_layers", "n_heads"),
    layers_path="transformer.layer",
    targets={
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "feed_forward_up": "ffn.lin1",
        "feed_forward_down": "ffn.lin2",
    },
    layer_by_layer=EncoderLayers(),
    body="distilbert",
    output="vocab_projector",
    transform=lambda model, hidden: model.vocab_layer_norm(model.activation(model.vocab_transform(hidden))),
    prefix="distilbert.",
)
