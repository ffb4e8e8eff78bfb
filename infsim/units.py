"""Quantities with units, as they are written at the border; inside, everything is SI.

>>> parse("40 ms", "time")
0.04
>>> parse("25 Gbit/s", "bandwidth")
3125000000.0
>>> format_quantity(4.5e9, "memory")
'4.19 GiB'
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from infsim.errors import nearest


class UnitError(ValueError):
    """A value that is not a quantity of the wanted dimension."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """The units of one dimension.

    Attributes
    ----------
    units : mapping of str to Fraction
        Size of each accepted unit in the SI (or, for intensities and prices, conventional) unit.
    shown : tuple of str
        The units used for output, from small to large.
    example : str
        A valid value, for error messages.
    bare : bool
        Whether a number without a unit is accepted.
    infinite : bool
        Whether ``unlimited`` is accepted.
    signed : bool
        Whether a negative value makes sense.
    """

    units: Mapping[str, Fraction]
    shown: tuple[str, ...]
    example: str
    bare: bool = False
    infinite: bool = False
    signed: bool = False


_DECIMAL = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50}


def _decimal(unit: str, prefixes: str = "kMGTP", size: Fraction | int = 1) -> dict[str, Fraction]:
    """Return the unit and its decimal multiples."""
    sizes = {unit: Fraction(size)}
    return sizes | {p + unit: Fraction(size) * 10 ** _DECIMAL[p] for p in prefixes}


def _binary(unit: str) -> dict[str, Fraction]:
    return {p + unit: Fraction(2**power) for p, power in _BINARY.items()}


def _per_time(things: tuple[str, ...]) -> dict[str, Fraction]:
    spans = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    return {f"{thing}/{span}": Fraction(1, s) for thing in things for span, s in spans.items()}


def _bandwidth() -> dict[str, Fraction]:
    bits = _decimal("bit/s", size=Fraction(1, 8)) | _decimal("bps", size=Fraction(1, 8))
    return bits | _decimal("B/s") | _binary("B/s")


def _flops() -> dict[str, Fraction]:
    names = ("FLOP/s", "FLOPS", "OP/s", "OPS")
    return {unit: size for name in names for unit, size in _decimal(name, "kMGTPE").items()}


# fmt: off
_CURRENCIES = (
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP",
    "INR", "JPY", "KRW", "NOK", "NZD", "PLN", "SEK", "USD",
)
# fmt: on


def _prices() -> dict[str, Fraction]:
    per = {"kWh": Fraction(1), "MWh": Fraction(1, 1000)}
    currencies = ("", *_CURRENCIES)
    return {f"{currency}/{unit}": size for currency in currencies for unit, size in per.items()}


def _carbon() -> dict[str, Fraction]:
    names = ("g", "gCO2", "gCO2e", "gCO2eq")
    return {f"{name}/kWh": Fraction(1) for name in names} | {"kg/MWh": Fraction(1)}


_TIMES = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
    "days": Fraction(86400),
    "weeks": Fraction(604800),
}

DIMENSIONS: Mapping[str, Dimension] = {
    "time": Dimension(_TIMES, ("ns", "µs", "ms", "s", "min", "h", "d"), "40 ms"),
    "memory": Dimension(
        _decimal("B") | {"KB": Fraction(1000)} | _binary("B"),
        ("B", "KiB", "MiB", "GiB", "TiB", "PiB"),
        "24 GiB",
    ),
    "bandwidth": Dimension(
        _bandwidth(),
        ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"),
        "25 Gbit/s",
        infinite=True,
    ),
    "rate": Dimension(_per_time(("", "req", "requests")), ("/d", "/h", "/min", "/s"), "3.2 /s"),
    "power": Dimension(
        _decimal("W", "kMG") | {"mW": Fraction(1, 1000)}, ("mW", "W", "kW", "MW"), "300 W"
    ),
    "energy": Dimension(
        _decimal("J", "kMG") | {"mJ": Fraction(1, 1000)} | _decimal("Wh", "kMG", Fraction(3600)),
        ("mJ", "J", "kJ", "MJ", "kWh", "MWh"),
        "1.2 kWh",
    ),
    "flops": Dimension(
        _flops(), ("FLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"), "312 TFLOP/s"
    ),
    "carbon_intensity": Dimension(_carbon(), ("g/kWh",), "56 g/kWh"),
    "price": Dimension(_prices(), ("/kWh",), "0.25 EUR/kWh", signed=True),
    "distance": Dimension({"m": Fraction(1), "km": Fraction(1000)}, ("m", "km"), "120 km"),
    "fraction": Dimension({"%": Fraction(1, 100)}, ("%",), "0.9 or '90 %'", bare=True),
    "count": Dimension(
        {"k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "B": Fraction(10**9)},
        ("k", "M", "G"),
        "16000 or 16k",
        bare=True,
    ),
}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")


def parse(value: str | float, dimension: str) -> float:
    """Return a quantity in SI units.

    Parameters
    ----------
    value : str or float
        A number with a unit (``"40 ms"``). A bare number is accepted where the dimension has no
        unit (``fraction``, ``count``), and 0 everywhere.
    dimension : str
        A key of ``DIMENSIONS``: time (s), memory (bytes), bandwidth (bytes/s), rate (1/s),
        power (W), energy (J), flops (FLOP/s), carbon_intensity (g/kWh), price (per kWh),
        distance (m), fraction, count.

    Returns
    -------
    float
        The correctly rounded value; ``inf`` for ``"unlimited"`` where that makes sense.

    Raises
    ------
    UnitError
        If the value is no quantity of this dimension; names the nearest valid unit.
    """
    kind = DIMENSIONS[dimension]
    if isinstance(value, str) and kind.infinite and value.strip() == "unlimited":
        return math.inf
    number, unit = _split(value, dimension)
    if number < 0 and not kind.signed:
        raise UnitError(f"{value!r} is negative; expected a {dimension} such as {kind.example}")
    amount = number * _size(value, unit, number == 0, dimension)
    if dimension == "fraction" and amount > 1:
        raise UnitError(f"{value!r} is more than 1; expected a fraction such as {kind.example}")
    if dimension == "count" and amount.denominator != 1:
        raise UnitError(f"{value!r} is not whole; expected a count such as {kind.example}")
    return float(amount)


def _split(value: str | float, dimension: str) -> tuple[Fraction, str]:
    """Return the number and the unit as they were written."""
    example = DIMENSIONS[dimension].example
    match = _QUANTITY.fullmatch(str(value))
    if isinstance(value, bool) or not isinstance(value, str | int | float) or match is None:
        raise UnitError(f"{value!r} is not a {dimension}; write for example {example}")
    return Fraction(match[1]), match[2]


def _size(value: str | float, unit: str, is_zero: bool, dimension: str) -> Fraction:
    """Return the size of the unit in SI, or say which unit was probably meant."""
    kind = DIMENSIONS[dimension]
    if unit in kind.units and unit:
        return kind.units[unit]
    if not unit:
        if kind.bare or is_zero:
            return Fraction(1)
        raise UnitError(f"{value!r} has no unit; write a {dimension} such as {kind.example}")
    near = nearest(unit, kind.units)
    hint = f"did you mean {near!r}?" if near else f"write for example {kind.example}"
    raise UnitError(f"{value!r}: {unit!r} is not a unit of {dimension}; {hint}")


def format_quantity(value: float, dimension: str, digits: int = 3) -> str:
    """Return a quantity for people: ``12.3 ms``, ``4.19 GiB``.

    Parameters
    ----------
    value : float
        In SI units, of any sign.
    dimension : str
        A key of ``DIMENSIONS``.
    digits : int
        Significant digits.
    """
    kind = DIMENSIONS[dimension]
    if math.isinf(value) and value > 0 and kind.infinite:
        return "unlimited"
    if not math.isfinite(value):
        return str(value)
    bare = kind.bare and dimension == "count"
    if bare and abs(value) < 10_000:
        return _digits(value, digits)
    unit = kind.shown[0]
    for candidate in kind.shown:
        # minutes, hours and days only from two of them on: "90 s" reads better than "1.5 min"
        least = 2 if dimension == "time" and kind.units[candidate] > 1 else 1
        if abs(value) >= least * float(kind.units[candidate]):
            unit = candidate
    if value == 0 and not bare:
        unit = _base_unit(kind)
    amount = _digits(value / float(kind.units[unit]), digits)
    return f"{amount}{'' if bare or unit.startswith('/kWh') else ' '}{unit}"


def _digits(value: float, digits: int) -> str:
    """Return significant digits without an exponent where that stays readable."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if -5 < magnitude < 15:
        return f"{value:.{max(0, digits - 1 - magnitude)}f}"
    return f"{value:.{digits}g}"


def _base_unit(kind: Dimension) -> str:
    return next((unit for unit in kind.shown if kind.units[unit] == 1), kind.shown[0])


def format_exact(value: float, dimension: str) -> str | float:
    """Return the shortest text that `parse` turns into exactly this value.

    Parameters
    ----------
    value : float
        In SI units.
    dimension : str
        A key of ``DIMENSIONS``.
    """
    kind = DIMENSIONS[dimension]
    if math.isinf(value):
        return "unlimited"
    if kind.bare or value == 0:
        return int(value) if value == int(value) else value
    texts = [f"{float(Fraction(value) / kind.units[unit]):.12g} {unit}" for unit in kind.shown]
    exact = [text for text in texts if parse(text, dimension) == value]
    return (
        min(exact, key=lambda text: len(text.split()[0]))
        if exact
        else f"{value!r} {_unit_of_one(kind)}"
    )


def _unit_of_one(kind: Dimension) -> str:
    return next(unit for unit, size in kind.units.items() if size == 1)
