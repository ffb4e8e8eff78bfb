"""A whole scenario: who decides, what is compared, what is measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from infsim.registry import KINDS
from infsim.scenario.schema.base import (
    Bytes,
    Count,
    Many,
    Name,
    NotEmpty,
    Part,
    PositiveTime,
    Time,
    file_or,
    folder_in,
    policy_of,
    unknown_key,
)
from infsim.scenario.schema.cluster import ClusterPart
from infsim.scenario.schema.electricity import Electricity
from infsim.scenario.schema.models import Deployment, FormatEntry, ModelEntry
from infsim.scenario.schema.workload import WorkloadPart

AccuracyName = Annotated[str, folder_in("calibration/accuracy")]
CostsName = Annotated[str, file_or("calibrated", "roofline")]

_POLICY_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
                "additionalProperties": True,
            },
        ],
        "description": "A name (`infsim list policies`), `path/to/file.py:Class`, or a mapping of"
        " `name` and the policy's parameters.",
    }
)

PlacementEntry = Annotated[Any, BeforeValidator(policy_of("placement")), _POLICY_SCHEMA]
RoutingEntry = Annotated[Any, BeforeValidator(policy_of("routing")), _POLICY_SCHEMA]
BatchingEntry = Annotated[Any, BeforeValidator(policy_of("batching")), _POLICY_SCHEMA]
DeliveryEntry = Annotated[Any, BeforeValidator(policy_of("delivery")), _POLICY_SCHEMA]
RecoveryEntry = Annotated[Any, BeforeValidator(policy_of("recovery")), _POLICY_SCHEMA]


class Policies(Part):
    """Who decides."""

    placement: PlacementEntry = "uniform"
    """Which operators go to which node."""
    routing: RoutingEntry = "least-loaded"
    """Which replica or path serves a request."""
    batching: BatchingEntry = "continuous"
    """Which prompts enter an iteration."""
    delivery: DeliveryEntry = "local"
    """Where a request is served, and whether its answer is good enough."""
    recovery: RecoveryEntry = "restart"
    """What happens to work that was lost."""


class NamedAlternative(Part):
    """One alternative written out: values to set, by policy kind or dotted path."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Any]

    name: Name
    """Name in results."""
    placement: PlacementEntry | None = None
    """Placement policy."""
    routing: RoutingEntry | None = None
    """Routing policy."""
    batching: BatchingEntry | None = None
    """Batching policy."""
    delivery: DeliveryEntry | None = None
    """Delivery policy."""
    recovery: RecoveryEntry | None = None
    """Recovery policy."""

    @model_validator(mode="after")
    def _extra_are_paths(self) -> NamedAlternative:
        _require_paths(self.model_extra or {}, type(self))
        return self


T = TypeVar("T")
Axis = Annotated[Many[T], NotEmpty]


