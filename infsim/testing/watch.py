"""A policy under observation: what it is asked, what it answers, and where it looks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from infsim.policy.interface import (
    Answer,
    BatchView,
    DeliveryView,
    DeploymentView,
    Iteration,
    Loss,
    MeshView,
    PromptView,
    ReplicaView,
    Request,
)

MAX_QUESTIONS = 50_000
"""More than any policy needs in an experiment of some dozen requests."""

ELEMENTS: Mapping[type, Mapping[str, type]] = {
    MeshView: {"replicas": ReplicaView, "hosts": ReplicaView},
    BatchView: {"waiting": PromptView, "prefilling": PromptView},
    DeliveryView: {"deployments": DeploymentView},
}
"""Views, and which of their attributes are sequences of other views."""


class PeekError(AttributeError):
    """A policy reads something that its view does not declare."""


class EndlessError(AssertionError):
    """A policy is asked again and again without any progress."""


@dataclass
class Watch:
    """What is noted of one policy during one run.

    Attributes
    ----------
    decisions : list of (float, tuple)
        Time and content of every question with its answer, in order.
    peeks : list of str
        Attributes read that no view declares.
    """

    decisions: list[tuple[float, tuple[Any, ...]]] = field(default_factory=list)
    peeks: list[str] = field(default_factory=list)

    def note(self, now: float, *content: Any) -> None:
        self.decisions.append((now, content))
        if len(self.decisions) > MAX_QUESTIONS:
            raise EndlessError(f"it was asked {MAX_QUESTIONS} times, last at {now:g} s")

    def before(self, time_s: float) -> list[tuple[float, tuple[Any, ...]]]:
        """Return the decisions before a moment."""
        return [decision for decision in self.decisions if decision[0] < time_s]


class Guard:
    """A view that shows what its interface declares and nothing else."""

    __slots__ = ("_interface", "_view", "_watch")

    def __init__(self, view: Any, interface: type, watch: Watch) -> None:
        self._view = view
        self._interface = interface
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in _declared(self._interface):
            what = f"{self._interface.__name__}.{name}"
            self._watch.peeks.append(what)
            raise PeekError(f"{what} is not declared; a policy must not read it")
        value = getattr(self._view, name)
        element = ELEMENTS.get(self._interface, {}).get(name)
        if element is not None:
            return [Guard(item, element, self._watch) for item in value]
        return _unguarding(value) if name == "fits" else value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guard) and self._view is other._view

    def __hash__(self) -> int:
        return hash(id(self._view))

    def __repr__(self) -> str:
        return f"<{self._interface.__name__} {self._view!r}>"


@cache
def _declared(interface: type) -> frozenset[str]:
    """Names of the public attributes of a protocol."""
    return frozenset(
        name for base in interface.__mro__ for name in vars(base) if not name.startswith("_")
    )


def _unguarding(fits: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda admitted, prompt: fits([bare(item) for item in admitted], bare(prompt))


def bare(view: Any) -> Any:
    """Return what a guard guards."""
    return view._view if isinstance(view, Guard) else view


def watched(policy: Any, name: str, watch: Watch, *, guarded: bool) -> Any:
    """Return a copy of a policy that notes its decisions, and is shown guarded views if asked.

    The copy is of a class made for it, since engines look at the class of a policy to learn
    which questions it answers, and ``name`` is what they call it.
    """
    asked = {
        name: make(getattr(type(policy), name), watch, guarded)
        for name, make in QUESTIONS.items()
        if hasattr(type(policy), name)
    }
    # what a policy inherits unchanged it does not answer
    own = {name: ask for name, ask in asked.items() if not _inherited(type(policy), name)}
    copied = copy.deepcopy(policy)
    kind = type(
        type(policy).__name__, (type(policy),), {"__slots__": (), "policy_name": name, **own}
    )
    object.__setattr__(copied, "__class__", kind)
    return copied


def _inherited(policy: type, name: str) -> bool:
    owner = next(base for base in policy.__mro__ if name in vars(base))
    return owner.__module__ == "infsim.policy.interface"


def _guard(view: Any, interface: type, watch: Watch, guarded: bool) -> Any:
    return Guard(view, interface, watch) if guarded else view


def _route(ask: Callable[..., Any], watch: Watch, guarded: bool) -> Callable[..., Any]:
    def route(self: Any, request: Request, view: Any) -> Any:
        chosen = bare(ask(self, request, _guard(view, MeshView, watch, guarded)))
        watch.note(view.now, "route", request.request_id, _index(chosen))
        return chosen

    return route


def _path(ask: Callable[..., Any], watch: Watch, guarded: bool) -> Callable[..., Any]:
    def path(self: Any, request: Request, view: Any) -> Any:
        found = ask(self, request, _guard(view, MeshView, watch, guarded))
        hosts = None if found is None else [bare(host) for host in found]
        indices = None if hosts is None else [_index(host) for host in hosts]
        watch.note(view.now, "path", request.request_id, indices)
        return hosts

    return path


def _plan(ask: Callable[..., Any], watch: Watch, guarded: bool) -> Callable[..., Any]:
    def plan(self: Any, view: Any) -> Any:
        answer = ask(self, _guard(view, BatchView, watch, guarded))
        if not isinstance(answer, Iteration):
            return answer  # the engine says what is wrong with it
        chunks = [(bare(prompt), tokens) for prompt, tokens in answer.chunks]
        named = [(prompt.request.request_id, tokens) for prompt, tokens in chunks]
        rest = (answer.decode, answer.decode_limit, answer.wake_s)
        watch.note(view.now, "plan", named, *rest)
        return Iteration(chunks, *rest)

    return plan


def _decide(ask: Callable[..., Any], watch: Watch, guarded: bool) -> Callable[..., Any]:
    def decide(self: Any, request: Request, view: Any) -> Any:
        action = ask(self, request, _guard(view, DeliveryView, watch, guarded))
        watch.note(view.now, "decide", request.request_id, action)
        return action

    return decide


def _review(ask: Callable[..., Any], watch: Watch, guarded: bool) -> Callable[..., Any]:
    def review(self: Any, request: Request, answer: Answer, view: Any) -> Any:
        action = ask(self, request, answer, _guard(view, DeliveryView, watch, guarded))
        watch.note(view.now, "review", request.request_id, action)
        return action

    return review


def _recover(ask: Callable[..., Any], watch: Watch, guarded: bool) -> Callable[..., Any]:  # noqa: ARG001
    def recover(self: Any, loss: Loss) -> Any:
        action = ask(self, loss)
        watch.note(loss.now, "recover", loss.request.request_id, action)
        return action

    return recover


def _index(candidate: Any) -> Any:
    return getattr(candidate, "index", candidate)


QUESTIONS: Mapping[str, Callable[[Callable[..., Any], Watch, bool], Callable[..., Any]]] = {
    "route": _route,
    "path": _path,
    "plan": _plan,
    "decide": _decide,
    "review": _review,
    "recover": _recover,
}
