"""Delays and bandwidths between nodes and clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, Strict, Tag, model_validator

from infsim.scenario.schema.base import Bandwidth, Fraction, Many, NotEmpty, Part, Time, told_by


class Mesh(Part):
    """Everything reaches everything; what counts is the regions of the two ends."""

    within_rtt: Time = 0.0
    """Round-trip time between endpoints of the same region."""
    within_bandwidth: Bandwidth | None = None
    """Bandwidth within a region; unlimited by default."""
    rtt: dict[str, dict[str, Time]] = Field(default_factory=dict)
    """Round-trip times between regions, `{a: {b: 90 ms, c: 20 ms}, b: {c: 80 ms}}`; each pair once,
    in either order."""
    bandwidth: dict[str, dict[str, Bandwidth]] = Field(default_factory=dict)
    """Bandwidth between regions, written as `rtt` is."""
    between_rtt: Time | None = None
    """Round-trip time between regions that `rtt` does not name."""
    between_bandwidth: Bandwidth | None = None
    """Bandwidth between regions that `bandwidth` does not name; unlimited by default."""
    jitter: Fraction = 0.0
    """Spread of delays around these values: each pair of endpoints gets its own factor, uniform in
    `1 - jitter` to `1 + jitter`."""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs of regions that are named."""
        for matrix in (self.rtt, self.bandwidth):
            for a, row in matrix.items():
                for b in row:
                    yield a, b

    @model_validator(mode="after")
    def _each_pair_once(self) -> Mesh:
        for name, matrix in (("rtt", self.rtt), ("bandwidth", self.bandwidth)):
            for a, row in matrix.items():
                for b in row:
                    if a != b and a in matrix.get(b, {}):
                        raise ValueError(f"{name}: {a} and {b} are given in both orders")
        return self


class Link(Part):
    """A link in both directions."""

    between: Annotated[tuple[str, str], Strict(False)]
    """Its two ends: nodes, groups of nodes (a link each), clients, or switches."""
    delay: Time = 0.0
    """Propagation delay, one way."""
    bandwidth: Bandwidth | None = None
    """Bandwidth in each direction; unlimited by default."""


class Links(Part):
    """An explicit topology; messages take the path of least delay."""

    links: Annotated[Many[Link], NotEmpty]
    """The links."""
    switches: Many[str] = ()
    """Names of what is neither node nor client."""


Network = Annotated[
    Annotated[Mesh, Tag("mesh")] | Annotated[Links, Tag("links")],
    told_by("links", mapping="mesh", scalar=None),
]
