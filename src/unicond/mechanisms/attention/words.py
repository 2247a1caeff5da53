"""Which tokens of two prompts belong together.

A CLIP tokenizer marks the last token of each word, so that words are runs of tokens: token 0 is the
start, the words' follow, and all from the end token on is padding. Words are aligned by their
longest common subsequence, padding by its distance from the end token.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

_END = "</w>"


class Tokenizer(Protocol):
    """What is asked of a CLIP tokenizer."""

    @property
    def model_max_length(self) -> int:
        """How many tokens a prompt is filled up to, start and end included."""
        ...

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, without start and end."""
        ...


@runtime_checkable
class Marking(Protocol):
    """A mechanism that says something of prompts' tokens."""

    def marks(self) -> Iterable[Tensor]:
        """All that is said: each (B or 1, ..., tokens); nothing where the mechanism is off."""
        ...


@dataclass(frozen=True)
class Word:
    """A word of a prompt.

    Args:
        text: as the tokenizer writes it.
        tokens: their positions in the prompt, the start being 0.
    """

    text: str
    tokens: range


@dataclass(frozen=True, eq=False)
class Alignment:
    """How cross-attention maps of a source prompt become those of a target prompt.

    `A_target = shared * (A_source M) + (1 - shared) * A_target`, along the tokens.

    Args:
        mapper: M, (B or 1, N, N), from the source's tokens to the target's.
        shared: (B or 1, N), 1 where the target's token takes the source's map, 0 where it keeps
            its own.
    """

    mapper: Tensor
    shared: Tensor


def words_of(tokenizer: Tokenizer, prompt: str) -> list[Word]:
    """The words of a prompt, in order; those that do not fit beside start and end are cut off.

    Args:
        tokenizer: the base's.
        prompt: a text.

    Returns:
        Each word with its tokens.
    """
    words: list[Word] = []
    letters, first = "", 1
    for position, token in enumerate(tokenizer.tokenize(prompt), start=1):
        letters += token.removesuffix(_END)
        if token.endswith(_END):
            words.append(Word(letters, range(first, position + 1)))
            letters, first = "", position + 1
    return [word for word in words if word.tokens.stop < tokenizer.model_max_length]


def swapped(
    tokenizer: Tokenizer, source: str | Sequence[str], target: str | Sequence[str]
) -> Alignment:
    """Word for word: the target's words stand where the source's do, and take their maps.

    A word of other tokens shares the map of the word in its place: each of its tokens gets the sum
    of that word's maps divided by their number.

    Args:
        tokenizer: the base's.
        source: prompt of the source, or one a sample.
        target: prompt of the target, or one a sample.

    Returns:
        The alignment, with all of the target's tokens shared.

    Raises:
        ValueError: words are missing or too many; they are listed.
    """
    rows = [_swapped(tokenizer, *pair) for pair in _pairs(source, target)]
    return Alignment(torch.stack(rows), torch.ones(len(rows), tokenizer.model_max_length))


def refined(
    tokenizer: Tokenizer, source: str | Sequence[str], target: str | Sequence[str]
) -> Alignment:
    """Words that both prompts have keep their maps; words that only the target has keep their own.

    Args:
        tokenizer: the base's.
        source: prompt of the source, or one a sample.
        target: prompt of the target, or one a sample.

    Returns:
        The alignment.

    Raises:
        ValueError: the prompts share no word; all are listed.
    """
    rows = [_refined(tokenizer, *pair) for pair in _pairs(source, target)]
    mapper = torch.stack(rows)
    return Alignment(mapper, mapper.sum(1))


def aligned(
    tokenizer: Tokenizer, source: str | Sequence[str], target: str | Sequence[str]
) -> Alignment:
    """`swapped` where all words stand one for one, else `refined`.

    Args:
        tokenizer: the base's.
        source: prompt of the source, or one a sample.
        target: prompt of the target, or one a sample.

    Returns:
        The alignment.

    Raises:
        ValueError: words are missing or too many, and none is in both prompts; all are listed.
    """
    pairs = [[words_of(tokenizer, one) for one in both] for both in _pairs(source, target)]
    swaps = not any(any(_unpaired(old, new)) for old, new in pairs)
    return (swapped if swaps else refined)(tokenizer, source, target)


def scales(tokenizer: Tokenizer, prompt: str | Sequence[str], by: Mapping[str, float]) -> Tensor:
    """Factors of some words' maps.

    Args:
        tokenizer: the base's.
        prompt: of the target, or one a sample.
        by: {word or words: factor}, 1.0 leaves them.

    Returns:
        (B or 1, N), 1 at all other tokens.

    Raises:
        ValueError: a word is not in a prompt, or a factor is not finite.
    """
    found = torch.ones(len(_listed(prompt)), tokenizer.model_max_length)
    for words, factor in by.items():
        if not math.isfinite(factor):
            raise ValueError(f"the factor of {words!r} is {factor}; usual ones are -2 to 5")
        where = places(tokenizer, prompt, [words])
        found = torch.where(where > 0, factor, found)
    return found


def places(tokenizer: Tokenizer, prompt: str | Sequence[str], words: Iterable[str]) -> Tensor:
    """Where words are in a prompt.

    Args:
        tokenizer: the base's.
        prompt: or one a sample.
        words: each a word, or several that follow each other.

    Returns:
        (B or 1, N), 1 at their tokens (everywhere they occur), 0 elsewhere.

    Raises:
        ValueError: some are not in a prompt; they are listed.
    """
    prompts, wanted = _listed(prompt), list(words)
    found = torch.zeros(len(prompts), tokenizer.model_max_length)
    for row, text in enumerate(prompts):
        there = words_of(tokenizer, text)
        missing = [one for one in wanted if not _mark(found[row], tokenizer, there, one)]
        if missing:
            raise ValueError(f"{_quoted(missing)} not in the prompt {text!r}")
    return found


