"""When nodes are up: distributions, traces, profiles, outages written out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from infsim.cluster.churn.profile import FOLDER, SUFFIXES
from infsim.scenario.schema.base import (
    File,
    Fraction,
    Many,
    Name,
    NotEmpty,
    Part,
    PositiveFloat,
    PositiveTime,
    Time,
    each_file,
    file_in,
    told_by,
)


class Distribution(Part):
    """Base of the distributions of a duration."""


class ExponentialTime(Distribution):
    """Exponentially distributed durations."""

    distribution: Literal["exponential"]
    mean: PositiveTime
    """Mean duration."""


class WeibullTime(Distribution):
    """Weibull durations; with a shape below 1 what is old lives longer."""

    distribution: Literal["weibull"]
    shape: PositiveFloat
    """Shape; 1 is exponential."""
    mean: PositiveTime | None = None
    """Mean duration."""
    scale: PositiveTime | None = None
    """Scale (63rd percentile), instead of the mean."""

    @model_validator(mode="after")
    def _one_size(self) -> WeibullTime:
        _exactly_one(self, "mean", "scale")
        return self


class LognormalTime(Distribution):
    """Lognormal durations."""

    distribution: Literal["lognormal"]
    sigma: PositiveFloat
    """Standard deviation of the natural logarithm."""
    mean: PositiveTime | None = None
    """Mean duration."""
    median: PositiveTime | None = None
    """Median duration, instead of the mean."""

    @model_validator(mode="after")
    def _one_size(self) -> LognormalTime:
        _exactly_one(self, "mean", "median")
        return self


def _exactly_one(part: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(part, name) is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of {' and '.join(names)}")


Duration = Annotated[
    Annotated[PositiveTime, Tag("mean")]
    | Annotated[
        Annotated[
            ExponentialTime | WeibullTime | LognormalTime, Field(discriminator="distribution")
        ],
        Tag("mapping"),
    ],
    told_by(mapping="mapping", scalar="mean"),
]
"""A mean time (exponential), or a distribution."""


class SharedOutages(Part):
    """Outages that nodes have together."""

    up: Duration
    """Time between failures: a mean (exponential), or a distribution."""
    down: Duration
    """Time to repair: a mean (exponential), or a distribution."""


class ZoneOutages(SharedOutages):
    """Outages of a zone: a room, a rack, a campus."""

    name: Name | None = None
    """Name of the zone; by default that of the group of nodes. Groups that give the same name (and
    the same times) are down at the same times."""


class Leave(Part):
    """Base of what may be announced."""

    notice: PositiveTime | None = None
    """How long before it goes down a node says so; by default it fails without a word."""
    announced: Fraction = 1.0
    """Share of the outages that are announced, if there is a notice."""

    @model_validator(mode="after")
    def _announced_in_time(self) -> Self:
        # not whether it is given: resolved scenarios give everything
        if self.notice is None and self.announced != 1.0:
            raise ValueError("'announced' needs a 'notice', the time before it goes down")
        return self


class Renewal(Leave):
    """Up and down times drawn in turn."""

    up: Duration
    """Time between failures: a mean (exponential), or a distribution."""
    down: Duration
    """Time to repair: a mean (exponential), or a distribution."""
    stationary: bool = True
    """Whether the run begins at a random moment of the node's life (it may be down)."""
    zone: ZoneOutages | None = None
    """Outages of all nodes of a zone at once, besides those of a node of its own."""
    region: SharedOutages | None = None
    """Outages of all nodes of a region at once."""


class OutageFile(Leave):
    """Outages from a file, or several of the same observation."""

    trace: Annotated[Many[File], NotEmpty, BeforeValidator(each_file)]
    """CSV with the columns node, down_s, up_s and perhaps notice_s, for nodes by name (those that
    it does not name are always up); uptimes of observed nodes (`.avt`); or spot availability
    (`.json`, a file for each zone), or the name of a public trace that was fetched. Observed traces
    begin again at their end."""
    format: Literal["auto", "csv", "avt", "spot"] = "auto"
    """Format of the file; by default told by its suffix."""
    assign: Literal["sample", "order"] | None = None
    """Which observed node a node of the group behaves like: `sample` (the default) draws without
    replacement in each replication, `order` takes the first for the first, and so on."""
    start: Time = 0.0
    """Moment of the trace at which a run begins; who was not up after it is left out."""
    time_scale: PositiveFloat = 1.0
    """Factor on all times of the trace; with 0.1, nodes come and go ten times as fast."""


class OutageList(Leave):
    """Outages written out, the same for each node of the group."""

    outages: Many[Many[Time]]
    """Pairs `[down at, up at]`, sorted and disjoint."""

    @model_validator(mode="after")
    def _pairs(self) -> OutageList:
        for i, outage in enumerate(self.outages):
            if len(outage) != 2:
                raise ValueError(f"outage {i} has {len(outage)} times; expected [down at, up at]")
        return self


_profile = file_in(FOLDER, *SUFFIXES)


def _always_or_profile(value: Any, info: ValidationInfo) -> Any:
    return value if value == "always" else _profile.func(value, info)  # type: ignore[call-arg]


class ProfileOutages(Leave):
    """Nodes like those of a trace, made from a profile."""

    profile: Annotated[str, _profile]
    """A file that `infsim churn fit` wrote, or the bare name of a profile that infsim ships
    (`infsim list churn`)."""
    zone: Name | None = None
    """Name of the zone, for profiles of zones that fail as a whole; by default that of the group
    of nodes. Zones of the same region have outages together."""
    start: Time | None = None
    """Moment of the profile's rhythm at which a run begins; by default a random one."""


Availability = Annotated[
    Annotated[str, BeforeValidator(_always_or_profile), Tag("always")]
    | Annotated[Renewal, Tag("renewal")]
    | Annotated[OutageFile, Tag("trace")]
    | Annotated[OutageList, Tag("outages")]
    | Annotated[ProfileOutages, Tag("profile")],
    told_by("trace", "outages", "profile", mapping="renewal", scalar="always"),
]
"""`always`, the bare name of a profile, or a mapping."""
