"""Files of carbon intensities and prices: clocks that are changed, units, damage."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infsim.cluster.moments import instant
from infsim.cluster.series_file import SeriesFormat, read_carbon, read_price
from infsim.errors import InputError, Where
from tests.shared_data import shared

GOOD = "timestamp,carbon_intensity\n2023-01-01 00:00:00,50\n2023-01-01 01:00:00,60.5\n"
PRICES = (
    "Datetime (UTC),Datetime (Local),Price (EUR/MWh)\n"
    "2023-01-01 00:00:00+00:00,2023-01-01 01:00:00+01:00,-30\n"
    "2023-01-01 01:00:00+00:00,2023-01-01 02:00:00+01:00,200\n"
)


def file(folder: Path, text: str, name: str = "series.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# --- carbon ---------------------------------------------------------------------------------


def test_a_file_starts_at_its_first_row_or_where_it_is_told(tmp_path: Path) -> None:
    path = file(tmp_path, GOOD)
    carbon = read_carbon(path)
    assert [carbon.at(t) for t in (0, 3599, 3600, 1e6)] == [50, 50, 60.5, 60.5]
    later = read_carbon(path, start=datetime(2023, 1, 1, 0, 30))
    assert [later.at(t) for t in (0, 1799, 1800)] == [50, 50, 60.5]
    with pytest.raises(InputError, match=r"2024-01-01 00:00:00 is outside of the series \(2023-01"):
        read_carbon(path, start=datetime(2024, 1, 1))


def test_what_lies_before_the_start_is_left_out(tmp_path: Path) -> None:
    path = file(tmp_path, GOOD)
    assert read_carbon(path, start=datetime(2023, 1, 1, 1)).is_constant


def test_gzip_and_offsets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "fr.csv.gz"
    zoned = GOOD.replace(":00:00,", ":00:00+01:00,")
    path.write_bytes(gzip.compress(zoned.encode()))
    assert read_carbon(path).at(3600) == 60.5
    # a start without an offset is meant as the times of the file are
    assert read_carbon(path, start=datetime(2023, 1, 1, 1)).at(0) == 60.5
    assert read_carbon(path, start=datetime(2023, 1, 1, 0, tzinfo=UTC)).at(0) == 60.5


def test_the_columns_of_electricity_maps_are_ambiguous_until_told(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "Datetime (UTC),Zone,Carbon intensity gCO₂eq/kWh (direct),"
        "Carbon intensity gCO₂eq/kWh (Life cycle)\n"
        "2023-01-01 00:00:00,FR,40,50\n2023-01-01 01:00:00,FR,41,51\n",
    )
    with pytest.raises(InputError, match=r":1: cannot tell which column is the value: .*columns:"):
        read_carbon(path)
    life = SeriesFormat(columns={"value": "Carbon intensity gCO₂eq/kWh (Life cycle)"})
    assert read_carbon(path, about=life).at(0) == 50
    with pytest.raises(InputError, match=r"no column 'Zon'; did you mean 'Zone'"):
        read_carbon(path, about=SeriesFormat(columns={"value": "Zon"}))


def test_units_of_carbon(tmp_path: Path) -> None:
    per_mwh = file(tmp_path, GOOD.replace("carbon_intensity", "carbon (kg/MWh)"))
    assert read_carbon(per_mwh).at(0) == 50
    with pytest.raises(InputError, match=r":1: the header 'x \(EUR/MWh\)' does not tell the unit"):
        read_carbon(file(tmp_path, GOOD.replace("carbon_intensity", "x (EUR/MWh)")))


def test_real_carbon() -> None:
    carbon = read_carbon(shared("energy/carbon/FR_2021-2024.csv.gz"))
    year = carbon.integral(0, 365 * 86400) / (365 * 86400)
    assert year == pytest.approx(55.553, abs=0.001)  # mean of the first 8760 rows
    summer = datetime(2022, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    paris = SeriesFormat(zone="UTC")
    carbon = read_carbon(shared("energy/carbon/FR_2021-2024.csv.gz"), summer, paris)
    assert carbon.at(0) == 81.52  # the row of 2022-07-01 10:00:00


# --- prices ---------------------------------------------------------------------------------


def test_prices_are_per_kwh_and_may_be_negative(tmp_path: Path) -> None:
    price = read_price(file(tmp_path, PRICES))
    assert (price.at(0), price.at(3600), price.currency) == (-0.03, 0.2, "EUR")
    assert price.integral(0, 3600) == pytest.approx(-108)


@pytest.mark.parametrize(
    ("header", "unit", "currency", "value"),
    [
        ("t,Price (PLN/MWh)", None, "PLN", 0.05),
        ("t,Day-ahead [€/MWh]", None, "EUR", 0.05),
        ("t,Price (EUR/MWhe)", None, "EUR", 0.05),
        ("t,USD/kWh", None, "USD", 50.0),
        ("t,x", "GBP/MWh", "GBP", 0.05),
        ("t,x", "/MWh", "", 0.05),
    ],
)
def test_units_of_prices(
    tmp_path: Path, header: str, unit: str | None, currency: str, value: float
) -> None:
    path = file(tmp_path, f"{header}\n2023-01-01 00:00,50\n")
    price = read_price(path, about=SeriesFormat(unit=unit))
    assert (price.at(0), price.currency) == (value, currency)


def test_a_price_without_a_unit_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "time,price\n2023-01-01 00:00,50\n")
    with pytest.raises(InputError, match=r":1: .*does not tell the unit.*unit: EUR/MWh"):
        read_price(path)
    with pytest.raises(InputError, match=r"EUR/MWx.*did you mean 'EUR/MWh'"):
        read_price(path, about=SeriesFormat(unit="EUR/MWx"))


def test_real_prices_in_utc_and_in_local_time_are_the_same() -> None:
    path = shared("energy/price/DE-LU_electricity_prices_2023.csv.gz")
    utc = read_price(path)
    local = read_price(path, about=SeriesFormat(columns={"time": "Datetime (Local)"}))
    hours = range(8760)
    assert [utc.at(3600.0 * h) for h in hours] == [local.at(3600.0 * h) for h in hours]
    negative = sum(utc.at(3600.0 * h) < 0 for h in hours)
    assert negative / 8760 == pytest.approx(0.033, abs=0.001)
    assert utc.integral(0, 8760 * 3600) / (8760 * 3600) == pytest.approx(0.102567, abs=1e-6)
    assert utc.currency == "USD"


# --- clocks ---------------------------------------------------------------------------------

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(ZONES),
    st.integers(0, 364),
    st.sampled_from([15, 30, 60]),
    st.integers(2, 400),
)
def test_a_clock_that_is_changed_tells_the_same_as_one_that_is_not(
    tmp_path: Path, zone: str, day: int, minutes: int, rows: int
) -> None:
    start = datetime(2023, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
    moments = [start + timedelta(minutes=minutes * i) for i in range(rows)]
    shown = [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
    text = "".join(f"{time},{i}\n" for i, time in enumerate(shown))
    carbon = read_carbon(file(tmp_path, "t,v\n" + text), about=SeriesFormat(zone=zone))
    assert [carbon.at(60.0 * minutes * i) for i in range(rows)] == list(range(rows))


def test_the_hour_that_is_skipped_and_the_one_that_comes_twice(tmp_path: Path) -> None:
    paris = SeriesFormat(zone="Europe/Paris")
    march = "t,v\n2023-03-26 01:00,1\n2023-03-26 03:00,2\n"
    assert read_carbon(file(tmp_path, march), about=paris).at(3600) == 2
    october = "t,v\n" + "".join(
        f"2023-10-29 {hour}:00,{i}\n" for i, hour in enumerate(("01", "02", "02", "03"))
    )
    path = file(tmp_path, october)
    carbon = read_carbon(path, about=paris)
    assert [carbon.at(3600 * i) for i in range(4)] == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r":4: .*is not after.*say the time zone, as in zone:"):
        read_carbon(path)
    third = october + "2023-10-29 02:00,9\n"
    with pytest.raises(InputError, match=r":6: time .* is not after the one before"):
        read_carbon(file(tmp_path, third), about=paris)
    never = march.replace("03:00", "02:00")
    with pytest.raises(InputError, match=r":3: 2023-03-26 02:00:00 does not exist in Europe/Paris"):
        read_carbon(file(tmp_path, never), about=paris)


def test_starts_without_an_offset_are_of_the_zone(tmp_path: Path) -> None:
    rows = "".join(f"2023-07-01 {hour:02}:00:00,{hour}\n" for hour in range(24))
    path = file(tmp_path, "Datetime (UTC),carbon intensity\n" + rows)
    noon = datetime(2023, 7, 1, 12)
    assert read_carbon(path, noon).at(0) == 12
    assert read_carbon(path, noon, SeriesFormat(zone="Europe/Paris")).at(0) == 10
    assert read_carbon(path, noon.replace(tzinfo=timezone(timedelta(hours=5)))).at(0) == 7


def test_starts_that_could_mean_two_moments_are_refused(tmp_path: Path) -> None:
    naive = file(tmp_path, GOOD, "naive.csv")
    with pytest.raises(InputError, match=r"has an offset, the times of the file have none.*zone"):
        read_carbon(naive, datetime(2023, 1, 1, tzinfo=UTC))
    both = file(tmp_path, "t,v\n2023-03-26 01:00+01:00,1\n2023-03-26 03:00+02:00,2\n", "both.csv")
    with pytest.raises(InputError, match="has no offset, and those of the file change"):
        read_carbon(both, datetime(2023, 3, 26, 1))
    assert read_carbon(both, datetime(2023, 3, 26, 1, tzinfo=UTC)).at(0) == 2


def test_an_unknown_zone_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown time zone 'Europe/Pari'; did you mean 'Europe/P"):
        read_carbon(file(tmp_path, GOOD), about=SeriesFormat(zone="Europe/Pari"))


def test_the_second_round_is_only_taken_where_there_is_one() -> None:
    paris = ZoneInfo("Europe/Paris")
    twice = datetime(2023, 10, 29, 2, 30)
    first, second = (
        datetime(2023, 10, 29, 0, 30, tzinfo=UTC),
        datetime(2023, 10, 29, 1, 30, tzinfo=UTC),
    )
    assert instant(twice, paris) == first
    assert instant(twice, paris, after=first) == second
    assert instant(twice, paris, after=second) == first  # out of order, which the reader refuses


# --- damage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: expected a header"),
        ("timestamp,carbon_intensity\n", "no rows of carbon intensity"),
        (GOOD + "2023-01-01 02:00:00\n", r":4: expected 2 columns, got 1"),
        (GOOD + "2023-01-01 02:00:00,x\n", ":4: 'x' is not a number"),
        (GOOD + "2023-01-01 02:00:00,\n", ":4: '' is not a number"),
        (GOOD + "2023-01-01 02:00:00,-3\n", ":4: carbon intensity '-3' is not possible"),
        (GOOD + "2023-01-01 02:00:00,nan\n", ":4: carbon intensity 'nan'"),
        (GOOD + "1.1.2023,3\n", r":4: '1\.1\.2023' is not a time \(write for example"),
        (GOOD + "2023-01-01 01:00:00,3\n", ":4: time .* is not after"),
        (GOOD + "2023-01-01 02:00:00+00:00,3\n", ":4: .*either all times have an offset"),
        (
            GOOD + "2023-01-01 02:00:00,3\n2023-01-03 02:00:00,3\n",
            ":5: no values for 2 days, 0:00:00 before this row, .* every 1:00:00",
        ),
    ],
)
def test_damaged_files_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_carbon(file(tmp_path, text))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "carbon.csv.gz"
    for data in (None, b"not gzip", gzip.compress(GOOD.encode())[:-9], gzip.compress(b"\xff\xfe")):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputError, match="cannot read the series"):
            read_carbon(path)


def test_a_lone_carriage_return_is_no_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(b"time\r,g/kWh\n2023-01-01T00:00,40\n")
    with pytest.raises(InputError, match=r"series\.csv:1"):
        read_carbon(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Cut, overwritten or garbled anywhere: no other error, and nothing that is no number."""
    good = GOOD.encode()
    at = data.draw(st.integers(0, len(good)))
    junk = data.draw(
        st.binary(max_size=6) | st.sampled_from([b",", b"\n", b'"', b"\x00", b"1e999"])
    )
    path = tmp_path / "series.csv"
    path.write_bytes(good[:at] + junk + good[at + data.draw(st.integers(0, 8)) :])
    try:
        carbon = read_carbon(path)
    except InputError as error:
        found = error.where
    else:
        found = Where(str(path))
        assert 0 <= carbon.at(0) < float("inf")
    assert found is not None
    assert found.file == str(path)
