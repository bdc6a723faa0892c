"""What is wrong with a configuration: every problem at once, each with the rule, the offending value and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from streams.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule. `where` is the file and the key as a reader of the file would write it."""

    where: str
    rule: str
    value: str
    remedy: str

    def __str__(self) -> str:
        got = f", got {self.value}" if self.value else ""
        return f"{self.where}: {self.rule}{got}. {self.remedy}"


class RefusedError(ValueError):
    """A value that breaks a rule; raised by the parsers of single values, which know the remedy but not the place.

    private: the value may hold a password and is not shown.
    """

    def __init__(self, rule: str, remedy: str, *, private: bool = False) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy
        self.private = private


def configuration_error(problems: Iterable[Problem]) -> ConfigurationError:
    """The one error that holds them all."""
    return ConfigurationError([str(problem) for problem in problems])


def shown(value: object) -> str:
    """An offending value as it stands in an error: short, quoted, never a secret (those are pydantic's SecretStr)."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def nearest(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that does not exist: what was probably meant, and all that there is."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    meant = f"Did you mean {close[0]}? " if close else ""
    return f"{meant}Known here: {', '.join(names)}."
