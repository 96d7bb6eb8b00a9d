"""Architectures that no family computes, with the reason and the nearest that is, by ``model_type``.

Some of them are another family once their files are converted, which ``fedward models import`` does.
"""

from collections.abc import Mapping

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
