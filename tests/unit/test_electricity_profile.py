"""Profiles of electricity: made series look like the real ones, and fits find what was made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from infsim.cluster import electricity_profile as model
from infsim.cluster.electricity_fit import Looks, autocorrelation, fit_electricity, fit_year
from infsim.cluster.electricity_profile import (
    LEVELS,
    TERMS,
    ElectricityProfile,
    ElectricityYear,
    autocovariance,
    load_electricity,
    noise,
    save_electricity,
)
from infsim.cluster.series_file import read_carbon, read_price
from infsim.errors import InputError
from infsim.paths import data_folder
from tests.shared_data import shared

SHIPPED = sorted(data_folder("traces/energy").glob("*/*.yaml"))
SEEDS = range(8)


def pattern(**terms: float) -> list[float]:
    """Return coefficients: harmonics of the day (``day1_cos``), and the weekend."""
    coefficients = [0.0] * TERMS
    places = {"day1_cos": 1, "day1_sin": 2, "day2_cos": 3, "year1_cos": 9, "weekend": 45}
    for name, value in terms.items():
        coefficients[places[name]] = value
    return coefficients


YEAR = ElectricityYear(
    quantiles=[-20 + 200 * level**2 for level in LEVELS],
    pattern=pattern(day1_cos=0.5, day1_sin=-0.4, day2_cos=0.3, year1_cos=0.4, weekend=-0.5),
    noise=[(0.0, 8.0, 0.25), (0.0, 64.0, 0.2), (24.0, 64.0, 0.05)],
)


def looks(year: ElectricityYear, seeds: Sequence[int] = SEEDS) -> list[Looks]:
    return [Looks.of(year.values(2023, np.random.default_rng(seed))) for seed in seeds]


# --- the model ------------------------------------------------------------------------------


def test_noise_has_the_autocovariance_that_was_asked_for() -> None:
    terms = [(0.0, 4.0, 0.5), (24.0, 48.0, 0.3), (12.0, 8.0, 0.2)]
    lags = np.arange(200, dtype=float)
    made = [noise(terms, 8760, np.random.default_rng(seed)) for seed in range(40)]
    found = np.mean([autocorrelation(x, 199) * x.var() for x in made], axis=0)
    np.testing.assert_allclose(found, autocovariance(terms, lags), atol=0.03)
    assert np.mean([x.mean() for x in made]) == pytest.approx(0, abs=0.02)


def test_smooth_noise_is_that_of_two_filters() -> None:
    """The autocorrelation that is used is that of an AR(2) process with a double root."""
    kept = np.exp(-1 / 6.0)
    rng = np.random.default_rng(0)
    x = np.zeros(400_000)
    white = rng.standard_normal(len(x))
    for i in range(2, len(x)):
        x[i] = 2 * kept * x[i - 1] - kept**2 * x[i - 2] + white[i]
    lags = np.arange(31, dtype=float)
    np.testing.assert_allclose(
        autocorrelation(x, 30), autocovariance([(0.0, 6.0, 1.0)], lags), atol=0.02
    )


def test_each_made_year_has_the_quantiles() -> None:
    for seed in SEEDS:
        values = YEAR.values(2024, np.random.default_rng(seed))
        assert len(values) == 8784  # a leap year
        np.testing.assert_allclose(np.quantile(values, LEVELS), YEAR.quantiles, atol=0.5)


def test_seeds_differ_and_the_same_seed_does_not() -> None:
    one, again, other = (YEAR.values(2023, np.random.default_rng(s)) for s in (1, 1, 2))
    assert (one == again).all()
    assert np.corrcoef(one, other)[0, 1] < 0.9


def test_weekends_are_where_the_calendar_has_them() -> None:
    still = ElectricityYear(YEAR.quantiles, pattern(weekend=-1.0), [])
    values = still.values(2023, np.random.default_rng(0)).reshape(-1, 24)
    assert values[0].mean() < values[1].mean()  # 2023 began on a Sunday
    assert values[6].mean() < values[5].mean()


def test_a_start_shifts_the_same_year() -> None:
    profile = ElectricityProfile("g/kWh", {2023: YEAR})
    whole = profile.steps(2023, None, np.random.default_rng(5))
    start = datetime(2023, 7, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    shifted = profile.steps(None, start, np.random.default_rng(5))
    assert whole[1:] == shifted[1:]
    since = (
        datetime(2023, 7, 1, 12, 30, tzinfo=UTC) - datetime(2023, 1, 1, tzinfo=UTC)
    ).total_seconds()
    assert [a - b for a, b in zip(whole[0], shifted[0], strict=True)] == [since] * 8760
    assert whole[2] == 8760 * 3600


def test_an_unknown_year_is_refused() -> None:
    profile = ElectricityProfile("g/kWh", {2023: YEAR, 2024: YEAR})
    assert profile.year(None) == 2024
    with pytest.raises(InputError, match="does not know 2020, but 2023, 2024"):
        profile.year(2020)


# --- fits -----------------------------------------------------------------------------------


def test_a_fit_to_a_made_series_finds_what_it_was_made_of() -> None:
    real = YEAR.values(2023, np.random.default_rng(100))
    found = fit_year(2023, real)
    np.testing.assert_allclose(found.quantiles, YEAR.quantiles, atol=1.5)
    # the score has no scale of its own: compare the mean days, and how they are correlated
    wanted, got = looks(YEAR), looks(found)
    day = np.mean([one.day for one in wanted], axis=0)
    np.testing.assert_allclose(
        np.mean([one.day for one in got], axis=0), day, atol=0.06 * np.ptp(day)
    )
    for lag in (1, 6, 24, 48):
        truth = [one.drops[lag] for one in wanted]
        drop = np.mean([one.drops[lag] for one in got])
        assert drop == pytest.approx(Looks.of(real).drops[lag], rel=0.08), lag
        assert drop == pytest.approx(np.mean(truth), abs=3 * np.std(truth)), lag  # of one year


def test_a_constant_year_stays_constant() -> None:
    found = fit_year(2023, np.full(8760, 50.0))
    assert set(found.values(2023, np.random.default_rng(0)).tolist()) == {50.0}


def test_what_is_no_year_is_refused() -> None:
    with pytest.raises(InputError, match="2023 has 8760 hours, got 8784 values"):
        fit_electricity({2023: np.zeros(8784)}, "g/kWh")
    with pytest.raises(InputError, match="must be finite"):
        fit_electricity({2023: np.full(8760, np.nan)}, "g/kWh")


# --- the profiles that are shipped ----------------------------------------------------------


@cache
def real_years(kind: str, zone: str) -> dict[int, list[float]]:
    """Return the hours of the real years, per unit of the profile."""
    if kind == "carbon":
        name = f"energy/carbon/{zone.upper()}_2021-2024.csv.gz"
        carbon = read_carbon(shared(name))
        hours, first, last = [carbon.at(3600.0 * h) for h in range(35_064)], 2021, 2024
    else:
        price = read_price(shared(f"energy/price/{zone.upper()}_electricity_prices_2023.csv.gz"))
        hours, first, last = [price.at(3600.0 * h) * 1000 for h in range(8760)], 2023, 2023
    years = {}
    for year in range(first, last + 1):
        count = model.hours_of(year)
        years[year], hours = hours[:count], hours[count:]
    return years


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_profiles_make_series_like_the_real_ones(path: Path) -> None:
    profile = load_electricity(path)
    real = real_years(path.parent.name, path.stem)
    assert sorted(profile.years) == sorted(real)
    for year, hours in real.items():
        wanted = Looks.of(np.array(hours))
        part = profile.years[year]
        made = [Looks.of(part.values(year, np.random.default_rng(s))) for s in SEEDS]
        figures = {
            name: np.mean([one.figures()[name] for one in made]) for name in wanted.figures()
        }
        expected = wanted.figures()
        assert figures["mean"] == pytest.approx(expected["mean"], rel=0.005)
        assert figures["sd"] == pytest.approx(expected["sd"], rel=0.02)
        assert figures["day_swing"] == pytest.approx(expected["day_swing"], rel=0.2)
        assert figures["day_range"] == pytest.approx(expected["day_range"], rel=0.2)
        assert figures["autocorrelation_1h"] == pytest.approx(
            expected["autocorrelation_1h"], abs=0.005
        )
        assert figures["autocorrelation_24h"] == pytest.approx(
            expected["autocorrelation_24h"], abs=0.05
        )
        assert figures["autocorrelation_168h"] == pytest.approx(
            expected["autocorrelation_168h"], abs=0.15
        )
        assert figures["negative"] == pytest.approx(expected["negative"], abs=0.003)
        levels = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
        values = part.values(year, np.random.default_rng(0))
        np.testing.assert_allclose(
            np.quantile(values, levels), np.quantile(hours, levels), atol=0.02 * wanted.sd + 1e-9
        )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_profiles_are_small_and_say_where_they_come_from(path: Path) -> None:
    assert path.stat().st_size < 6000
    profile = load_electricity(path)
    assert {"zone", "data", "url", "licence"} <= set(profile.source)
    assert set(profile.errors) == set(profile.years)


# --- files ----------------------------------------------------------------------------------


def test_a_profile_is_the_same_when_read_again(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    profile = load_electricity(SHIPPED[0])
    save_electricity(profile, path)
    assert load_electricity(path) == profile


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: electricity-profile", "kind: other", "not a profile of electricity"),
        ("version: 1", "version: 2", "version is 2, known is 1"),
        ("unit:", "units:", "unknown entry 'units'; did you mean 'unit'"),
        ("    pattern: [", "    pattern: [1, ", f"{TERMS + 1} coefficients of the pattern"),
        ("    pattern: [", "    pattern: [x, ", "damaged profile"),
        ("    noise:", "    noises:", "a year has quantiles, pattern, noise"),
        ("    - [0, 8,", "    - [0, -8,", "is no period, memory and variance"),
        ("quantiles: [-", "quantiles: [9", "quantiles must not fall"),
    ],
)
def test_damaged_profiles_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (data_folder("traces/energy/price") / "fr.yaml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "damaged.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        load_electricity(path)
    assert str(path) in str(caught.value)
