"""Zones and regions that fail as a whole, as observed ones did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from infsim.cluster.availability.interface import Availability, Outage
from infsim.cluster.availability.joint import union
from infsim.cluster.availability.population import Population, Rhythm
from infsim.errors import InputError
from infsim.rng import Streams


@dataclass(frozen=True)
class SiteModel:
    """Outages of zones, and those that zones of a region, and all regions, have together.

    Attributes
    ----------
    regions : Population
        Outages that the zones of a region share; one class for each observed region.
    zones : tuple of Population
        Outages of a zone of its own, for each class of regions.
    everywhere : Population or None
        Outages of all regions at once.
    nodes : Population or None
        Outages of single nodes while their zone is up.

    Raises
    ------
    InputError
        If there are not as many populations of zones as classes of regions.
    """

    regions: Population
    zones: tuple[Population, ...]
    everywhere: Population | None = None
    nodes: Population | None = None

    def __post_init__(self) -> None:
        if len(self.zones) != len(self.regions.classes):
            raise InputError(
                f"{len(self.zones)} populations of zones for {len(self.regions.classes)} regions"
            )

    @property
    def rhythm(self) -> Rhythm:
        """The rhythm that all of its parts follow."""
        return self.regions.rhythm

    def in_rhythm(self, rhythm: Rhythm) -> SiteModel:
        """Return the model with another rhythm of all of its parts."""
        return SiteModel(
            replace(self.regions, rhythm=rhythm),
            tuple(replace(zones, rhythm=rhythm) for zones in self.zones),
            self.everywhere and replace(self.everywhere, rhythm=rhythm),
            self.nodes and replace(self.nodes, rhythm=rhythm),
        )


@dataclass(frozen=True)
class AtSite(Availability):
    """A node in a zone of a region; who names the same zone, region or model shares outages.

    Attributes
    ----------
    model : SiteModel
    name : str
        Of the model: what happens everywhere happens to all that name it.
    region, zone : str
    """

    model: SiteModel
    name: str
    region: str
    zone: str

    def outages(self, streams: Streams, node: str) -> Iterator[Outage]:
        model = self.model
        of_region = streams.stream("churn", "region", self.region)
        kind = model.regions.pick(of_region)
        begin_s = model.rhythm.begin_s(streams)
        others = [
            (model.zones[kind], streams.stream("churn", "zone", f"{self.region}/{self.zone}"))
        ]
        if model.everywhere is not None:
            others.append((model.everywhere, streams.stream("churn", "everywhere", self.name)))
        if model.nodes is not None:
            others.append((model.nodes, streams.stream("churn", node)))
        return union(
            [
                model.regions.alternate(kind, of_region, begin_s),
                *(part.alternate(part.pick(rng), rng, begin_s) for part, rng in others),
            ]
        )

    @property
    def expected_fraction(self) -> float:
        model = self.model
        total = sum(region.weight for region in model.regions.classes)
        within = sum(
            region.weight * region.fraction * zones.expected_fraction
            for region, zones in zip(model.regions.classes, model.zones, strict=True)
        )
        others = [part for part in (model.everywhere, model.nodes) if part is not None]
        product = within / total
        for part in others:
            product *= part.expected_fraction
        return product
