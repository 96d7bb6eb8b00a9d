"""Option scores beside those of lm-eval on the same local items: ``python -m benchmarks.language_choice --json FILE``.

Both sides read one folder: a small Llama with random weights and a subword tokenizer trained on the items, or the
folder of ``--model``. With lm-eval installed (``pip install lm-eval==0.4.13``; it pulls no torch) its own task code
scores the items through transformers. Else its documented scoring is written again here, and the document says so:
whole text encoded, tokens beyond those of the context scored, sums of log-softmax, by character of the option.

``choice_vs_lm_eval`` is the largest relative difference of a sum; every item must have the same option chosen.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.targets import Target
from fedward.cli.evaluate import load_scored
from fedward.client.models.adapter_model import empty_base
from fedward.client.models.registry import check_model_config

TARGETS = (Target("choice_vs_lm_eval", "relative difference of option scores", at_most=1e-6),)
ITEMS, MOST_OPTIONS, SEED = 60, 5, 7
_END = "<|endoftext|>"
_VOCABULARY = (
    "fever cough sepsis lactate kidney heart failure insulin aspirin warfarin pneumonia 12 mg daily left right acute "
    "which drug first line therapy is given after stroke for a patient with diabetes and asthma chronic"
)
_QUESTION = "Question: {{question}}\nAnswer:"

Item = dict[str, Any]
Scores = list[list[float]]  # of every option of every item


def made_items(count: int = ITEMS) -> list[Item]:
    """Invented questions of two to five options of one to eight words, with the letter of the right one."""
    draws = np.random.default_rng(SEED)

    def words(low: int, high: int) -> str:
        return " ".join(draws.choice(_VOCABULARY.split(), draws.integers(low, high + 1)))

    found = []
    for number in range(count):
        options = {letter: f"{words(1, 8)} {number}" for letter in "ABCDE"[: draws.integers(2, MOST_OPTIONS + 1)]}
        right = str(draws.choice(list(options)))
        found.append({"question": words(5, 30) + "?", "options": options, "answer_idx": right})
    return found


def write_model(folder: Path, items: Sequence[Item]) -> Path:
    """A Llama with random weights and a byte-level BPE tokenizer of 600 entries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((json.dumps(item) for item in items), trainer)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    document = {"model_type": "llama", "vocab_size": 640, "max_position_embeddings": 512, "eos_token_id": 0, **sizes}
    base = empty_base(check_model_config(document), "causal", seed=SEED)
    with torch.no_grad():
        for parameter in base.parameters():  # else every option is as likely as its length says
            parameter.mul_(4.0 if parameter.dim() == 2 else 1.0)
    folder.mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in base.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**document, "architectures": ["LlamaForCausalLM"]}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": _END}))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def ours(model: Path, data: Path) -> Scores:
    """Sums as ``fedward evaluate --task choice --details`` prints them, in the order of the file."""
    found = load_scored(model, "choice").score(data, format="choices", details=True)
    return [row["log_likelihoods"] for row in found["details"]]


def harness(model: Path, items: Sequence[Item], folder: Path) -> Scores:
    """Sums by lm-eval's own code for tasks of multiple choice, with log-softmax and sums in float64."""
    # Only the benchmark group brings it.
    lm_eval: Any = importlib.import_module("lm_eval")
    tasks: Any = importlib.import_module("lm_eval.api.task")
    readers: Any = importlib.import_module("lm_eval.models.huggingface")
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    rows = [{**item, "texts": list(item["options"].values())} for item in items]
    data = folder / "lm_eval.jsonl"
    flat = [{"question": r["question"], "texts": r["texts"], "gold": "ABCDE".index(r["answer_idx"])} for r in rows]
    data.write_text("\n".join(map(json.dumps, flat)), encoding="utf-8")
    task = tasks.ConfigurableTask(
        config={
            "task": "local_choice",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": _QUESTION,
            "doc_to_target": "gold",
            "doc_to_choice": "{{texts}}",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        }
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"), eos_token=_END, pad_token=_END)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    reader = readers.HFLM(pretrained=base, tokenizer=tokenizer, device="cpu", batch_size=4, softmax_dtype="float64")
    found = lm_eval.simple_evaluate(model=reader, tasks=[task], log_samples=True, bootstrap_iters=0)
    if found is None:
        raise RuntimeError("lm-eval returned nothing")
    samples = sorted(found["samples"]["local_choice"], key=lambda sample: int(sample["doc_id"]))
    return [[float(response[0]) for response in sample["filtered_resps"]] for sample in samples]


def written_again(model: Path, items: Sequence[Item]) -> Scores:
    """The same scoring from its documentation, with transformers and no code of fedward."""
    from transformers import AutoModelForCausalLM

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def score(context: str, continuation: str) -> float:
        whole, known = tokenizer.encode(context + continuation).ids, len(tokenizer.encode(context).ids)
        with torch.no_grad():
            logits = base(torch.tensor([whole])).logits[0].double()
        chances = torch.log_softmax(logits, dim=-1)
        return float(sum(chances[place - 1, whole[place]] for place in range(known, len(whole))))

    return [
        [score(f"Question: {item['question']}\nAnswer:", f" {option}") for option in item["options"].values()]
        for item in items
    ]


def compared(items: Sequence[Item], found: Scores, expected: Scores) -> dict[str, Any]:
    """Largest relative difference, and on how many items another option is chosen, by sum and by character."""
    differences, other = [], [0, 0]
    for item, left, right in zip(items, found, expected, strict=True):
        lengths = np.array([len(option) for option in item["options"].values()])
        pair = np.array(left), np.array(right)
        differences.append(float(np.max(np.abs(pair[0] - pair[1]) / np.abs(pair[1]))))
        other[0] += int(pair[0].argmax() != pair[1].argmax())
        other[1] += int((pair[0] / lengths).argmax() != (pair[1] / lengths).argmax())
    return {
        "choice_vs_lm_eval": max(differences),
        "items": len(items),
        "other_option_by_sum": other[0],
        "other_option_by_character": other[1],
    }


def choice_figures(model: Path | None = None) -> dict[str, Any]:
    """Compares the two on invented items; ``oracle`` says what stood beside fedward."""
    with tempfile.TemporaryDirectory() as place:
        folder, items = Path(place), made_items()
        data = folder / "items.jsonl"
        data.write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
        model = write_model(folder / "model", items) if model is None else model
        installed = find_spec("lm_eval") is not None
        expected = harness(model, items, folder) if installed else written_again(model, items)
        figures = compared(items, ours(model, data), expected)
    return {**figures, "oracle": "lm-eval" if installed else "its documented scoring, written again"}


def main() -> None:
    """Prints the figures, and writes them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", type=Path, help="folder of a language model without a chat template")
    options = parser.parse_args()
    figures = choice_figures(options.model)
    for key, value in figures.items():
        print(f"{key}: {value}")
    print(f"choice_vs_lm_eval {TARGETS[0].verdict(figures['choice_vs_lm_eval'])}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
