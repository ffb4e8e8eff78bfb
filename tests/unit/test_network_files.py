"""Readers of measured networks: what they accept, and what they refuse with its place."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infsim.cluster.networks.cities import read_cities
from infsim.cluster.networks.matrix import RttMatrix, read_matrix
from infsim.errors import InputError

LABELLED = "from,paris,tokyo,new york\nparis,0,230,80\ntokyo,240,0,\nnew york,80,170,0\n"


def written(folder: Path, text: str, name: str = "rtt.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# --- matrices -------------------------------------------------------------------------------


def test_numbers_between_tabs_in_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "rtt.gz"
    path.write_bytes(gzip.compress(b"0\t10\t20\n11\t0\t30\n21\t31\t0\n"))
    matrix = read_matrix(path)
    assert matrix.names == ("0", "1", "2")
    assert not matrix.named
    expected = np.array([[0, 10, 20], [11, 0, 30], [21, 31, 0]]) / 1e3
    assert matrix.rtt_s == pytest.approx(expected)
    assert matrix.symmetric().rtt_s[0] == pytest.approx([0, 10.5e-3, 20.5e-3])


def test_names_in_the_first_row_and_column_and_missing_cells(tmp_path: Path) -> None:
    matrix = read_matrix(written(tmp_path, LABELLED), unit_s=1.0)
    assert matrix.names == ("paris", "tokyo", "new york")
    assert matrix.rtt_s[1].tolist() == [240, 0, 170]  # the other direction of what is missing
    assert matrix.index("tokyo") == 1
    with pytest.raises(InputError, match="no row 'tokio'; did you mean 'tokyo'"):
        matrix.index("tokio")


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(0, 1000), st.booleans())
def test_what_is_written_is_read(size: int, seed: int, named: bool) -> None:
    rtt = np.random.default_rng(seed).uniform(0.01, 500, (size, size))
    np.fill_diagonal(rtt, 0)
    rows = [[repr(float(x)) for x in row] for row in rtt]
    if named:
        names = [f"place {i}" for i in range(size)]
        lines = [",".join(["", *names])]
        lines += [",".join([n, *row]) for n, row in zip(names, rows, strict=True)]
    else:
        lines = [" ".join(row) for row in rows]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        matrix = read_matrix(written(Path(folder), "\n".join(lines)))
    assert matrix.named == named
    assert matrix.rtt_s == pytest.approx(rtt / 1e3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file has no rows"),
        ("0 1\n1 0\n2 2\n", r"rtt\.csv:3: 3 rows of a matrix of 3 places|times in a row"),
        ("0 1\n1\n", r"rtt\.csv:2: 1 times in a row of a matrix of 2 places"),
        ("0 1\n-3 0\n", r"rtt\.csv:2: '-3' is not a round-trip time"),
        ("0 1\nfast 0\n", r"rtt\.csv:2: 'fast' is not a round-trip time"),
        (",a,b\na,0,1\nc,1,0\n", r"rtt\.csv:3: row 'c' instead of 'b'"),
        (",a,a\na,0,1\na,1,0\n", r"rtt\.csv:1: two places are named 'a'"),
        (",a,b\na,0,1\n", r"rtt\.csv:2: 1 rows of a matrix of 2 places"),
    ],
)
def test_damaged_matrices_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_matrix(written(tmp_path, text))


def test_absent_and_truncated_files_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "0")
    with pytest.raises(InputError, match=r"no such file: .*rtt\.csx; did you mean 'rtt\.csv'"):
        read_matrix(tmp_path / "rtt.csx")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"0 1\n1 0\n" * 99)[:-9])
    with pytest.raises(InputError, match="cannot read the file"):
        read_matrix(tmp_path / "cut.gz")


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60))
@example(b"\x00\x1f\x00")  # one name, no rows
def test_no_bytes_crash_the_reader(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rtt"
        path.write_bytes(content)
        try:
            matrix = read_matrix(path)
        except InputError:
            return
    assert not np.isnan(np.diag(matrix.rtt_s)).any()
    assert ((matrix.rtt_s >= 0) | np.isnan(matrix.rtt_s)).all()


def test_missing_pairs_are_refused_or_go_over_a_third_place() -> None:
    rtt = np.array([[0, np.nan, 3], [np.nan, 0, 4], [3, 4, 0]])
    matrix = RttMatrix(("a", "b", "c"), rtt, "file")
    with pytest.raises(InputError, match=r"file has no time from 'a' to 'b' \(missing: detour"):
        matrix.chosen([0, 1])
    assert matrix.chosen([0, 1], fill_missing=True).tolist() == [[0, 7], [7, 0]]


def test_sampled_rows_are_complete_among_themselves() -> None:
    rtt = np.array([[0, np.nan, 3], [np.nan, 0, 4], [3, 4, 0]])
    matrix = RttMatrix(("a", "b", "c"), rtt, "file")
    assert matrix.sampled([[0, 1, 2], [0, 1, 2]]) == [0, 2]
    assert matrix.sampled([[1, 0, 2], [0, 1, 2]]) == [1, 2]
    with pytest.raises(InputError, match="3 rows are wanted of file, which has 3, 2 of them"):
        matrix.sampled([[1, 0, 2]] * 3)


# --- cities ---------------------------------------------------------------------------------

HEADER = "City,Distance,hidden,Average,hidden.1,Last Checked\n"


def tables(folder: Path, **cities: str) -> Path:
    path = folder / "cities.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, rows in cities.items():
            content = (HEADER + rows).encode()
            member = tarfile.TarInfo(f"tables/{name}Ping.csv")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_ping_tables_of_cities(tmp_path: Path) -> None:
    path = tables(
        tmp_path,
        Paris='"New York United States, North America",5837km,5837,80.5ms,80.5,now\n',
        **{
            "New+York": '"Paris France, Eurasia",5837km,5837,82.5ms,82.5,now\n'
            '"Rome Italy",1km,1,1ms,1,now\n'
        },
    )
    table = read_cities(path)
    assert table.rtt.names == ("new-york", "paris")
    assert table.rtt.rtt_s.tolist() == [[0, 0.0825], [0.0805, 0]]
    assert table.km.tolist() == [[0, 5837], [5837, 0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('"Rome Italy",1km,1,1ms,none,now\n', r"ParisPing\.csv:2: 'none' is not a positive .* ms"),
        ('"Rome Italy",1km,-1,1ms,1,now\n', r"ParisPing\.csv:2: '-1' is not a positive .* km"),
        ('"Rome Italy",1km,1\n', r"ParisPing\.csv:2: expected 6 fields"),
        ('"Rome Italy",1km,1,1ms,1,now\n' * 2, r"ParisPing\.csv:3: the city 'rome' comes twice"),
    ],
)
def test_damaged_ping_tables_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    path = tables(tmp_path, Paris=rows, Rome='"Paris France",1km,1,1ms,1,now\n')
    with pytest.raises(InputError, match=message):
        read_cities(path)


def test_no_ping_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no files named <City>Ping\.csv"):
        read_cities(tmp_path)
    with pytest.raises(InputError, match="cannot read the archive"):
        read_cities(written(tmp_path, "no archive"))
    with pytest.raises(InputError, match="no such file"):
        read_cities(tmp_path / "absent.tar")