class Compare(Part):
    """What is compared: all combinations of values, or a list of alternatives.

    Beside the kinds of policy, any dotted path is a key, as in `workload.rate: [1 /s, 2 /s]`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Axis[Any]]

    placement: Axis[PlacementEntry] | None = None
    """Placement policies to compare."""
    routing: Axis[RoutingEntry] | None = None
    """Routing policies to compare."""
    batching: Axis[BatchingEntry] | None = None
    """Batching policies to compare."""
    delivery: Axis[DeliveryEntry] | None = None
    """Delivery policies to compare."""
    recovery: Axis[RecoveryEntry] | None = None
    """Recovery policies to compare."""
    cross: bool = True
    """Compare all combinations; otherwise the first values of all keys go together, the second
    ones, and so on."""
    alternatives: Many[NamedAlternative] | None = Field(default=None, alias="list")
    """Alternatives written out, each with a name and values."""

    @model_validator(mode="after")
    def _consistent(self) -> Compare:
        extra = self.model_extra or {}
        _require_paths(extra, type(self))
        axes = {kind: getattr(self, kind) for kind in KINDS} | extra
        sizes = {name: len(values) for name, values in axes.items() if values is not None}
        if self.alternatives is not None and sizes:
            raise ValueError(f"'list' stands alone; drop {', '.join(sizes)}")
        if not self.cross and len(set(sizes.values())) > 1:
            text = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(f"without 'cross' all keys need as many values, got {text}")
        return self


def _require_paths(extra: dict[str, Any], part: type[Part]) -> None:
    """Refuse extra keys that cannot be a dotted path: they are misspelt."""
    for key in extra:
        if "." not in key and key not in _TOPMOST:
            raise unknown_key(key, part.model_fields)


class Objectives(Part):
    """Service-level objectives; a request that keeps all of them counts as goodput."""

    ttft: PositiveTime | None = None
    """Time to first token."""
    tpot: PositiveTime | None = None
    """Time per output token."""
    e2e: PositiveTime | None = None
    """Time to the whole answer."""


class Engine(Part):
    """Rules of the simulated system."""

    block_tokens: Count = 16
    """Tokens of a KV block."""
    staleness: Time = 0.0
    """Interval at which policies see the state of the cluster; 0 shows it as it is."""
    detection: Time = 1.0
    """Time from a loss to its detection."""
    transfer: Literal["push", "relay"] = "push"
    """Activations go from node to node, or by way of the client."""
    sharing: Literal["fifo", "max-min"] = "fifo"
    """How messages share uplinks, links and downlinks."""
    prefix_cache: bool = False
    """Share the KV blocks of equal prompt prefixes, and keep those of preempted requests while
    there is room."""
    plan_ahead: bool = False
    """Plan an iteration while the one before it runs, as engines with asynchronous scheduling
    do."""
    horizon: PositiveTime | None = None
    """The run ends here at the latest."""
    warmup: Time | Literal["auto"] = 0.0
    """Requests that arrive earlier do not count; `auto` finds the end of the transient (MSER-5)."""
    max_attempts: Count = 10
    """A request that lost its work more often fails."""
    token_bytes: Bytes = 4
    """Bytes of one token on the wire."""
    request_bytes: Bytes | None = None
    """Bytes of a whole request, for models whose input is not tokens."""


class Output(Part):
    """What is written beside the tables."""

    timeline: bool = False
    """A timeline for Perfetto (ui.perfetto.dev) or Chrome."""
    figures: Many[Literal["pdf", "png", "svg"]] = ("png",)
    """Formats of the figure of a comparison; `[]` for none."""


class ScenarioSpec(Part):
    """One experiment: what is served, what serves, what is asked, who decides, what to measure."""

    name: Name
    """Name of the scenario, and of its run folders."""
    question: str | None = None
    """The question that this scenario answers."""
    description: str | None = None
    """Anything else a reader should know."""

    model: ModelEntry | None = None
    """The model that is served."""
    format: FormatEntry = "fp16"
    """Number format of the model."""
    deployments: Many[Deployment] = ()
    """Several models, formats or groups of nodes; by default `model` on all nodes."""
    accuracy: AccuracyName | None = None
    """Table of accuracy: what each model answers to each sample (`infsim list accuracy`)."""

    costs: CostsName = "calibrated"
    """Where iteration times come from: `calibrated` (measured kernels where there are any),
    `roofline` (peaks of the devices, for all), or a file of `infsim calibrate fit` or
    `infsim calibrate llama-cpp`."""

    cluster: ClusterPart
    """What serves."""
    energy: Electricity = Electricity()
    """Electricity of regions that do not say otherwise."""
    workload: WorkloadPart
    """What is asked."""
    policies: Policies = Policies()
    """Who decides."""
    engine: Engine = Engine()
    """Rules of the simulated system."""

    compare: Compare | None = None
    """What is compared."""
    replications: Count = 1
    """Runs of each alternative with different random numbers; from two on there are intervals."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of all random numbers."""
    slo: Objectives = Objectives()
    """Service-level objectives."""
    output: Output = Output()
    """What is written beside the tables."""

    @model_validator(mode="after")
    def _something_is_served(self) -> ScenarioSpec:
        if self.model is None and not self.deployments:
            raise ValueError("give a model, or deployments")
        for i, deployment in enumerate(self.deployments):
            if self.model is None and deployment.model is None:
                raise PydanticCustomError(
                    "no_model", "deployment {i} has no model, and the scenario has none", {"i": i}
                )
        if self.workload.arrivals is not None and not self._ends():
            raise ValueError(
                "arrivals go on for ever; give workload.requests, workload.duration or"
                " engine.horizon"
            )
        return self

    def _ends(self) -> bool:
        limits = (self.workload.requests, self.workload.duration, self.engine.horizon)
        return any(limit is not None for limit in limits)


def plain(spec: ScenarioSpec) -> dict[str, Any]:
    """Return the values of a scenario as plain data with units, but for its comparison."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"compare"})
    return dict(data)


_TOPMOST = frozenset(ScenarioSpec.model_fields) - {"compare", "name"}
