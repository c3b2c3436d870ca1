"""Layer names short enough for a picture, and still told apart."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

MAX_NAME = 26
_GAP = "\N{HORIZONTAL ELLIPSIS}"
# Numbers, words (of `snake_case` or `CamelCase`), and what stands between them.
_TOKENS = re.compile(r"\d+|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|[\W_]+")
# A number tells layers apart better than a word that as many names hold.
_NUMBER_WORTH = 4


def shorten(names: Sequence[str], most: int = MAX_NAME) -> tuple[list[str], str]:
    """Names of at most `most` characters that still differ, and what they share.

    What all of them share, at the start and at the end, goes first; then, from each
    name that is still too long, the words that most names hold. Those that look
    alike even so are numbered.
    """
    different = list(dict.fromkeys(names))
    if len(different) < 2 or max(map(len, different)) <= most:
        return [_elide(name, most) for name in names], ""
    rows = [_TOKENS.findall(name) for name in different]
    start = _common_start(rows)
    end = _common_start([row[len(start) :][::-1] for row in rows])[::-1]
    cores = ["".join(row[len(start) : len(row) - len(end)]) for row in rows]
    shared = f"{''.join(start)}{_GAP}{''.join(end)}" if start or end else ""
    texts = _numbered(cores, _fitted(cores, most), most)
    short = dict(zip(different, texts, strict=True))
    return [short[name] for name in names], shared


def _common_start(rows: Sequence[list[str]]) -> list[str]:
    """What all rows begin with, that of the two that differ most; each keeps one."""
    first, last = min(rows), max(rows)
    same = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(first, last, strict=False)
    )
    return [token for token, _ in same][: max(min(map(len, rows)) - 1, 0)]


def _fitted(names: Sequence[str], most: int) -> list[str]:
    """Without the words that most of `names` hold; the few alike by themselves."""
    rows = [_TOKENS.findall(name) for name in names]
    held = Counter(key for row in rows for key in set(_keys(row)))
    texts = [_without_common(row, held, most) for row in rows]
    alike: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        alike.setdefault(text, []).append(i)
    for places in alike.values():
        if len(places) > 1:
            few = [names[i] for i in places]
            again = (_middles if len(few) == len(names) else _fitted)(few, most)
            for i, text in zip(places, again, strict=True):
                texts[i] = text
    return texts


def _keys(tokens: Sequence[str]) -> list[str]:
    """What each token counts as: a number goes with the word before it."""
    keys, word = [], ""
    for token in tokens:
        keys.append(f"{word} {token}" if token.isdecimal() else token)
        word = token if token.isalpha() else word
    return keys


def _without_common(tokens: Sequence[str], held: Counter[str], most: int) -> str:
    """Leaves out the words that most names hold, as few as make the rest fit."""
    keys = _keys(tokens)

    def worth(i: int) -> float:
        return -held[keys[i]] / (_NUMBER_WORTH if tokens[i].isdecimal() else 1)

    words = [i for i, token in enumerate(tokens) if token[0].isalnum()]
    shown = set(words)
    dropped = []
    for i in sorted(words, key=worth)[:-1]:
        if len(_joined(tokens, shown)) <= most:
            break
        shown.remove(i)
        dropped.append(i)
    for i in reversed(dropped):
        if len(_joined(tokens, shown | {i})) <= most:
            shown.add(i)
    return _elide(_joined(tokens, shown), most)


def _joined(tokens: Sequence[str], shown: set[int]) -> str:
    """The words shown; what stands between two of them is shown with them."""

    def is_shown(i: int) -> bool:
        around = (i,) if tokens[i][0].isalnum() else (i - 1, i + 1)
        return all(j in shown for j in around if 0 <= j < len(tokens))

    runs = itertools.groupby(range(len(tokens)), is_shown)
    return "".join(
        "".join(tokens[i] for i in run) if seen else _GAP for seen, run in runs
    )


def _middles(names: Sequence[str], most: int) -> list[str]:
    """Without the characters that all of `names` share at the start and the end."""
    start = _common_start([list(name) for name in names])
    end = _common_start([list(name[len(start) :][::-1]) for name in names])
    before, after = _GAP if start else "", _GAP if end else ""
    return [
        _elide(f"{before}{name[len(start) : len(name) - len(end)]}{after}", most)
        for name in names
    ]


def _numbered(names: Sequence[str], texts: Sequence[str], most: int) -> list[str]:
    """Numbers those texts that stand for several names."""
    taken = {name for name, text in zip(names, texts, strict=True) if name == text}
    last: Counter[str] = Counter()
    numbered = []
    for name, text in zip(names, texts, strict=True):
        different = text
        while name != text and different in taken:
            last[text] += 1
            number = f"#{last[text] + 1}"
            if len(number) > most:
                break
            different = _elide(text, most - len(number)) + number
        taken.add(different)
        numbered.append(different)
    return numbered


def _elide(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    ends = f"{text[: most - 1 - half]}{_GAP}{text[len(text) - half :]}"
    return re.sub(f"{_GAP}+", _GAP, ends) if most > 0 else ""
