"""A CLIP tokenizer of the world's own words: each word of a caption is one token.

Byte-pair encoding is trained on the word list alone until every word is whole. Because the merges
are applied in the order in which they were learned, each listed word comes out as one token; any
other text falls back to bytes. The files are CLIP's own (`vocab.json`, `merges.txt`), so that
`transformers.CLIPTokenizer.from_pretrained` loads them as it loads Stable Diffusion's.

Source: Sennrich et al. 2016, arXiv:1508.07909; the byte alphabet is GPT-2's.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"
MAX_TOKENS = 77

_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\w\s]|_)+")


def words_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The distinct words and signs of some texts, as CLIP's tokenizer splits them, sorted."""
    return tuple(sorted({piece for text in texts for piece in _PIECES.findall(text.lower())}))


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes: GPT-2's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def _letters(word: str) -> tuple[str, ...]:
    """A word as symbols, the last one with the end-of-word mark."""
    alphabet = dict(zip(_byte_order(), byte_alphabet(), strict=True))
    symbols = [alphabet[byte] for byte in word.encode()]
    return (*symbols[:-1], symbols[-1] + SUFFIX)


def _byte_order() -> list[int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + [byte for byte in range(256) if byte not in printable]


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Merges after which every word is one symbol: the most frequent pair first.

    Args:
        words: distinct words.

    Returns:
        Pairs in the order in which they are merged; ties are broken by the alphabet.
    """
    split = [_letters(word) for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(symbols) > 1 for symbols in split):
        counts = Counter(pair for symbols in split for pair in pairwise(symbols))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        split = [_merged(symbols, best) for symbols in split]
    return merges


def _merged(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The symbols with every occurrence of a pair joined, from the left."""
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] = out[-1] + symbol
        else:
            out.append(symbol)
    return tuple(out)


def build(words: Sequence[str], folder: Path) -> CLIPTokenizer:
    """Write a tokenizer's files and load it.

    Args:
        words: each becomes one token.
        folder: for `vocab.json`, `merges.txt` and the config; made if missing.

    Returns:
        The tokenizer, padding to 77 tokens with the end token as CLIP does.
    """
    merges = learn_merges(words)
    letters = byte_alphabet()
    tokens = [*letters, *(letter + SUFFIX for letter in letters)]
    tokens += list(dict.fromkeys("".join(pair) for pair in merges))
    vocab = {token: row for row, token in enumerate([*tokens, START, END])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return CLIPTokenizer.from_pretrained(str(folder))
