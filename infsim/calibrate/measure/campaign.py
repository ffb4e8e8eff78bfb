"""A campaign: many kernels on one machine within a budget, the least sure points first."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from math import inf
from typing import Any

import numpy as np

from infsim.calibrate.measure.bench import DRIFT, FEWEST, Bench, Pace, Reading
from infsim.calibrate.measure.kernel import Case, Kernel, Maker
from infsim.calibrate.measure.search import CurveSearch
from infsim.errors import InfsimError

CHECKED = 64
"""Results are compared with float64 at the first point and at another one up to this size."""
LONGEST_S = 0.15
"""Points of which one run would take longer are left to the line beyond."""
WANTED = 0.05
FIRST = 10
"""So many times longer may the smallest size take: a step in emulated FP8 took 27 s."""
HELD_OUT = 3
"""Points of a curve that are drawn at random, and not shown to its search."""
FEWEST_POINTS = 12
"""Of grids with as many; smaller ones are needed by the search."""
MOST_ROUNDS = 12
"""More make the median little better: their errors fall with the root."""
COARSE = (inf, 0.4, 0.2, 0.1)
"""Errors with which all curves are to be content before any is refined further: ends come first."""
CHECKPOINT_S = 60.0
"""So often what was measured is handed out, in case that the campaign does not live to its end."""


class DriftError(InfsimError):
    """The machine changed while it was measured."""


@dataclass
class _Curve:
    """A kernel, what is known of it, and why no more is."""

    kernel: Kernel
    search: CurveSearch
    readings: dict[int, Reading] = field(default_factory=dict)
    error: float = 0.0
    checks: int = 0
    unsteady: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Campaign:
    """What a campaign found.

    Attributes
    ----------
    rows : list of mapping
        Rows of a kernel table, in the order of the kernels.
    unavailable : mapping of str to str
        Kernels that failed, and why.
    errors : mapping of str to float
        Largest relative error of results against float64, by format and library.
    usual : Pace
        What the references usually took: times are those of the machine at this pace.
    drift : float
        References in quiet moments at the end against the beginning, minus 1.
    unsteady : int
        Points left out because the references beside them would not stand still.
    rounds : int
        How often most points were measured.
    standard_error : mapping of str to float
        ``median`` and ``p95`` of the relative standard errors of points of several rounds, from
        how far these are apart.
    unfinished : int
        Curves that the budget left above the wanted error.
    saved : int
        Points of the full grids that needed not be measured.
    seconds : float
        Wall clock.
    interrupted : bool
        Ctrl-C came before the end of the budget.
    """

    rows: list[dict[str, Any]]
    unavailable: dict[str, str]
    errors: dict[str, float]
    usual: Pace
    drift: float
    unsteady: int
    rounds: int
    standard_error: dict[str, float]
    unfinished: int
    saved: int
    seconds: float
    interrupted: bool = False


def measure(
    kernels: Iterable[Kernel],
    bench: Bench,
    budget_s: float,
    wanted: float = WANTED,
    longest_s: float = LONGEST_S,
    searching: float = 1.0,
    say: Callable[[str], None] = lambda _: None,
    keep: Callable[[Campaign], object] = lambda _: None,
) -> Campaign:
    """Measure kernels.

    Parameters
    ----------
    kernels : iterable of Kernel
    bench : Bench
    budget_s : float
        Wall-clock seconds after which no further point is begun.
    wanted : float
        Relative error of lines between measured points at which a curve is done; 0 measures the
        full grids.
    longest_s : float
        Points of which one run would take longer are left out.
    searching : float
        Share of the budget that the search for points may take. In what it leaves all points are
        measured again, as often as there is time.
    say : callable
        Told what goes on, a line at a time.
    keep : callable
        Given what was measured so far, once a minute while the machine is the same.

    Raises
    ------
    DriftError
        If the references take more than 10 % longer or shorter at the end than at the beginning,
        in quiet moments.
    """
    began = kept = time.monotonic()
    curves = [_curve(kernel, longest_s) for kernel in kernels]
    interrupted = False
    try:
        ends = began + searching * budget_s, began + budget_s
        for visit in _rounds(curves, bench, wanted, ends, say):
            visit()
            if time.monotonic() - kept > CHECKPOINT_S:
                if abs(drift := bench.drift()) <= DRIFT:
                    keep(_summary(curves, bench, wanted, drift, time.monotonic() - began, True))
                kept = time.monotonic()
    except KeyboardInterrupt:
        say("interrupted: what was measured is checked and kept")
        interrupted = True
    drift = bench.drift()
    if abs(drift) > DRIFT:
        raise DriftError(
            f"the reference kernels took {drift:+.1%} at the end against the beginning,"
            f" more than {DRIFT:.0%}: the machine was not the same throughout, nothing is written"
        )
    return _summary(curves, bench, wanted, drift, time.monotonic() - began, interrupted)


def _rounds(
    curves: Sequence[_Curve],
    bench: Bench,
    wanted: float,
    ends: tuple[float, float],
    say: Callable[[str], None],
) -> Iterator[Callable[[], None]]:
    """Yield the visits to curves: the search until its end, and then the same points again."""
    mixed = _mixed(curves)
    for curve, goal in _visits(mixed, wanted, say):
        if time.monotonic() > ends[0]:
            break
        yield partial(_visit, curve, bench, goal, ends[0])
    for number in range(2, MOST_ROUNDS + 1):
        if time.monotonic() > ends[1]:
            break
        sound = [curve for curve in mixed if not curve.failure]
        say(f"round {number}: {sum(len(c.readings) for c in sound)} points")
        for curve in sound:
            if time.monotonic() > ends[1]:
                break
            yield partial(_again, curve, bench, ends[1])


def _mixed(curves: Sequence[_Curve]) -> list[_Curve]:
    """Curves in the order of visits, kinds of kernels evenly mixed.

    So a budget that ends early leaves no kind without points. Whole steps, which take long and are
    there to check the others, come last.
    """
    kinds: dict[tuple[object, object], list[_Curve]] = {}
    for curve in curves:
        columns = curve.kernel.columns
        kinds.setdefault((columns.get("kernel"), columns.get("pattern")), []).append(curve)
    places = [
        ((kernel == "step", i / len(kind)), curve)
        for (kernel, _), kind in kinds.items()
        for i, curve in enumerate(kind)
    ]
    return [curve for _, curve in sorted(places, key=lambda place: place[0])]


def _visits(
    mixed: Sequence[_Curve], wanted: float, say: Callable[[str], None]
) -> Iterator[tuple[_Curve, float]]:
    """Yield curves with the error that they are to be brought to."""
    for goal in (*(g for g in COARSE if g > wanted), wanted):
        to_do = [c for c in mixed if not c.failure and c.search.next(goal) is not None]
        what = "ends" if goal == inf else f"to {goal:.0%}"
        say(f"{what}: {len(to_do)} of {len(mixed)} curves")
        for curve in to_do:
            yield curve, goal


def _curve(kernel: Kernel, longest_s: float) -> _Curve:
    """Return what is to be known of a kernel, with points drawn that its search is not shown."""
    inner = [point for point in kernel.points[1:-1] if point > kernel.dense_to]
    drawn: list[int] = []
    if len(kernel.points) >= FEWEST_POINTS:
        count = min(HELD_OUT, len(inner))
        drawn = sorted(random.Random(kernel.label).sample(inner, count))
    reach_s = kernel.longest_s or longest_s
    return _Curve(kernel, CurveSearch(kernel.points, reach_s, kernel.dense_to, drawn))


def _visit(curve: _Curve, bench: Bench, goal: float, until_s: float) -> None:
    """Measure points of a curve until it is expected to stray less than the goal, or time is up."""
    try:
        makers = [curve.kernel.prepare()]
        while (point := curve.search.next(goal)) is not None and time.monotonic() < until_s:
            _measure(curve, makers, point, bench)
        if goal == inf:
            for point in _held_out(curve):
                if time.monotonic() < until_s:
                    _measure(curve, makers, point, bench)
    except Exception as error:  # a kernel of a library may fail in any way
        curve.failure = f"{type(error).__name__}: {_first_line(error)}"


def _held_out(curve: _Curve) -> list[int]:
    """The drawn points between the ends."""
    inside = [curve.kernel.points[i] for i in curve.search.known]
    return [point for point in inside if point in curve.search.held_out]


def _again(curve: _Curve, bench: Bench, until_s: float) -> None:
    """Add a round to the points of a curve; one that is not steady now is left as it was."""
    makers: list[Maker] = []
    for point, earlier in curve.readings.items():
        if time.monotonic() > until_s:
            break
        try:
            reading = bench.read(_cases(curve.kernel, makers, point), earlier)
        except Exception:  # what was measured before holds: memory may be short for a moment
            break
        curve.readings[point] = reading or earlier


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200]


def _measure(curve: _Curve, makers: list[Maker], point: int, bench: Bench) -> None:
    kernel = curve.kernel
    if point == kernel.points[0]:
        _try(makers[0](point), FIRST * curve.search.longest_s)
    if point == kernel.points[0] or (point <= CHECKED and curve.checks < 2):
        _check(curve, makers[0], point)
    reading = bench.read(_cases(kernel, makers, point))
    if reading is None:
        curve.unsteady += 1
        curve.search.give_up(point)
    else:
        curve.readings[point] = reading
        if point not in curve.search.held_out:
            curve.search.add(point, reading.time_s)


def _try(case: Case, longest_s: float) -> None:
    """Raise if runs take too long: a second one, too, as libraries are loaded by the first."""
    for _ in range(2):
        if case.touch is not None:
            case.touch()
        before = time.perf_counter()
        case.run()
        took_s = time.perf_counter() - before
        if took_s <= longest_s:
            return
    raise TimeoutError(f"{took_s:.2g} s for its smallest size")


def _cases(kernel: Kernel, makers: list[Maker], point: int) -> Callable[[], Case]:
    """Return what makes cases of a point, each with weights of its own; these are kept."""
    made = count()

    def make() -> Case:
        i = next(made)
        if i == len(makers):
            makers.append(kernel.prepare())
        return makers[i](point)

    return make


def _check(curve: _Curve, maker: Maker, point: int) -> None:
    """Raise if the result is wrong."""
    case = maker(point)
    if case.error is None:
        return
    error = case.error()
    curve.checks += 1
    curve.error = max(curve.error, error)
    if not error <= curve.kernel.tolerance:
        raise ArithmeticError(
            f"wrong by {error:.2g} at {point} {curve.kernel.axis},"
            f" more than {curve.kernel.tolerance:.2g}"
        )


def _summary(
    curves: Sequence[_Curve],
    bench: Bench,
    wanted: float,
    drift: float,
    seconds: float,
    interrupted: bool,
) -> Campaign:
    usual = bench.usual
    for curve in curves:
        curve.readings = {x: replace(r, usual=usual) for x, r in curve.readings.items()}
    errors: dict[str, float] = {}
    for curve in curves:
        columns = curve.kernel.columns
        key = " ".join(str(columns.get(k, "")) for k in ("kernel", "format", "library")).strip()
        if curve.readings:
            errors[key] = max(errors.get(key, 0.0), curve.error)
    sound = [c for c in curves if not c.failure]
    readings = [reading for curve in curves for reading in curve.readings.values()]
    uncertain = [r.standard_error for r in readings if len(r.rounds) >= FEWEST]
    return Campaign(
        rows=[row for curve in curves for row in _rows(curve)],
        unavailable={c.kernel.label: c.failure for c in curves if c.failure},
        errors={key: float(f"{error:.3g}") for key, error in errors.items()},
        usual=usual,
        drift=drift,
        unsteady=sum(c.unsteady for c in curves),
        rounds=int(np.median([len(r.rounds) for r in readings])) if readings else 0,
        standard_error={
            name: round(float(np.quantile(uncertain, q)), 4)
            for name, q in (("median", 0.5), ("p95", 0.95))
            if uncertain
        },
        unfinished=sum(c.search.next(wanted) is not None for c in sound),
        saved=sum(c.search.saved for c in sound),
        seconds=seconds,
        interrupted=interrupted,
    )


def _rows(curve: _Curve) -> Iterable[dict[str, Any]]:
    for point, reading in sorted(curve.readings.items()):
        yield dict(curve.kernel.columns) | {
            curve.kernel.axis: point,
            "held_out": int(point in curve.search.held_out),
            "time_s": reading.time_s,
            "spread_s": reading.spread_s,
            "runs": reading.runs,
        }
