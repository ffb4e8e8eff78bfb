"""An experiment changed in a way whose effect on the results is known."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.cluster.availability import AlwaysUp, Availability, TraceAvailability
from infsim.cluster.cluster import Cluster
from infsim.cluster.device import Device
from infsim.cluster.network import Network
from infsim.cluster.node import Node
from infsim.cost.costs import Costs
from infsim.engine.experiment import Experiment, Settings
from infsim.errors import InputError
from infsim.workload.given import Given

FACTOR = 2.0
"""A power of two, by which times are scaled without rounding."""


def with_outputs(experiment: Experiment, output_tokens: NDArray[np.int64]) -> Experiment:
    """Return the experiment with other output lengths."""
    given = _given(experiment)
    return replace(experiment, workload=Given(replace(given.requests, output_tokens=output_tokens)))


def _given(experiment: Experiment) -> Given:
    assert isinstance(experiment.workload, Given)
    return experiment.workload


# --- other names ----------------------------------------------------------------------------


def renamed(experiment: Experiment) -> Experiment:
    """Return the experiment with other names for nodes, clients and sites, in another order.

    The alphabetical order of the new names is the reverse of the old one.
    """
    old = experiment.cluster
    taken = {*(n.name for n in old.nodes), *(c.name for c in old.clients), *old.sites}
    names = sorted(taken, reverse=True)
    new = {name: f"renamed-{i:03d}" for i, name in enumerate(names)}
    cluster = Cluster(
        tuple(replace(n, name=new[n.name], site=new[n.site]) for n in old.nodes),
        tuple(
            replace(c, name=new[c.name], site=new[c.site], node=new[c.node] if c.node else None)
            for c in old.clients
        ),
        {new[name]: replace(site, name=new[name]) for name, site in old.sites.items()},
        old.network,
    )
    return replace(experiment, cluster=cluster, costs=Costs(cluster))


# --- another clock --------------------------------------------------------------------------


def scaled(experiment: Experiment, factor: float) -> Experiment:
    """Return the experiment in which everything takes ``factor`` times as long.

    With a power of two the results are scaled without any rounding. Parameters of policies are
    times if their names end in ``_s``, and rates if they end in ``_per_s``.
    """
    given = _given(experiment)
    cluster = _scaled_cluster(experiment.cluster, factor)
    requests = replace(given.requests, arrival_s=given.requests.arrival_s * factor)
    return replace(
        experiment,
        cluster=cluster,
        costs=Costs(cluster),
        workload=Given(requests),
        settings=_scaled_settings(experiment.settings, factor),
        router=scaled_policy(experiment.router, factor),
        batching=scaled_policy(experiment.batching, factor),
        delivery=scaled_policy(experiment.delivery, factor),
        recovery=scaled_policy(experiment.recovery, factor),
    )


def scaled_policy(policy: Any, factor: float) -> Any:
    """Return a policy whose times are ``factor`` times as long."""
    if not is_dataclass(policy) or isinstance(policy, type):
        return policy
    policy = copy.deepcopy(policy)
    public = {f.name: getattr(policy, f.name) for f in fields(policy) if f.init}
    for name, value in _scaled_values(public, factor).items():
        object.__setattr__(policy, name, value)
    return policy


def _scaled_values(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return those values that are times or rates, scaled."""
    return {
        name: value / factor if name.endswith("_per_s") else value * factor
        for name, value in values.items()
        if name.endswith("_s") and isinstance(value, int | float)
    }


def _scaled_settings(settings: Settings, factor: float) -> Settings:
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return replace(settings, **_scaled_values(values, factor))


def _scaled_cluster(cluster: Cluster, factor: float) -> Cluster:
    return Cluster(
        tuple(_scaled_node(node, factor) for node in cluster.nodes),
        tuple(
            replace(
                client,
                uplink_bytes_per_s=client.uplink_bytes_per_s / factor,
                downlink_bytes_per_s=client.downlink_bytes_per_s / factor,
            )
            for client in cluster.clients
        ),
        cluster.sites,
        _scaled_network(cluster.network, factor),
    )


def _scaled_network(network: Network, factor: float) -> Network:
    if network.variation is not None or network.tcp is not None:
        raise InputError("a network whose delays vary, or with TCP, cannot be scaled")
    return Network(network.delay_s * factor, network.bandwidth / factor)


def _scaled_node(node: Node, factor: float) -> Node:
    values = {f.name: getattr(node, f.name) for f in fields(node)}
    return replace(
        node,
        device=_scaled_device(node.device, factor),
        availability=_scaled_availability(node.availability, factor),
        **_scaled_values(values, factor),
    )


def _scaled_device(device: Device, factor: float) -> Device:
    values = {f.name: getattr(device, f.name) for f in fields(device)}
    flops = {name: peak / factor for name, peak in device.peak_flops.items()}
    return replace(device, peak_flops=flops, **_scaled_values(values, factor))


def _scaled_availability(availability: Availability, factor: float) -> Availability:
    if isinstance(availability, AlwaysUp):
        return availability
    if not isinstance(availability, TraceAvailability):
        raise InputError(f"{type(availability).__name__} cannot be scaled, its outages are drawn")
    return TraceAvailability(
        tuple((down * factor, up * factor) for down, up in availability.intervals),
        tuple(notice_s * factor for notice_s in availability.notices_s),
    )
