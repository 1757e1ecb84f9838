"""Finds the known word that a misspelled one resembles."""

from collections.abc import Iterable

from asgid.config.value_types import quoted


def nearest(word: str, words: Iterable[str], min_similarity: float) -> str:
    """Return the element of `words` that is most similar to `word`, "" if none is as similar as `min_similarity`."""
    import difflib  # noqa: PLC0415 - 0.15 MB that a daemon with correct settings never needs

    return next(iter(difflib.get_close_matches(word, list(words), 1, min_similarity)), "")


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return the end of a message, which asks for the nearest of `words`; "" if none is near."""
    found = nearest(word, words, 0.7)
    return f"; did you mean {quoted(found)}?" if found else ""
