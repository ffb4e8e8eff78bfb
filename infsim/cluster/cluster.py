"""A cluster: what serves, who asks, and the network between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infsim.cluster.network import Network
from infsim.cluster.node import Client, Node, Site
from infsim.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Cluster:
    """Nodes, clients, their sites, and the network between them.

    Attributes
    ----------
    nodes : tuple of Node
    clients : tuple of Client
    sites : mapping of str to Site
    network : Network
        Endpoints are the nodes, then the clients, in order.

    Raises
    ------
    InputError
        For repeated names, an unknown site or attached node, or a network of the wrong size.
    """

    nodes: tuple[Node, ...]
    clients: tuple[Client, ...]
    sites: Mapping[str, Site]
    network: Network

    def __post_init__(self) -> None:
        if not self.nodes:
            raise InputError("a cluster needs at least one node")
        members: list[Node | Client] = [*self.nodes, *self.clients]
        names = [member.name for member in members]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two nodes or clients are named {name!r}")
        for member in members:
            if member.site not in self.sites:
                hint = did_you_mean(member.site, self.sites)
                raise InputError(f"{member.name!r} is at an unknown site {member.site!r}{hint}")
        for client in self.clients:
            if client.node is not None:
                self.node_index(client.node)
        if len(self.network) != len(names):
            raise InputError(
                f"the network has {len(self.network)} endpoints, but there are"
                f" {len(self.nodes)} nodes and {len(self.clients)} clients"
            )

    def node_index(self, name: str) -> int:
        """Index of the node of this name; an unknown name is an `InputError`."""
        for i, node in enumerate(self.nodes):
            if node.name == name:
                return i
        hint = did_you_mean(name, [node.name for node in self.nodes])
        raise InputError(f"no node is named {name!r}{hint}")

    def endpoint_of_client(self, index: int) -> int:
        """Endpoint of client ``index`` in the network."""
        return len(self.nodes) + index
