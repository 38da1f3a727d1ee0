"""Which of the known words a misspelt one was likely meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A parenthesis to put behind the word, or nothing where none is near. Upper and lower case are alike."""
    upper = {each.upper(): each for each in known}
    near = get_close_matches(word.upper(), upper, n=1)
    return f" (did you mean {upper[near[0]]}?)" if near else ""
