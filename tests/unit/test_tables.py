"""One table, all its renderings."""

import json
import math

import pytest

from infsim.results.statistics import Estimate
from infsim.results.tables import Column, Table, format_cell, format_estimate

TABLE = Table(
    (Column("alternative"), Column("ttft_s", "TTFT", "time"), Column("n", dimension="count")),
    (("random", Estimate(0.0123, 0.0119, 0.0127), 10), ("a|b [c] <d>", Estimate(math.nan), None)),
    "a title",
    ("a note",),
)


def test_text_aligns_and_says_what_is_missing() -> None:
    lines = TABLE.text().splitlines()
    assert lines[0] == "a title"
    assert lines[2].split() == ["alternative", "TTFT", "n"]
    assert lines[4].split() == ["random", "12.3", "±", "0.4", "ms", "10"]
    assert lines[5].split() == ["a|b", "[c]", "<d>", "n/a", "n/a"]
    assert lines[-1] == "a note"
    assert not any(line != line.rstrip() for line in lines)


def test_a_console_shows_the_text() -> None:
    assert repr(TABLE) == TABLE.text()


def test_text_has_colour_only_on_demand() -> None:
    assert "\x1b" not in TABLE.text()
    assert "\x1b" in TABLE.text(color=True)


def test_text_keeps_to_the_width() -> None:
    assert max(map(len, TABLE.text(width=30).splitlines())) <= 30


def test_markdown_escapes_bars() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[:2] == ["**a title**", ""]
    assert lines[2:5] == [
        "| alternative | TTFT | n |",
        "| --- | --: | --: |",
        "| random | 12.3 ± 0.4 ms | 10 |",
    ]
    assert lines[5].startswith("| a\\|b [c] <d> |")


def test_html_escapes_markup() -> None:
    html = TABLE._repr_html_()
    assert "a|b [c] &lt;d&gt;" in html
    assert html.count("<tr>") == 3


def test_plain_data_is_valid_json() -> None:
    data = json.loads(json.dumps(TABLE.to_dict(), allow_nan=False))
    assert data["rows"][0]["ttft_s"] == {"value": 0.0123, "low": 0.0119, "high": 0.0127}
    assert data["rows"][1] == {
        "alternative": "a|b [c] <d>",
        "ttft_s": {"value": None, "low": None, "high": None},
        "n": None,
    }


def test_pandas_gets_the_ends_of_intervals_as_columns() -> None:
    frame = TABLE.to_pandas()
    assert list(frame.columns) == ["alternative", "ttft_s", "ttft_s_low", "ttft_s_high", "n"]
    assert frame["ttft_s_high"][0] == 0.0127


def test_columns_by_name() -> None:
    assert TABLE.column("n") == [10, None]
    with pytest.raises(KeyError, match="there are alternative, ttft_s, n"):
        TABLE.column("ttft")
    assert [row["alternative"] for row in TABLE] == ["random", "a|b [c] <d>"]
    assert len(TABLE) == 2


def test_rows_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        Table((Column("a"), Column("b")), (("x",),))


@pytest.mark.parametrize(
    ("estimate", "dimension", "shown"),
    [
        (Estimate(0.95, 0.94, 0.96), "fraction", "95.0 ± 1.0 %"),
        (Estimate(1234.6, 1200.6, 1268.6), None, "1235 ± 34"),
        (Estimate(123456.0, 123356.0, 123556.0), None, "123,456 ± 100"),
        (Estimate(0.0, 0.0, 0.0), "time", "0 ± 0 s"),
        (Estimate(2.5), "time", "2.50 s"),
    ],
)
def test_estimates_share_unit_and_places(
    estimate: Estimate, dimension: str | None, shown: str
) -> None:
    assert format_estimate(estimate, dimension) == shown


def test_cells() -> None:
    assert format_cell(True) == "yes"
    assert format_cell(17) == "17"
    assert format_cell(0.5, "fraction") == "50.0 %"
    assert format_cell(None) == "n/a"
