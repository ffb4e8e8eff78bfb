"""Operator graphs: what a model computes, as nodes and edges that can be placed on machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from infsim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import networkx as nx

_NOT_AMOUNTS = ("name", "linears")
"""Fields of `Operator` that are not numbers."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix of an operator, which multiplies the values of each token.

    Tables of measured kernels are looked up by these sizes; amounts of work are the operator's.

    Attributes
    ----------
    name : str
        What it is for: ``qkv``, ``o``, ``gate_up``, ``down``, ``router``.
    n, k : int
        Output and input features.
    rows_split : bool
        Tensor parallelism divides the input features (a row-parallel layer, followed by an
        all-reduce) rather than the output features (column-parallel); Shoeybi et al.,
        Megatron-LM, arXiv 1909.08053.
    expert : bool
        There is one for each expert.
    """

    name: str
    n: int
    k: int
    rows_split: bool = False
    expert: bool = False

    def __post_init__(self) -> None:
        if self.n < 1 or self.k < 1:
            raise InputError(f"linear layer {self.name!r}: sizes must be at least 1: {self}")

    def shard(self, devices: int) -> tuple[int, int]:
        """Output and input features that each of some devices holds, rounded up."""
        if self.rows_split:
            return self.n, -(-self.k // devices)
        return -(-self.n // devices), self.k


@dataclass(frozen=True, slots=True)
class Operator:
    """The smallest part of a model that is placed as a whole, for example a transformer layer.

    All amounts are counts of values or of multiply-accumulates (MACs), not bytes or seconds:
    formats turn them into bytes, devices into time.

    Attributes
    ----------
    name : str
        Unique within the graph.
    parameters : float
        Weights that are held and, unless they belong to experts, read in every iteration.
    macs_per_token : float
        MACs of one token in the linear parts.
    output_values : float
        Values per token that a successor receives (the hidden size of a transformer).
    attention_dim : float
        Query heads times head size. One query-key pair costs ``2 * attention_dim`` MACs
        (scores, and the weighted sum of values). 0 without attention.
    kv_values_per_token : float
        Values that one token adds to the KV cache.
    head_parameters, head_macs : float
        A language-model head in this operator: its weights, and its MACs for each sequence
        that needs logits.
    extra_parameters : float
        Weights that take memory but are looked up rather than multiplied (embeddings).
    tied_parameters : float
        The part of ``head_parameters`` that equals the embeddings of another operator, and is
        held once where both operators are together.
    experts, active_experts : int
        Mixture of experts: a token uses ``active_experts`` of ``experts``.
    expert_parameters : float
        The part of ``parameters`` that belongs to experts and is read only if some token of
        the iteration is routed to them.
    linears : tuple of Linear
        The matrices behind ``macs_per_token``, where they are known.
    heads, kv_heads, head_dim : int
        Attention heads behind ``attention_dim`` and ``kv_values_per_token``, where known.
    """

    name: str
    parameters: float
    macs_per_token: float
    output_values: float
    attention_dim: float = 0
    kv_values_per_token: float = 0
    head_parameters: float = 0
    head_macs: float = 0
    extra_parameters: float = 0
    tied_parameters: float = 0
    experts: int = 1
    active_experts: int = 1
    expert_parameters: float = 0
    linears: tuple[Linear, ...] = ()
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in _NOT_AMOUNTS and not 0 <= value < float("inf"):
                raise InputError(
                    f"operator {self.name!r}: {item.name} must be finite and not negative,"
                    f" got {value!r}"
                )
        if not 1 <= self.active_experts <= self.experts:
            raise InputError(
                f"operator {self.name!r}: active_experts must be between 1 and"
                f" experts = {self.experts}, got {self.active_experts}"
            )
        if self.tied_parameters > self.head_parameters:
            raise InputError(
                f"operator {self.name!r}: tied_parameters ({self.tied_parameters:g}) are part of"
                f" head_parameters ({self.head_parameters:g}) and cannot exceed them"
            )
        if self.expert_parameters > self.parameters:
            raise InputError(
                f"operator {self.name!r}: expert_parameters ({self.expert_parameters:g}) are part"
                f" of parameters ({self.parameters:g}) and cannot exceed them"
            )


class OperatorGraph:
    """A directed acyclic graph of operators, in a fixed topological order.

    Parameters
    ----------
    graph : networkx.DiGraph
        Node attribute ``operator`` holds the `Operator`; edge attribute ``values`` holds the
        values per token that cross the edge (default: the source's ``output_values``).

    Attributes
    ----------
    graph : networkx.DiGraph
    operators : tuple of Operator
        In topological order; ties keep the order in which nodes were added.
    edges : tuple of (int, int, float)
        ``(source, target, values_per_token)`` as indices into ``operators``, sorted.
    is_chain : bool
        True if each operator feeds the next one and nothing else.

    Raises
    ------
    InputError
        If the graph is empty, has a cycle, is not connected, or an operator is missing.
    """

    def __init__(self, graph: nx.DiGraph[Any]) -> None:
        import networkx as nx

        if graph.number_of_nodes() == 0:
            raise InputError("an operator graph needs at least one operator")
        held: dict[Any, object] = {node: data.get("operator") for node, data in graph.nodes.items()}
        for node, operator in held.items():
            if not isinstance(operator, Operator):
                raise InputError(f"graph node {node!r} carries no Operator, but {operator!r}")
        if not nx.is_directed_acyclic_graph(graph):
            cycle = " -> ".join(str(edge[0]) for edge in nx.find_cycle(graph))
            raise InputError(f"an operator graph must not have a cycle: {cycle} -> back")
        if not nx.is_weakly_connected(graph):
            parts = [sorted(map(str, part)) for part in nx.weakly_connected_components(graph)]
            raise InputError(f"the operator graph is in {len(parts)} unconnected parts: {parts}")

        position = {node: i for i, node in enumerate(graph.nodes)}
        order = list(nx.lexicographical_topological_sort(graph, key=position.__getitem__))
        index = {node: i for i, node in enumerate(order)}
        edges = sorted(
            (index[u], index[v], data.get("values", graph.nodes[u]["operator"].output_values))
            for u, v, data in graph.edges(data=True)
        )
        self.graph = graph
        self._hold(tuple(graph.nodes[n]["operator"] for n in order), tuple(edges))

    @classmethod
    def chain(cls, operators: Sequence[Operator]) -> OperatorGraph:
        """Return the graph in which each operator feeds the next one.

        Needs no networkx, whose import takes longer than a small simulation.
        """
        if not operators:
            raise InputError("an operator graph needs at least one operator")
        names = {operator.name for operator in operators}
        for operator in operators:
            if operator.name not in names:
                raise InputError(f"two operators are named {operator.name!r}")
            names.remove(operator.name)
        found = cls.__new__(cls)
        edges = [(i, i + 1, op.output_values) for i, op in enumerate(operators[:-1])]
        found._hold(tuple(operators), tuple(edges))
        return found

    @cached_property
    def graph(self) -> nx.DiGraph[Any]:
        """The graph as networkx has it; a chain, which is held without, becomes one when asked."""
        import networkx as nx

        graph: nx.DiGraph[Any] = nx.DiGraph()
        for operator in self.operators:
            _add(graph, operator)
        graph.add_edges_from(pairwise(operator.name for operator in self.operators))
        return graph

    def _hold(
        self, operators: tuple[Operator, ...], edges: tuple[tuple[int, int, float], ...]
    ) -> None:
        self.operators = operators
        self.edges = edges
        self._predecessors: list[list[int]] = [[] for _ in operators]
        self._successors: list[list[int]] = [[] for _ in operators]
        for u, v, values in edges:
            if not 0 <= values < float("inf"):
                raise InputError(
                    f"edge {operators[u].name} -> {operators[v].name}: values = {values!r}"
                )
            self._successors[u].append(v)
            self._predecessors[v].append(u)
        consecutive = [(i, i + 1) for i in range(len(operators) - 1)]
        self.is_chain: bool = [(u, v) for u, v, _ in edges] == consecutive

    def __len__(self) -> int:
        return len(self.operators)

    def __repr__(self) -> str:
        shape = "chain" if self.is_chain else "graph"
        return f"OperatorGraph({shape} of {len(self)}, {self.parameters:,.0f} parameters)"

    @property
    def parameters(self) -> float:
        """All weights of the model; tied ones count once."""
        return sum(
            operator.parameters
            + operator.head_parameters
            + operator.extra_parameters
            - operator.tied_parameters
            for operator in self.operators
        )

    def predecessors(self, index: int) -> tuple[int, ...]:
        """Operators that feed operator ``index``."""
        return tuple(self._predecessors[index])

    def successors(self, index: int) -> tuple[int, ...]:
        """Operators that operator ``index`` feeds."""
        return tuple(self._successors[index])


def chain(operators: Sequence[Operator]) -> OperatorGraph:
    """Return the graph in which each operator feeds the next one.

    Examples
    --------
    >>> chain([Operator("a", 1, 1, 4), Operator("b", 1, 1, 4)]).edges
    ((0, 1, 4),)
    """
    return OperatorGraph.chain(operators)


def graph_from_mapping(
    operators: Mapping[str, Mapping[str, float]],
    edges: Sequence[Sequence[Any]],
) -> OperatorGraph:
    """Build a graph from plain data, as a scenario writes it.

    Parameters
    ----------
    operators : mapping
        Name to figures. Keys: ``macs`` (per token), ``parameters``, ``output_values``, or any
        other numeric field of `Operator`; what is left out is 0.
    edges : sequence
        ``[source, target]`` or ``[source, target, values_per_token]``.

    Raises
    ------
    InputError
        For an unknown key or operator name (with the nearest valid one), a repeated edge, a
        cycle, or unconnected parts.

    Examples
    --------
    >>> graph = graph_from_mapping(
    ...     {"detect": {"macs": 4e9, "parameters": 25e6, "output_values": 4096},
    ...      "track": {"macs": 1e8, "parameters": 1e6}},
    ...     [["detect", "track"]],
    ... )
    >>> graph.edges
    ((0, 1, 4096),)
    """
    import networkx as nx

    graph: nx.DiGraph[Any] = nx.DiGraph()
    for name, figures in operators.items():
        _add(graph, _operator_from_mapping(name, figures))
    for edge in edges:
        if len(edge) not in (2, 3):
            raise InputError(f"edge {list(edge)!r}: expected [source, target] or a third, values")
        source, target = edge[0], edge[1]
        for end in (source, target):
            if end not in operators:
                hint = did_you_mean(str(end), operators)
                raise InputError(f"edge {list(edge)!r}: no operator {end!r}{hint}")
        if graph.has_edge(source, target):
            raise InputError(f"edge {source} -> {target} is given twice")
        graph.add_edge(source, target, **({"values": edge[2]} if len(edge) == 3 else {}))
    return OperatorGraph(graph)


def _operator_from_mapping(name: str, figures: Mapping[str, float]) -> Operator:
    known = {item.name: item.name for item in fields(Operator) if item.name not in _NOT_AMOUNTS}
    known["macs"] = "macs_per_token"
    values: dict[str, Any] = {"parameters": 0, "macs_per_token": 0, "output_values": 0}
    for key, value in figures.items():
        if key not in known:
            raise InputError(f"operator {name!r}: unknown key {key!r}{did_you_mean(key, known)}")
        values[known[key]] = value
    return Operator(name=name, **values)


def _add(graph: nx.DiGraph[Any], operator: Operator) -> None:
    if operator.name in graph:
        raise InputError(f"two operators are named {operator.name!r}")
    graph.add_node(operator.name, operator=operator)
