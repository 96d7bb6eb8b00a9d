"""Model families by the name that ``model_type`` gives in a model's ``config.json``.

Adding one is one file and one line here; :mod:`fedward.client.models.families.family` says what the file holds. Nothing
here imports torch.
"""

from collections.abc import Mapping

from fedward.client.models.families import (
    bart,
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
    t5,
    xlm_roberta,
)
from fedward.client.models.families.family import Family
from fedward.registry import by_name

_ENCODERS = (bert, deberta_v2, distilbert, electra, modernbert, roberta, xlm_roberta)
_DECODERS = (biogpt, gemma3_text, glm, glm4, gpt2, llama, mistral, phi3, qwen2, qwen3)
FAMILIES: dict[str, Family] = by_name(
    (module.FAMILY.name, module.__name__, module.FAMILY) for module in (*_ENCODERS, *_DECODERS, bart, t5)
)

NOT_COMPUTED: Mapping[str, tuple[str, str]] = {
    "baichuan": (
        "Baichuan keeps query, key and value in one map, and its model is code in its folder.",
        "`fedward models import` makes Baichuan2-7B a llama. Baichuan2-13B adds a slope to attention (ALiBi), which no "
        "family has: use Baichuan2-7B.",
    ),
    "chatglm": (
        "The model of ChatGLM is code in its folder.",
        "`fedward models import` makes ChatGLM2-6B and ChatGLM3-6B a glm. ChatGLM-6B reads its prompt in both "
        "directions with positions of two dimensions, which no family has: use ChatGLM3-6B.",
    ),
    "gemma3": ("Gemma 3 with images is not computed.", "Use its text part, of model_type gemma3_text."),
    "opt": (
        "The feed-forward maps of OPT see all tokens of a batch as one list: no record has a gradient of its own.",
        "Use gpt2, or biogpt for medicine.",
    ),
}
"""Architectures that no family computes, by ``model_type``: the reason, and the nearest that is computed.

Some of them are another family once their files are converted, which ``fedward models import`` does.
"""

__all__ = ["FAMILIES", "NOT_COMPUTED", "Family"]
