"""What electricity emits and costs at the sites of a scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from infsim.cluster.carbon import CarbonIntensity
from infsim.cluster.electricity_profile import load_electricity
from infsim.cluster.node import Site
from infsim.cluster.price import ElectricityPrice
from infsim.cluster.series_file import SeriesFormat, read_carbon, read_price
from infsim.errors import InputError, Where
from infsim.paths import data_file
from infsim.rng import Streams
from infsim.scenario.alternatives import Alternative
from infsim.scenario.build.blame import blame
from infsim.scenario.build.roster import ONLY_REGION
from infsim.scenario.schema.base import Money
from infsim.scenario.schema.electricity import (
    CARBON_PROFILES,
    PRICE_PROFILES,
    CarbonProfile,
    Electricity,
    PriceProfile,
    SeriesFile,
)
from infsim.units import UnitError, parse


def build_sites(alternative: Alternative, streams: Streams) -> dict[str, Site]:
    """Build the sites; what a region does not say is as the scenario has it.

    Parameters
    ----------
    alternative : Alternative
    streams : Streams
        For series that are drawn from profiles.

    Raises
    ------
    InputError
        With the place in the scenario, for files and profiles that are damaged or do not know the
        start, and for prices in different currencies.
    """
    regions: Mapping[str, Electricity] = alternative.spec.cluster.regions
    common = alternative.spec.energy
    sites: dict[str, Site] = {}
    for name, own in (regions or {ONLY_REGION: Electricity()}).items():
        with blame(alternative, *_place(alternative, name, "carbon")):
            carbon = _carbon(own if own.carbon is not None else common, streams)
        with blame(alternative, *_place(alternative, name, "price")):
            price = _price(own if own.price is not None else common, streams)
            _refuse_exchange(price, sites.values())
        with blame(alternative, "cluster", "regions", name):
            sites[name] = Site(name, carbon, price, own.pue or common.pue or 1.0)
    return sites


def _place(alternative: Alternative, region: str, what: str) -> tuple[str, ...]:
    """Return the path of the entry that holds for a region."""
    own = alternative.spec.cluster.regions.get(region)
    told = own is not None and getattr(own, what) is not None
    return ("cluster", "regions", region, what) if told else ("energy", what)


def _carbon(part: Electricity, streams: Streams) -> CarbonIntensity:
    entry = part.carbon
    if entry is None:
        return CarbonIntensity.unknown()
    if isinstance(entry, float):
        return CarbonIntensity.constant(entry)
    if isinstance(entry, SeriesFile):
        return read_carbon(Path(entry.file), _moment(entry.start), _format(entry))
    return CarbonIntensity(*_drawn(entry, "carbon", streams)[:3])


def _price(part: Electricity, streams: Streams) -> ElectricityPrice:
    entry = part.price
    if entry is None:
        return ElectricityPrice.unknown()
    if isinstance(entry, float):
        currency = entry.currency if isinstance(entry, Money) else ""
        return ElectricityPrice([0.0], [entry], currency=currency)
    if isinstance(entry, SeriesFile):
        return read_price(Path(entry.file), _moment(entry.start), _format(entry))
    starts_s, values, period_s, unit = _drawn(entry, "price", streams)
    return ElectricityPrice(starts_s, values, period_s, currency=unit.partition("/")[0])


def _drawn(
    entry: CarbonProfile | PriceProfile, kind: Literal["carbon", "price"], streams: Streams
) -> tuple[list[float], list[float], float, str]:
    """Make a series from a profile: starts, values per kWh, period and unit.

    Regions of the same profile are of the same grid, and see the same series.
    """
    path = Path(entry.profile)
    if not path.is_absolute():
        folder = CARBON_PROFILES if kind == "carbon" else PRICE_PROFILES
        path = data_file(folder, entry.profile, (".yaml",))
    profile = load_electricity(path)
    try:
        size = parse(f"1 {profile.unit}", "carbon_intensity" if kind == "carbon" else "price")
    except UnitError as error:
        raise InputError(str(error), where=Where(str(path))) from None
    generator = streams.stream("electricity", kind, path.stem)
    starts_s, values, period_s = profile.steps(entry.year, _moment(entry.start), generator)
    return starts_s, [value * size for value in values], period_s, profile.unit


def _refuse_exchange(price: ElectricityPrice, others: Iterable[Site]) -> None:
    """Costs are added up, so that prices have to be in one currency."""
    for other in others:
        known = other.price.currency
        if known and price.currency and known != price.currency:
            raise InputError(
                f"price is in {price.currency}, that of region {other.name!r} in {known}",
                hint="costs are added up: write all prices in one currency",
            )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _format(entry: SeriesFile) -> SeriesFormat:
    columns = {name: column for name, column in entry.columns if column is not None}
    return SeriesFormat(entry.zone, columns, entry.unit)
