"""A scenario that was read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infsim.scenario.alternatives import Alternative, alternatives, plain_compare
from infsim.scenario.checked import checked
from infsim.scenario.document import Document
from infsim.scenario.schema.experiment import ScenarioSpec, plain
from infsim.scenario.yaml import dump


@dataclass(frozen=True)
class Scenario:
    """A scenario that was read and checked; `infsim.load` makes it.

    Attributes
    ----------
    spec : ScenarioSpec
        Its values, SI inside.
    document : Document
        What was written, overrides included.
    """

    spec: ScenarioSpec
    document: Document
    _alternatives: tuple[Alternative, ...]

    @classmethod
    def from_document(cls, document: Document) -> Scenario:
        """Check a document.

        Raises
        ------
        InputError
            With the place of the first problem; notes tell the others.
        """
        spec = checked(document)
        return cls(spec, document, alternatives(spec, document))

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return self.spec.name

    def alternatives(self) -> tuple[Alternative, ...]:
        """Return what is compared, in order; just one without a comparison."""
        return self._alternatives

    def to_dict(self) -> dict[str, Any]:
        """Return all values, defaults included, as plain data that `infsim.load` accepts."""
        data = plain(self.spec)
        if self.spec.compare is not None:
            data["compare"] = plain_compare(self.spec.compare, self.document, self._alternatives)
        return data

    def to_yaml(self) -> str:
        """Return the resolved scenario: all values, files as absolute paths.

        Loading it gives the same scenario, from whatever folder.
        """
        return dump(self.to_dict())
