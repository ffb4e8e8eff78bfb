"""Availability of nodes: when they go down and when they come back."""

from infsim.cluster.availability.durations import (
    Duration,
    Exponential,
    Lognormal,
    Shifted,
    Weibull,
)
from infsim.cluster.availability.interface import AlwaysUp, Availability, Outage, Process
from infsim.cluster.availability.joint import Announced, Joint, Shared
from infsim.cluster.availability.population import NodeClass, Population, Rhythm
from infsim.cluster.availability.recorded import RepeatedTrace, SampledTrace, TraceAvailability
from infsim.cluster.availability.renewal import Renewal
from infsim.cluster.availability.sites import AtSite, SiteModel

__all__ = [
    "AlwaysUp",
    "Announced",
    "AtSite",
    "Availability",
    "Duration",
    "Exponential",
    "Joint",
    "Lognormal",
    "NodeClass",
    "Outage",
    "Population",
    "Process",
    "Renewal",
    "RepeatedTrace",
    "Rhythm",
    "SampledTrace",
    "Shared",
    "Shifted",
    "SiteModel",
    "TraceAvailability",
    "Weibull",
]
