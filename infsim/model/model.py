"""A model: what is served."""

from __future__ import annotations

from dataclasses import dataclass

from infsim.model.graph import OperatorGraph


@dataclass(frozen=True)
class Model:
    """A model that requests can be answered with.

    Attributes
    ----------
    name : str
    graph : OperatorGraph
    generative : bool
        True: output tokens are made one by one. False: one pass answers the request.
    max_context : int or None
        Longest context in tokens, prompt and output together.
    accuracy_model : str or None
        Its row in the table of accuracy.
    source : str
        Where the figures come from.
    """

    name: str
    graph: OperatorGraph
    generative: bool = True
    max_context: int | None = None
    accuracy_model: str | None = None
    source: str = "unspecified"
