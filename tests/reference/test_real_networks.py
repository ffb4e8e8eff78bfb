"""Measured networks of the Internet, and what is drawn in their likeness."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from infsim.cluster.networks.cities import CityTable, read_cities
from infsim.cluster.networks.distance import MEAN_LINE, DistanceModel, Line, fit_line
from infsim.cluster.networks.geography import cities, distances_km
from infsim.cluster.networks.matrix import RttMatrix, read_matrix
from infsim.cluster.networks.statistics import MatrixStatistics, matrix_statistics
from infsim.cluster.networks.variation import SlowVariation, VariationModel
from infsim.rng import Streams
from tests.shared_data import shared

Matrix = NDArray[np.float64]

BANDS_KM = (300, 1000, 2000, 4000, 7000, 10_000, 14_000, 20_100)
MISPLACED = "la-ceiba"
"""Answers pings from 2,800 km away in 10 ms: its server is elsewhere."""


@cache
def planetlab(frame: int) -> RttMatrix:
    return read_matrix(shared(f"network/planetlab/PlanetLabData_{frame}.gz"))


@cache
def wonder() -> CityTable:
    return read_cities(shared("network/wonder-cities/wonder-cities.tar.gz"))


# --- the data -------------------------------------------------------------------------------


def test_planetlab_frames_are_complete_symmetric_and_no_metric() -> None:
    matrix = planetlab(1)
    assert len(matrix) == 490
    assert (matrix.rtt_s == matrix.rtt_s.T).all()
    found = matrix_statistics(matrix.rtt_s)
    assert found.missing == 0
    assert found.violated_triangles == pytest.approx(0.059, abs=0.001)
    assert found.pairs_with_detour == pytest.approx(0.79, abs=0.01)


def test_city_tables_name_cities_and_their_distances() -> None:
    table = wonder()
    assert len(table.rtt) == 242
    found = matrix_statistics(table.rtt.rtt_s)
    assert found.missing == pytest.approx(0.009, abs=0.001)
    assert found.asymmetry[0] < 0.003 < 0.5 < found.asymmetry[-1]


def test_cities_are_where_the_tables_put_them() -> None:
    table, known = wonder(), cities()
    elsewhere = {"panama", "tunis", "santiago", "minneapolis", "cleveland", "malaysia"}
    names = [n for n in table.rtt.names if n in known and n not in elsewhere]
    rows = [table.rtt.index(name) for name in names]
    apart = np.abs(distances_km([known[name] for name in names]) - table.km[np.ix_(rows, rows)])
    assert len(names) > 230
    assert np.nanmax(apart) < 50
    assert np.nanmedian(apart) < 3


def test_the_mean_line_is_that_of_the_city_tables() -> None:
    table = wonder()
    off = ~np.eye(len(table.rtt), dtype=bool)
    line = fit_line(table.km[off], table.rtt.rtt_s[off])
    assert line.base_s == pytest.approx(MEAN_LINE.base_s, rel=0.01)
    assert line.per_km_s == pytest.approx(MEAN_LINE.per_km_s, rel=0.005)
    assert line.explained == pytest.approx(MEAN_LINE.explained, abs=0.005)


# --- the distance model ---------------------------------------------------------------------


class Look(NamedTuple):
    """Quantiles of round-trip times by band of distance, and what else there is to compare."""

    quantiles: Matrix
    line: Line
    matrix: MatrixStatistics


def look(km: Matrix, rtt_s: Matrix) -> Look:
    upper = np.triu(np.ones_like(km, dtype=bool), 1) & ~np.isnan(rtt_s)
    x, y = km[upper], rtt_s[upper]
    edges = pairwise(BANDS_KM)
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    rows = [np.quantile(y[(x >= low) & (x < high)], levels) for low, high in edges]
    return Look(np.array(rows), fit_line(x, y), matrix_statistics(rtt_s))


@cache
def real_and_drawn() -> tuple[Look, list[Look]]:
    known = cities()
    names = [n for n in wonder().rtt.names if n in known and n != MISPLACED]
    places = [known[name] for name in names]
    rows = [wonder().rtt.index(name) for name in names]
    km = distances_km(places)
    real = look(km, wonder().rtt.symmetric().rtt_s[np.ix_(rows, rows)])
    model = DistanceModel()
    drawn = [look(km, model.sample(places, np.random.default_rng(seed))) for seed in range(6)]
    return real, drawn


def test_drawn_times_are_distributed_like_real_ones_by_distance() -> None:
    real, drawn = real_and_drawn()
    mean = np.exp(np.mean([np.log(look.quantiles) for look in drawn], axis=0))
    ratio = mean / real.quantiles
    assert np.abs(np.log(ratio[:, 1:4])).max() < np.log(1.2)
    assert np.abs(np.log(ratio)).max() < np.log(1.45)


def test_drawn_times_scatter_about_their_line_like_real_ones() -> None:
    real, drawn = real_and_drawn()
    assert real.line.explained == pytest.approx(0.566, abs=0.01)
    explained = [look.line.explained for look in drawn]
    assert np.mean(explained) == pytest.approx(0.63, abs=0.1)
    slope = np.mean([look.line.per_km_s for look in drawn])
    assert slope == pytest.approx(real.line.per_km_s, rel=0.12)


def test_drawn_times_violate_the_triangle_inequality_like_real_ones() -> None:
    real, drawn = real_and_drawn()
    assert real.matrix.violated_triangles == pytest.approx(0.0574, abs=0.001)
    violated = [look.matrix.violated_triangles for look in drawn]
    assert np.mean(violated) == pytest.approx(real.matrix.violated_triangles, abs=0.015)
    detours = [look.matrix.pairs_with_detour for look in drawn]
    assert np.mean(detours) == pytest.approx(real.matrix.pairs_with_detour, abs=0.08)
    severity = np.mean([look.matrix.severity for look in drawn], axis=0)
    assert severity[:4] == pytest.approx(np.array(real.matrix.severity[:4]), rel=0.1)


def test_drawn_times_are_possible_and_do_not_depend_on_places_added_later() -> None:
    places = list(cities().values())[:12]
    rtt = DistanceModel().sample(places, np.random.default_rng(3))
    off = ~np.eye(12, dtype=bool)
    assert (rtt[off] > 1e-5 * distances_km(places)[off]).all()
    assert (rtt == rtt.T).all()
    fewer = DistanceModel().sample(places[:5], np.random.default_rng(3))
    assert fewer[np.tril_indices(5, -1)] == pytest.approx(
        rtt[:5, :5][np.tril_indices(5, -1)], rel=0.3
    )


# --- variation ------------------------------------------------------------------------------


def changes(before: Matrix, after: Matrix) -> tuple[Matrix, float]:
    """Quantiles of the absolute log-ratio, and the share of its variance that belongs to ends."""
    size = len(before)
    upper = np.triu_indices(size, 1)
    ratio = np.zeros((size, size))
    ratio[upper] = np.log(after[upper] / before[upper])
    ratio += ratio.T
    end = ratio.sum(axis=1) / (size - 2)
    end -= end.sum() / (2 * (size - 1))
    rest = (ratio - np.add.outer(end, end))[upper]
    quantiles = np.quantile(np.abs(ratio[upper]), (0.25, 0.5, 0.75, 0.9, 0.95, 0.99))
    return quantiles, float(1 - rest.var() / ratio[upper].var())


def test_delays_change_as_between_frames_of_planetlab() -> None:
    frames = [planetlab(k).rtt_s for k in (1, 9, 18)]
    pairs = [(0, 1), (1, 2), (0, 2)]
    real = [changes(frames[i], frames[j]) for i, j in pairs]
    model = VariationModel(step_s=3600.0, correlation_s=600.0)
    drawn = []
    for seed in range(3):
        names = [f"host-{i}" for i in range(120)]
        variation = SlowVariation(model, names, Streams(seed))
        at = [
            np.array([[variation.factor(i, j, t) for j in range(120)] for i in range(120)])
            for t in (0.0, 40_000.0)
        ]
        drawn.append(changes(at[0], at[1]))
    ratio = np.exp(
        np.mean([np.log(q) for q, _ in drawn], axis=0)
        - np.mean([np.log(q) for q, _ in real], axis=0)
    )
    assert np.abs(np.log(ratio)).max() < np.log(1.8)
    assert 0.3 < np.mean([share for _, share in real]) < 0.5
    assert 0.2 < np.mean([share for _, share in drawn]) < 0.6
