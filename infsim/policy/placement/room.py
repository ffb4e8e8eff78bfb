"""How many layers fit on a node: it depends on where in the chain they are.

The first layers come with the embedding, the last ones with the head, and both weigh as much as
a layer or more in a large model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.policy.placement.milp import Infeasible, Model

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Room:
    """Layers that fit on each of N nodes.

    Attributes
    ----------
    inner, first, last, only : (N,) integers
        If the node is neither the first nor the last of the pipeline, the first of several, the
        last of several, or the only one.
    """

    inner: Ints
    first: Ints
    last: Ints
    only: Ints

    @classmethod
    def of(cls, capacities: ArrayLike | Room, layers: int) -> Room:
        """Return the room of nodes whose capacity is the same everywhere in the chain."""
        if isinstance(capacities, Room):
            return capacities
        inner = np.minimum(np.asarray(capacities, dtype=np.int64), layers)
        return cls(inner, inner, inner, inner)

    @property
    def most(self) -> Ints:
        """Layers that fit on each node at its best place."""
        at_ends = np.maximum(self.first, self.last)
        return np.maximum(np.maximum(self.inner, at_ends), self.only)

    def packed(self, layers: int) -> int:
        """Count the pipelines of several nodes that a greedy packing finds, a lower bound.

        Each takes the roomiest nodes until one more completes it, and that one as small as
        possible; every node counts with the room of its worst place.
        """
        worst = np.minimum(np.minimum(self.inner, self.first), self.last)
        left = sorted((int(c) for c in worst if c), reverse=True)
        made = 0
        while sum(left) >= layers:
            missing = layers
            while left[0] < missing:
                missing -= left.pop(0)
            left.remove(min(c for c in left if c >= missing))
            made += 1
        return made

    def require(self, layers: int, pipelines: int = 1) -> None:
        """Raise `Infeasible` if all nodes together are too small."""
        if (total := int(self.most.sum())) < layers * pipelines:
            raise Infeasible(f"{layers * pipelines} layers, but room for {total}")

    def limit(self, model: Model, i: int, held: Any, used: Any, first: Any, last: Any) -> None:
        """Bound the layers ``held`` by node i, given binaries that say where it is.

        ``only``, the product of ``first`` and ``last``, is needed where the four figures are not
        additive.
        """
        inner, at_first, at_last, alone = (
            int(room[i]) for room in (self.inner, self.first, self.last, self.only)
        )
        bound = inner * used + (at_first - inner) * first + (at_last - inner) * last
        if excess := inner + alone - at_first - at_last:
            only = model.continuous(f"only_{first.name}_{last.name}", 0.0, 1.0)
            model.add(only <= first + 0)
            model.add(only <= last + 0)
            model.add(only >= first + last - 1)
            bound += excess * only
        model.add(held - bound <= 0)
        model.add(held - used >= 0)
