"""Delays and bandwidths between nodes and clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, Strict, Tag, model_validator

from infsim.scenario.schema.base import (
    Bandwidth,
    File,
    Fraction,
    Many,
    Memory,
    NotEmpty,
    Part,
    PositiveTime,
    Time,
    told_by,
)

# --- where things are -----------------------------------------------------------------------


class Coordinates(Part):
    """A point on the globe."""

    latitude: Annotated[float, Field(ge=-90, le=90)]
    """Degrees north."""
    longitude: Annotated[float, Field(ge=-180, le=180)]
    """Degrees east."""


PlaceEntry = Annotated[
    Annotated[str, Tag("city")] | Annotated[Coordinates, Tag("mapping")],
    told_by(mapping="mapping", scalar="city"),
]
"""The name of a city, or coordinates."""


# --- what all networks may have -------------------------------------------------------------


class Variation(Part):
    """Delays that change over minutes and hours; the spreads are fitted to PlanetLab."""

    scale: Annotated[float, Field(ge=0)] = 1.0
    """Multiplies all spreads; 0 leaves the daily swing only."""
    step: PositiveTime = 60.0
    """How long a delay holds."""
    correlation: PositiveTime = 1800.0
    """Time after which the correlation with the delay of now has fallen to 1/e."""
    daily_swing: Fraction = 0.0
    """Relative amplitude of a daily rise and fall of all delays, below 1."""
    peak: Time = 0.0
    """Time of the day, from the beginning of the run, at which they are highest."""


class TcpPart(Part):
    """What TCP adds to delay and bytes over rate."""

    connection: Literal["kept", "fresh"] = "kept"
    """Whether messages use connections that are there, or open one each (handshake, slow start)."""
    window: Memory = 3 * 2**20
    """Receive window; a connection carries at most one window in a round trip."""
    initial_window: Memory = 14480
    """Bytes that a fresh connection may have under way at first: ten segments."""
    overhead: Time = 1e-4
    """Time of each message in sender and receiver."""


class Conditions(Part):
    """What a network of any kind may have."""

    variation: Variation | None = None
    """How delays change over time (`{}` for measured defaults); without it they are constant."""
    tcp: TcpPart | None = None
    """What the transport protocol costs (`{}` for its defaults); nothing without it."""


class Local(Conditions):
    """Conditions between endpoints of the same place."""

    within_rtt: Time = 0.0
    """Round-trip time between endpoints of the same region, or of the same row or vertex."""
    within_bandwidth: Bandwidth | None = None
    """Bandwidth between them; unlimited by default."""


# --- meshes and links -----------------------------------------------------------------------


class Mesh(Local):
    """Everything reaches everything; what counts is the regions of the two ends."""

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


class Links(Conditions):
    """An explicit topology; messages take the path of least delay."""

    links: Annotated[Many[Link], NotEmpty]
    """The links."""
    switches: Many[str] = ()
    """Names of what is neither node nor client."""


# --- measured networks ----------------------------------------------------------------------


class Placed(Local):
    """Networks whose endpoints are put on the rows or vertices of a file."""

    by: Literal["region", "endpoint"] = "region"
    """Whether regions are put on rows, or nodes and clients each for themselves."""
    rows: Literal["same-name", "sample"] | dict[str, str | int] = "same-name"
    """Which row each gets: the one of its name (for a region, also that of its `place`), one drawn
    from the seed, or the names (numbers from 0, if the file has no names) given here."""
    between_bandwidth: Bandwidth | None = None
    """Bandwidth between different rows; unlimited by default."""


class Matrix(Placed):
    """Measured round-trip times."""

    matrix: File
    """Square matrix, text or gzip: numbers between blanks, or comma-separated with names in the
    first row and column. Also a file of a public trace that was fetched, as
    `planetlab-rtt/PlanetLabData_1`."""
    unit: PositiveTime = 1e-3
    """What a 1 in the file means."""
    symmetric: bool = False
    """Whether both directions of a pair become their mean."""
    missing: Literal["refuse", "detour"] = "refuse"
    """What a pair that was not measured does: it is an error, or it takes the time of the fastest
    detour over a third row. Rows that are sampled are complete in any case."""


class Cities(Placed):
    """Measured round-trip times between cities."""

    cities: File
    """Tar file of ping tables of WonderNetwork, a `<City>Ping.csv` for each city."""
    symmetric: bool = True
    """Whether both directions of a pair become their mean; they were not measured at once."""
    missing: Literal["refuse", "detour"] = "detour"
    """What a pair that was not measured does."""


class DistancePart(Part):
    """How round-trip times follow from distances."""

    scatter: bool = True
    """Whether they scatter as measured ones do, or are those of a straight line: 31.3 ms and
    17.4 ms for each 1000 km."""


class Distance(Local):
    """Round-trip times from the places of the regions."""

    distance: DistancePart
    """How they follow from distances; `{}` for times that scatter."""
    between_bandwidth: Bandwidth | None = None
    """Bandwidth between regions; unlimited by default."""


class Topology(Placed):
    """The graph of a real network; messages take the path of least delay."""

    topology: File
    """GraphML or GML file of the Internet Topology Zoo (`.graphml`, `.gml`), or SNDlib file
    (`.xml`, native `.txt`) with geographical coordinates."""
    route_factor: Annotated[float, Field(ge=1)] = 1.0
    """Length of fibre over that of the great circle; light takes 5 us for a km of fibre."""
    unplaced_delay: Time | None = None
    """Delay, one way, of links with an end without coordinates; by default they are an error."""
    capacity_unit: Bandwidth = 125_000.0
    """What a capacity of 1 means in a file of SNDlib."""
    link_bandwidth: Bandwidth | None = None
    """Bandwidth of links without a capacity; unlimited by default."""


Network = Annotated[
    Annotated[Mesh, Tag("mesh")]
    | Annotated[Links, Tag("links")]
    | Annotated[Matrix, Tag("matrix")]
    | Annotated[Cities, Tag("cities")]
    | Annotated[Distance, Tag("distance")]
    | Annotated[Topology, Tag("topology")],
    told_by("links", "matrix", "cities", "distance", "topology", mapping="mesh", scalar=None),
]
"""The network that a scenario describes."""
