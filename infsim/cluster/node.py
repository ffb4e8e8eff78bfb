"""Nodes, clients and sites: who is where, and how they are attached to the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from infsim.cluster.availability import AlwaysUp, Availability
from infsim.cluster.carbon import CarbonIntensity
from infsim.cluster.device import Device
from infsim.cluster.price import ElectricityPrice
from infsim.errors import InputError


@dataclass(frozen=True)
class Site:
    """A place with its own electricity.

    Attributes
    ----------
    name : str
    carbon : CarbonIntensity
    price : ElectricityPrice
        Price per kWh, in a currency of the scenario's choice.
    pue : float
        Power usage effectiveness: energy of the site over energy of its devices.
    """

    name: str
    carbon: CarbonIntensity = field(default_factory=lambda: CarbonIntensity.constant(0.0))
    price: ElectricityPrice = field(default_factory=ElectricityPrice.unknown)
    pue: float = 1.0

    def __post_init__(self) -> None:
        if self.pue < 1:
            raise InputError(f"site {self.name!r}: pue must be at least 1, got {self.pue!r}")


@dataclass(frozen=True)
class Node:
    """A machine that serves: one or more equal devices that work as one group.

    The group is tensor parallel; or it has several data-parallel ranks that compute sequences of
    their own, iteration by iteration in step, and divide the experts of every layer among them.

    Attributes
    ----------
    name : str
    device : Device
    count : int
        Devices of the group.
    data_parallel : int
        Ranks of the group, each of ``count / data_parallel`` devices that are tensor parallel.
    site : str
        Key of ``Cluster.sites``.
    uplink_bytes_per_s, downlink_bytes_per_s : float
        Its access to the network, ``inf`` for no limit.
    load_bytes_per_s : float or None
        How fast it gets weights (disk or network) before it serves; None for what was measured on
        its device, or else 2 GB/s.
    memory_fraction : float
        Share of device memory that may hold weights and KV cache.
    interconnect_bytes_per_s : float or None
        Bandwidth of one device to the others of the group, each way; None for that of the
        device.
    interconnect_latency_s : float
        Least time of one collective operation of the group.
    availability : Availability
        When it is down.
    """

    name: str
    device: Device
    count: int = 1
    site: str = "default"
    uplink_bytes_per_s: float = inf
    downlink_bytes_per_s: float = inf
    load_bytes_per_s: float | None = None
    memory_fraction: float = 0.9
    interconnect_bytes_per_s: float | None = None
    interconnect_latency_s: float = 10e-6
    data_parallel: int = 1
    availability: Availability = field(default_factory=AlwaysUp)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"node {self.name!r}: count must be at least 1, got {self.count}")
        if self.data_parallel < 1 or self.count % self.data_parallel:
            raise InputError(
                f"node {self.name!r}: {self.count} devices do not make"
                f" {self.data_parallel} equal ranks"
            )
        if not 0 < self.memory_fraction <= 1:
            raise InputError(
                f"node {self.name!r}: memory_fraction must be in (0, 1],"
                f" got {self.memory_fraction!r}"
            )
        for name in (
            "uplink_bytes_per_s",
            "downlink_bytes_per_s",
            "load_bytes_per_s",
            "interconnect_bytes_per_s",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"node {self.name!r}: {name} must be positive, got {value!r}")
        if not self.interconnect_latency_s >= 0:
            raise InputError(
                f"node {self.name!r}: interconnect_latency_s must not be negative,"
                f" got {self.interconnect_latency_s!r}"
            )

    @property
    def tensor_parallel(self) -> int:
        """Devices that divide each matrix among them."""
        return self.count // self.data_parallel


@dataclass(frozen=True)
class Client:
    """Where requests come from.

    Attributes
    ----------
    name : str
    site : str
        Key of ``Cluster.sites``.
    node : str or None
        Name of the node it is attached to: no delay between them.
    uplink_bytes_per_s, downlink_bytes_per_s : float
        Its access to the network, ``inf`` for no limit.
    """

    name: str
    site: str = "default"
    node: str | None = None
    uplink_bytes_per_s: float = inf
    downlink_bytes_per_s: float = inf

    def __post_init__(self) -> None:
        for name in ("uplink_bytes_per_s", "downlink_bytes_per_s"):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"client {self.name!r}: {name} must be positive, got {getattr(self, name)!r}"
                )
