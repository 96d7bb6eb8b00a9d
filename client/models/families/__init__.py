"""Model families by the name that ``model_type`` gives in a model's ``config.json``.

Adding one is one file and one line here; :mod:`fedward.client.models.families.family` says what the file holds. Nothing
here imports torch.
"""

from fedward.client.models.families import bert, distilbert, llama, qwen2, roberta
from fedward.client.models.families.family import Family
from fedward.registry import by_name

FAMILIES: dict[str, Family] = by_name(
    (module.FAMILY.name, module.__name__, module.FAMILY) for module in (bert, distilbert, llama, qwen2, roberta)
)
