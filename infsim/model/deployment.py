"""A deployment: a model in one format, offered on some of the nodes."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.model.formats import Format
from infsim.model.model import Model


@dataclass(frozen=True)
class Deployment:
    """A model in one format that the cluster offers.

    Attributes
    ----------
    name : str
    model : Model
    format : Format
    nodes : tuple of int
        Indices into ``Cluster.nodes`` that may hold parts of it.
    index : int
        Its position among the deployments of the experiment.
    demand_tokens : float or None
        Hint for planning: KV tokens that a sequence is expected to take.
    expected_context : int
        Context length in tokens at which planning prices a decode step.
    """

    name: str
    model: Model
    format: Format
    nodes: tuple[int, ...]
    index: int = 0
    demand_tokens: float | None = None
    expected_context: int = 1024
