"""Small policies for tests of the engine: each as plain as it can be while it decides something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from infsim.policy.interface import (
    Accept,
    Action,
    Answer,
    Batching,
    BatchView,
    Delivery,
    DeliveryView,
    Forward,
    Iteration,
    Loss,
    MeshView,
    PromptView,
    Recovery,
    ReplicaView,
    Request,
    Router,
    RoutingView,
    Serve,
)


class AnyReplica(Router):
    """Uniformly at random."""

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        return view.replicas[int(view.uniform() * len(view.replicas))]


class FewestTokens(Router):
    """Fewest tokens queued, then fewest requests, then nearest: reads every figure of the view."""

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        return min(
            view.replicas,
            key=lambda r: (
                r.queued_tokens - r.cached_tokens(request),
                r.waiting + r.running,
                r.kv_used,
                r.delay_s + r.prefill_s(request.input_tokens) + r.decode_s(),
            ),
        )


class RandomPath(Router):
    """In a mesh, some walk through the hosts, the whole path at once; else the nearest replica."""

    def route(self, request: Request, view: RoutingView) -> ReplicaView:
        return min(view.replicas, key=lambda replica: replica.delay_s)

    def path(self, request: Request, view: MeshView) -> Sequence[ReplicaView]:
        path: list[ReplicaView] = []
        position = 0
        while position < view.operators:
            hosts = [host for host in view.hosts if host.start <= position < host.end]
            last = path[-1].index if path else None
            hosts.sort(key=lambda host: view.delay_s(last, host.index))
            path.append(hosts[int(view.uniform() ** 2 * len(hosts))])
            position = path[-1].end
        return path


@dataclass
class Chunked(Batching):
    """Decodes first, then chunks of prompts, in order, under a budget of tokens."""

    token_budget: int = 24
    max_sequences: int = 6
    steady = True

    def plan(self, view: BatchView) -> Iteration:
        budget = self.token_budget - view.decoding
        chunks: list[tuple[PromptView, int]] = []
        admitted: list[PromptView] = []
        for prompt in (*view.prefilling, *view.waiting):
            if budget <= 0:
                break
            if len(chunks) >= len(view.prefilling):
                full = view.running + len(admitted) >= self.max_sequences
                if full or not view.fits(admitted, prompt):
                    break
                admitted.append(prompt)
            tokens = min(budget, prompt.remaining_tokens)
            chunks.append((prompt, tokens))
            budget -= tokens
        return Iteration(chunks=chunks)


@dataclass
class Limited(Chunked):
    """The same, but a few sequences decode at a time."""

    decode_limit: int = 2
    steady = False

    def plan(self, view: BatchView) -> Iteration:
        return replace(super().plan(view), decode_limit=self.decode_limit)


@dataclass
class PromptsFirst(Batching):
    """Whole prompts in iterations of their own, decodes only when no prompt can run."""

    token_budget: int = 40

    def plan(self, view: BatchView) -> Iteration:
        chunks = [(prompt, prompt.remaining_tokens) for prompt in view.prefilling]
        admitted: list[PromptView] = []
        for prompt in view.waiting:
            if not view.fits(admitted, prompt):
                break
            admitted.append(prompt)
            chunks.append((prompt, prompt.remaining_tokens))
        return Iteration(chunks=chunks, decode=not chunks)


@dataclass
class Patient(Batching):
    """Waits until `size` prompts are there or the first has waited for `wait_s`, then runs all."""

    size: int = 3
    wait_s: float = 0.05
    token_budget: int = 64

    def plan(self, view: BatchView) -> Iteration:
        chunks = [(prompt, prompt.remaining_tokens) for prompt in view.prefilling]
        if not view.waiting:
            return Iteration(chunks=chunks)
        due_s = min(prompt.queued_s for prompt in view.waiting) + self.wait_s
        if len(view.waiting) < self.size and view.now < due_s:
            return Iteration(chunks=chunks, wake_s=due_s)
        admitted: list[PromptView] = []
        for prompt in view.waiting:
            if not view.fits(admitted, prompt):
                break
            admitted.append(prompt)
            chunks.append((prompt, prompt.remaining_tokens))
        return Iteration(chunks=chunks)


@dataclass
class FirstDeployment(Delivery):
    """Serve with one deployment."""

    deployment: int = 0

    def decide(self, request: Request, view: DeliveryView) -> Serve:
        return Serve(self.deployment)


class Wander(Delivery):
    """Forward to the nearest entry of a deployment, serve there, and escalate some answers once."""

    def decide(self, request: Request, view: DeliveryView) -> Serve | Forward:
        up = [deployment for deployment in view.deployments if deployment.up]
        elsewhere = [deployment for deployment in up if deployment.node != view.here]
        if elsewhere and view.uniform() < 0.4:
            return Forward(min(elsewhere, key=lambda d: view.delay_s(d.node)).node)
        quickest = min(up or view.deployments, key=lambda d: d.queue_s + d.service_s)
        return Serve(quickest.index)

    def review(
        self, request: Request, answer: Answer, view: DeliveryView
    ) -> Accept | Serve | Forward:
        others = [d for d in view.deployments if d.index != answer.deployment]
        if len(view.answers) > 1 or not others or view.uniform() < 0.6:
            return Accept()
        chosen = others[0]
        return Serve(chosen.index) if view.uniform() < 0.5 else Forward(chosen.node)


@dataclass
class Always(Recovery):
    """The same action whatever was lost."""

    action: Action = Action.RESTART

    def recover(self, loss: Loss) -> Action:
        return self.action


class InTurn(Recovery):
    """Replays, restarts, and now and then gives up."""

    def recover(self, loss: Loss) -> Action:
        turn: Sequence[Action] = (Action.REPLAY, Action.RESTART, Action.REPLAY, Action.FAIL)
        return turn[(loss.request.request_id + loss.attempts + len(loss.lost_nodes)) % 4]
