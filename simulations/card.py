"""Writes the trained adapter with the card that tells its reader what it is and how to load it."""

from __future__ import annotations

from pathlib import Path

from fedward.client.models.adapter_files import save_adapter
from fedward.client.models.adapter_model import set_vector
from fedward.simulations.assemble import Facts, non_private_reasons
from fedward.simulations.federation import Outcome
from fedward.simulations.wording import epsilon
from fedward.strategies.registry import in_words

_CARD = """# Adapter of the run {name}
{banner}
A LoRA adapter (rank {rank}, alpha {alpha:g}) and a linear head that predict {outcome}.
Trained by {hospitals} simulated hospitals over {rounds} rounds with the strategy `{strategy}`; the coordinator saw
only sums of masked deltas. Base model: `{base}` (SHA-256 `{base_sha}`).
{shared}
**Not for clinical use.** {privacy}

## Load it with peft
```python
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, PreTrainedTokenizerFast

base = "..."                                        # `fedward models path {base}` prints the folder
encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(base), ".").eval()
head = load_file("head.safetensors")
tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
texts = ["age 70s . male . micu . lactate high"]
batch = tokenizer(texts, padding=True, truncation=True, max_length={max_tokens}, return_tensors="pt")
with torch.no_grad():
    hidden = encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
mask = batch["attention_mask"].unsqueeze(-1).float()
pooled = (hidden * mask).sum(1) / mask.sum(1)
risk = torch.sigmoid(pooled @ head["weight"].T + head["bias"]).squeeze(-1)
```
`fedward evaluate FOLDER --data DIR --format mimic-iii` does the same and scores it.
"""

_SHARED = """
**This is the shared part alone.** With this strategy every hospital keeps a part of its own, which never left it. The
scores in result.json are those of the hospitals' own models, not of this adapter.
"""


def write_adapter(outcome: Outcome, facts: Facts, folder: Path) -> str:
    """Saves the final adapter under ``folder/adapter``; returns the SHA-256 over its weight files."""
    set_vector(outcome.model, outcome.adapter)
    plan = facts.run.plan
    return save_adapter(
        outcome.model,
        folder / "adapter",
        base=facts.files,
        card=card(facts, personal=bool(outcome.personal)),
        task=plan.task,
        max_tokens=plan.adapter.max_tokens,
    )


def card(facts: Facts, *, personal: bool) -> str:
    """The card of the adapter; ``personal`` where every hospital keeps a part of its own."""
    plan = facts.run.plan
    reasons = non_private_reasons(facts)
    privacy = (
        f"{plan.privacy.unit.capitalize()}-level epsilon {epsilon(plan.privacy.epsilon)}, delta "
        f"{plan.privacy.delta:g}; see result.json."
        if not reasons
        else " ".join(reasons)
    )
    return _CARD.format(
        name=plan.name,
        banner="\n**NON-PRIVATE: share this adapter only where the training data themselves may be shared.**\n"
        if reasons
        else "",
        rank=plan.adapter.rank,
        alpha=plan.adapter.alpha,
        outcome=facts.run.task.outcome,
        hospitals=len(facts.sites),
        rounds=plan.training.rounds,
        strategy=in_words(plan, facts.scenario.strategy),
        base=facts.files.name,
        base_sha=facts.files.sha256,
        shared=_SHARED if personal else "",
        privacy=privacy,
        max_tokens=plan.adapter.max_tokens,
    )
