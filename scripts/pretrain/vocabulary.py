"""The word list and tokenizer of the packaged encoder, built from the pre-training texts."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN = SPECIAL_TOKENS[1]
PAD_ID, UNKNOWN_ID, START_ID, END_ID, MASK_ID = range(len(SPECIAL_TOKENS))
LETTERS = string.ascii_lowercase + string.digits + ".+/-%'"


def build_tokenizer(texts: Iterable[str], extra: Iterable[str], *, least_count: int = 2) -> Tokenizer:
    """A lower-case WordPiece tokenizer: every frequent word whole, any other word letter by letter.

    Args:
        texts: pre-training texts; words are counted.
        extra: further texts whose words are kept whole whatever their count.
        least_count: occurrences that a word of ``texts`` needs.
    """
    splitter = _bare_tokenizer({UNKNOWN: 0})
    counts = Counter(word for text in texts for word in _words(splitter, text))
    kept = {word for word, count in counts.items() if count >= least_count}
    kept |= {word for text in extra for word in _words(splitter, text)}
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    ordered = [*SPECIAL_TOKENS, *pieces, *sorted(kept - set(pieces), key=lambda word: (-counts[word], word))]
    tokenizer = _bare_tokenizer({word: number for number, word in enumerate(ordered)})
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", START_ID), ("[SEP]", END_ID)]
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _bare_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=64))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    normal = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
