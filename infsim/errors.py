"""The errors that infsim raises on purpose, each with the exit code of the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Where:
    """A place in an input file.

    Attributes
    ----------
    file : str
        Name of the file, or a description such as ``--set`` where there is none.
    line, column : int or None
        Both count from 1.
    path : str or None
        Dotted path of the value in a structured file, as in ``cluster.nodes[0].device``.
    """

    file: str
    line: int | None = None
    column: int | None = None
    path: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.path}" if self.path else place


class InfsimError(Exception):
    """Base of all errors that infsim raises on purpose."""

    exit_code = 1


class InputError(InfsimError):
    """Something that was given is wrong; the message says where, what, and what would be right.

    Parameters
    ----------
    message : str
        What is wrong, with the offending value.
    where : Where, optional
        The place in the input.
    hint : str, optional
        What would be right, as in ``did you mean 'random'?``.
    key : str, optional
        Name of the offending entry below ``where``, for callers that know its own place.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        where: Where | None = None,
        hint: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message, where, hint, key)
        self.message = message
        self.where = where
        self.hint = hint
        self.key = key

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # errors travel between worker processes; keyword-only arguments need help with that
        return _rebuild, (type(self), self.message, self.where, self.hint, self.key)

    def at(self, where: Where | None) -> Self:
        """Return the same error at another place."""
        return type(self)(self.message, where=where, hint=self.hint, key=self.key)


def _rebuild(
    kind: type[InputError], message: str, where: Where | None, hint: str | None, key: str | None
) -> InputError:
    return kind(message, where=where, hint=hint, key=key)


class InfeasibleError(InputError):
    """No plan exists, or a model fits nowhere; the message says what is missing."""


class PolicyError(InfsimError):
    """A policy raised, or answered something that makes no sense.

    Parameters
    ----------
    kind, policy : str
        As in the scenario: ``routing``, ``least-loaded``.
    request_id : int or None
        The request that was decided on.
    reason : str
        What was wrong with the answer.
    """

    exit_code = 3

    def __init__(self, kind: str, policy: str, request_id: int | None, reason: str) -> None:
        super().__init__(kind, policy, request_id, reason)
        self.kind = kind
        self.policy = policy
        self.request_id = request_id
        self.reason = reason

    def __str__(self) -> str:
        request = "" if self.request_id is None else f" at request {self.request_id}"
        return f"{self.kind} policy {self.policy!r}{request}: {self.reason}"


class CostError(InfsimError):
    """A cost model answered a time that no iteration can take: negative, infinite, or no number.

    Parameters
    ----------
    node : str
        The node that was to compute.
    duration_s : float
        The answer.
    """

    exit_code = 3

    def __init__(self, node: str, duration_s: float) -> None:
        super().__init__(node, duration_s)
        self.node = node
        self.duration_s = duration_s

    def __str__(self) -> str:
        return f"the costs of node {self.node!r} say that an iteration lasts {self.duration_s} s"


class FetchError(InfsimError):
    """Public data could not be fetched; the message says what was tried, and what can be done."""

    exit_code = 4


class ConservationError(InfsimError):
    """The audit at the end of a run failed: a bug in the engine."""


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Return the option that a misspelt word most likely means, None if none is near."""
    from difflib import get_close_matches

    by_folded = {option.casefold(): option for option in options}
    near = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[near[0]] if near else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest option, an empty string without one."""
    near = nearest(word, options)
    return f"; did you mean {near!r}?" if near else ""
