"""Model families by the name that ``model_type`` gives in a model's ``config.json``.

Adding one is one file and one line here; :mod:`fedward.client.models.families.family` says what the file holds. Nothing
here imports torch.
"""

from fedward.client.models.families import (
    bert,
    biogpt,
    deberta_v2,
    distilbert,
    electra,
    gemma3_text,
    glm,
    glm4,
    gpt2,
    llama,
    mistral,
    modernbert,
    phi3,
    qwen2,
    qwen3,
    roberta,
    xlm_roberta,
)
from fedward.client.models.families.family import Family
from fedward.registry import by_name

_ENCODERS = (bert, deberta_v2, distilbert, electra, modernbert, roberta, xlm_roberta)
_DECODERS = (biogpt, gemma3_text, glm, glm4, gpt2, llama, mistral, phi3, qwen2, qwen3)
FAMILIES: dict[str, Family] = by_name(
    (module.FAMILY.name, module.__name__, module.FAMILY) for module in (*_ENCODERS, *_DECODERS)
)
