"""What serves: regions, nodes, clients, and when nodes are up."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Tag, model_validator

from infsim.scenario.schema.availability import Availability, Renewal, SharedOutages
from infsim.scenario.schema.base import (
    Bandwidth,
    Count,
    Flops,
    Many,
    Memory,
    Name,
    NameOrMapping,
    NotEmpty,
    Part,
    PositiveFloat,
    PositiveFraction,
    Power,
    Time,
)
from infsim.scenario.schema.electricity import Electricity
from infsim.scenario.schema.network import Mesh, Network, PlaceEntry

# --- devices --------------------------------------------------------------------------------


class InlineDevice(Part):
    """A device, from scratch or with changes to one of the catalogue."""

    name: Name
    """Name of the device in results."""
    like: str | None = None
    """Device of the catalogue that gives what is not said here."""
    memory: Memory | None = None
    """Memory for weights and KV cache."""
    bandwidth: Bandwidth | None = None
    """Peak memory bandwidth."""
    peak: dict[str, Flops] | None = None
    """Peak dense rate by number type: fp32, bf16, fp16, fp8, int8, int4."""
    idle_power: Power | None = None
    """Power when idle."""
    active_power: Power | None = None
    """Power when busy."""
    compute_efficiency: PositiveFraction | None = None
    """Share of the peak rate that real kernels reach."""
    bandwidth_efficiency: PositiveFraction | None = None
    """Share of the memory bandwidth that real kernels reach."""
    overhead: Time | None = None
    """Time of an iteration that does not depend on its work."""
    layer_overhead: Time | None = None
    """The same for each operator of an iteration."""


DeviceEntry = Annotated[
    Annotated[str, Tag("name")] | Annotated[InlineDevice, Tag("mapping")],
    NameOrMapping,
]
"""A device of the catalogue (`infsim list devices`), or one written out."""

# --- regions, nodes, clients ----------------------------------------------------------------


class Region(Electricity):
    """A region: where it is, what electricity costs and emits there."""

    place: PlaceEntry | None = None
    """Where it is: the name of a city, or `{latitude: 48.86, longitude: 2.35}`; for networks that
    need it, and by default the city of the region's name."""


class NodeGroup(Part):
    """One node, or several equal ones."""

    name: Name
    """Name of the node; several are named `name-0`, `name-1`, ..."""
    count: Count = 1
    """Number of nodes."""
    device: DeviceEntry
    """What it computes with."""
    devices: Count = 1
    """Devices per node; they work as one tensor-parallel group."""
    region: str | None = None
    """Region; may be left out where there is only one."""
    tier: str | None = None
    """A label to select nodes by, such as device, edge, cloud."""
    access: str | None = None
    """Class of its access line, such as `home-cable`, `campus` or `cloud-flow`; it gives the uplink
    and the downlink that are not said here, drawn for each node."""
    uplink: Bandwidth | None = None
    """Bandwidth from the node into the network; unlimited by default."""
    downlink: Bandwidth | None = None
    """Bandwidth from the network to the node; unlimited by default."""
    load_rate: Bandwidth | None = None
    """How fast a node that comes back loads weights; by default as was measured on its device, else
    2 GB/s."""
    memory_fraction: PositiveFraction | None = None
    """Share of the memory for weights and KV cache."""
    interconnect: Bandwidth | None = None
    """Bandwidth between the devices of a node, each way."""
    interconnect_latency: Time | None = None
    """Least time of one collective operation of the devices of a node."""
    availability: Availability = "always"
    """When the nodes are down."""


class ClientGroup(Part):
    """Where requests come from."""

    name: Name | None = None
    """Name of the client; by default that of its node."""
    region: str | None = None
    """Region of a client that is not at a node."""
    node: str | None = None
    """Node (or group of nodes, or wildcard: one client each) to which it is attached."""
    weight: PositiveFloat = 1.0
    """Its share of the requests, relative to the others."""
    access: str | None = None
    """Class of its access line, such as `home-cable`, `campus` or `cloud-flow`; it gives the uplink
    and the downlink that are not said here, drawn for each client."""
    uplink: Bandwidth | None = None
    """Bandwidth from the client into the network; unlimited by default."""
    downlink: Bandwidth | None = None
    """Bandwidth from the network to the client; unlimited by default."""

    @model_validator(mode="after")
    def _somewhere(self) -> ClientGroup:
        if self.node is not None and self.region is not None:
            raise ValueError("give a node or a region, not both")
        if self.name is None and self.node is None:
            raise ValueError("a client needs a name, or a node that it is attached to")
        return self


class ClusterPart(Part):
    """What serves, who asks, and the network between them."""

    nodes: Annotated[Many[NodeGroup], NotEmpty]
    """The machines."""
    regions: dict[str, Region] = Field(default_factory=dict)
    """Regions by name, with place and electricity. Without any, everything is in one place."""
    network: Network = Mesh()
    """Delays and bandwidths."""
    clients: Many[ClientGroup] = ()
    """Where requests come from; by default one client in the region of the first node."""

    @model_validator(mode="after")
    def _alike_where_shared(self) -> ClusterPart:
        told: dict[tuple[str, str | None], SharedOutages] = {}
        for group in self.nodes:
            entry = group.availability
            if not isinstance(entry, Renewal):
                continue
            zone = entry.zone.name if entry.zone and entry.zone.name else group.name
            places = (("zone", zone, entry.zone), ("region", group.region, entry.region))
            for kind, name, shared in places:
                other = told.setdefault((kind, name), shared) if shared else None
                if shared and other and (other.up, other.down) != (shared.up, shared.down):
                    place = f"{kind} {name!r}" if name else f"only {kind}"
                    raise ValueError(f"the {place} is given outages of two kinds")
        return self

    @model_validator(mode="after")
    def _known_regions(self) -> ClusterPart:
        if not isinstance(self.network, Mesh):
            return self
        for a, b in self.network.pairs():
            for region in (a, b):
                if region not in self.regions:
                    raise ValueError(
                        f"network: {region!r} is not one of the regions: {', '.join(self.regions)}"
                    )
        return self