def check_marks(marks: Iterable[Tensor], samples: int) -> None:
    """Refuse words that are marked for other samples than a run's, or by different tokenizers.

    Args:
        marks: each (B or 1, ..., tokens).
        samples: B of the run.

    Raises:
        ValueError: another number of samples, or of tokens.
    """
    found = list(marks)
    wrong = [len(one) for one in found if len(one) not in (1, samples)]
    if wrong:
        raise ValueError(
            f"words are given for {wrong[0]} samples, but this run has {samples}: give prompts of "
            f"one, or of {samples}"
        )
    _check_alike(found)


def check_words(words: Tensor) -> None:
    """Refuse words of which a sample has none.

    Args:
        words: (B or 1, tokens), 1 at the words.

    Raises:
        ValueError: another shape, or a sample without words.
    """
    if words.ndim != 2 or not (words > 0).any(1).all():
        raise ValueError("words are (B or 1, tokens) with 1 at some of each: see words.places")


def check_tokens(marks: Iterable[Tensor], tokens: int) -> None:
    """Refuse words that are marked in prompts of another length than a model's.

    Args:
        marks: each (B or 1, ..., tokens).
        tokens: of a prompt.

    Raises:
        ValueError: some are.
    """
    for count in _check_alike(list(marks)):
        if count != tokens:
            raise ValueError(
                f"words are marked in {count} tokens, but prompts have {tokens}: mark them by this "
                "model's tokenizer (words.places)"
            )


def _check_alike(marks: Sequence[Tensor]) -> set[int]:
    """The one number of tokens that words are marked in, if there are any."""
    tokens = {one.shape[-1] for one in marks}
    if len(tokens) > 1:
        raise ValueError(
            f"words are marked in prompts of {' and of '.join(map(str, sorted(tokens)))} tokens: "
            "use one tokenizer for all"
        )
    return tokens


def _mark(row: Tensor, tokenizer: Tokenizer, there: Sequence[Word], text: str) -> bool:
    """Set 1 at every place of a text; whether there is any."""
    texts = [word.text for word in words_of(tokenizer, text)]
    starts = [
        i
        for i in range(len(there) - len(texts) + 1)
        if texts and [word.text for word in there[i : i + len(texts)]] == texts
    ]
    for i in starts:
        row[there[i].tokens.start : there[i + len(texts) - 1].tokens.stop] = 1
    return bool(starts)


def _swapped(tokenizer: Tokenizer, source: str, target: str) -> Tensor:
    old, new = words_of(tokenizer, source), words_of(tokenizer, target)
    lost, added = _unpaired(old, new)
    if lost or added:
        raise ValueError(
            f"the words of {source!r} and {target!r} do not stand one for one: {_quoted(lost)} "
            f"against {_quoted(added)}; a swap needs as many words in each place (or use `refined`)"
        )
    length = tokenizer.model_max_length
    mapper = torch.zeros(length, length)
    mapper[0, 0] = 1
    for one, other in zip(old, new, strict=True):
        if len(one.tokens) == len(other.tokens):
            mapper[list(one.tokens), list(other.tokens)] = 1
        else:
            rows, columns = torch.tensor(list(one.tokens)), torch.tensor(list(other.tokens))
            mapper[rows[:, None], columns] = 1 / len(columns)
    start, to = _end(old), _end(new)
    for step in range(length - start):  # what would fall off the end stays in the last token
        mapper[start + step, min(to + step, length - 1)] = 1
    return mapper


def _unpaired(old: Sequence[Word], new: Sequence[Word]) -> tuple[list[str], list[str]]:
    """The words of both that no other stands in the place of."""
    lost: list[str] = []
    added: list[str] = []
    for _, i, j, k, m in _steps(old, new):
        if j - i != m - k:
            lost += [word.text for word in old[i:j]]
            added += [word.text for word in new[k:m]]
    return lost, added


def _refined(tokenizer: Tokenizer, source: str, target: str) -> Tensor:
    old, new = words_of(tokenizer, source), words_of(tokenizer, target)
    length = tokenizer.model_max_length
    mapper = torch.zeros(length, length)
    shared = False
    for tag, i, j, k, m in _steps(old, new):
        if tag == "equal":
            shared = True
            for one, other in zip(old[i:j], new[k:m], strict=True):
                mapper[list(one.tokens), list(other.tokens)] = 1
    if not shared and old and new:
        lists = (_quoted(word.text for word in words) for words in (old, new))
        raise ValueError("no word is in both prompts: {} against {}".format(*lists))
    mapper[0, 0] = 1
    start, to = _end(old), _end(new)
    for step in range(length - max(start, to)):
        mapper[start + step, to + step] = 1
    return mapper


def _steps(old: Sequence[Word], new: Sequence[Word]) -> list[tuple[str, int, int, int, int]]:
    texts = ([word.text for word in old], [word.text for word in new])
    return list(SequenceMatcher(None, *texts, autojunk=False).get_opcodes())


def _end(words: Sequence[Word]) -> int:
    """The position of the end token."""
    return words[-1].tokens.stop if words else 1


def _pairs(source: str | Sequence[str], target: str | Sequence[str]) -> list[tuple[str, str]]:
    sources, targets = _listed(source), _listed(target)
    count = max(len(sources), len(targets))
    if {len(sources), len(targets)} - {1, count}:
        raise ValueError(f"{len(sources)} source prompts, but {len(targets)} target prompts")
    both = (prompts * (count // len(prompts)) for prompts in (sources, targets))
    return list(zip(*both, strict=True))


def _listed(prompt: str | Sequence[str]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else list(prompt)


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in words) or "nothing"
