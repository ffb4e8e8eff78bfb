"""Trace readers: what they read, and that every kind of damage is named with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.blocks import read_all
from infsim.workload.readers import TraceFile, open_trace
from infsim.workload.readers.formats import read_csv
from infsim.workload.readers.mooncake import read_mooncake
from infsim.workload.requests import Requests

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:50.9951691,879,55"""

PLAIN = "arrival_s,input_tokens,output_tokens\n0.5,10,1\n0.5,20,2\n1e1,30,3\n"

MOONCAKE = (
    '{"timestamp": 0, "input_length": 1030, "output_length": 5, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 2500, "input_length": 600, "output_length": 7, "hash_ids": [0, 3]}\n'
)


def write(folder: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, **options: object) -> Requests:
    return read_all(open_trace(path, **options).blocks(Streams(0)))  # type: ignore[arg-type]


def refusal(folder: Path, text: str | bytes, **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(write(folder, text), **options)
    return str(error.value)


def test_azure_keeps_all_decimals(tmp_path: Path) -> None:
    requests = read(write(tmp_path, AZURE))
    assert requests.arrival_s.tolist() == pytest.approx([0, 4.314579, 4.3145791], abs=1e-12)
    assert requests.arrival_s[2] - requests.arrival_s[1] == pytest.approx(1e-7, rel=1e-6)
    assert requests.input_tokens.tolist() == [374, 396, 879]
    assert requests.output_tokens.tolist() == [44, 109, 55]
    assert requests.client.tolist() == [0, 0, 0]
    assert requests.session_id.tolist() == [-1, -1, -1]


def test_azure_of_2024_has_a_time_zone(tmp_path: Path) -> None:
    text = AZURE.replace("90,374", "90+00:00,374")
    assert read(write(tmp_path, text)).arrival_s[0] == 0


def test_plain_csv_with_optional_columns_in_any_order(tmp_path: Path) -> None:
    text = (
        "client,note,session_id,output_tokens,arrival_s,input_tokens,sample_id\n"
        'paris,"a, b",7,1,0,10,3\nlyon,,chat-1,2,0.25,20,-1\nparis,,chat-1,3,0.5,30,0\n'
    )
    requests = read(write(tmp_path, text), clients=["lyon", "paris"])
    assert requests.client.tolist() == [1, 0, 1]
    assert requests.session_id[0] == 7
    assert requests.session_id[1] == requests.session_id[2] > 7
    assert requests.sample_id.tolist() == [3, -1, 0]
    assert requests.arrival_s.tolist() == [0, 0.25, 0.5]


def test_column_map_and_time_unit(tmp_path: Path) -> None:
    text = "t_ms,prompt,output_tokens\n1500,10,2\n"
    columns = {"arrival_s": "t_ms", "input_tokens": "prompt"}
    requests = read(write(tmp_path, text), columns=columns, time_unit_s=1e-3)
    assert requests.arrival_s.tolist() == [1.5]
    assert requests.input_tokens.tolist() == [10]


def test_mooncake_keeps_hashes_of_whole_blocks(tmp_path: Path) -> None:
    path = write(tmp_path, MOONCAKE)
    requests = read(path)
    assert requests.arrival_s.tolist() == [0, 2.5]
    assert requests.prefix_block_tokens == 512
    assert requests.prefix_offsets is not None
    assert requests.prefix_hashes is not None
    assert requests.prefix_offsets.tolist() == [0, 2, 3]
    assert requests.prefix_hashes.tolist() == [0, 1, 0]
    rows = next(read_mooncake(path, 10, partial_blocks=True))
    assert rows.prefixes is not None
    assert rows.prefixes[0].tolist() == [3, 2]


@pytest.mark.parametrize("text", [AZURE, PLAIN, MOONCAKE])
def test_compressed_and_marked_files_read_the_same(tmp_path: Path, text: str) -> None:
    plain = read(write(tmp_path, text))
    packed = read(write(tmp_path, gzip.compress(b"\xef\xbb\xbf" + text.encode()), "named.oddly"))
    windows = read(write(tmp_path, text.replace("\n", "\r\n"), "windows.csv"))
    for other in (packed, windows):
        assert other.arrival_s.tolist() == plain.arrival_s.tolist()
        assert other.input_tokens.tolist() == plain.input_tokens.tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("text", [AZURE, PLAIN, MOONCAKE])
def test_block_size_does_not_matter(tmp_path: Path, text: str, size: int) -> None:
    path = write(tmp_path, text)
    whole = open_trace(path)
    parts = list(TraceFile(path, whole.reader, size).blocks(Streams(0)))
    assert max(len(part) for part in parts) <= size
    joined, expected = read_all(parts), read_all(whole.blocks(Streams(0)))
    assert joined.arrival_s.tolist() == expected.arrival_s.tolist()
    assert joined.output_tokens.tolist() == expected.output_tokens.tolist()
    if expected.prefix_hashes is not None:
        assert joined.prefix_hashes is not None
        assert joined.prefix_hashes.tolist() == expected.prefix_hashes.tolist()


BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,ChatGPT,1087,0,1087,Conversation log
118,GPT-4,417,276,693,API log
"""

VLLM = {
    "input_lens": [30, 10, 20],
    "output_lens": [3, 1, 0],
    "start_times": [101.5, 100.0, 100.5],
    "errors": ["", "", "timeout"],
}


def test_burstgpt_leaves_out_what_failed(tmp_path: Path) -> None:
    path = write(tmp_path, BURSTGPT)
    requests = read(path)
    assert requests.arrival_s.tolist() == [5, 118]
    assert requests.input_tokens.tolist() == [472, 417]
    assert requests.output_tokens.tolist() == [18, 276]
    # a block of nothing but failures is no end of the file
    single = TraceFile(path, open_trace(path).reader, block=1)
    assert len(read_all(single.blocks(Streams(0)))) == 2


BURSTGPT_WITH_SESSIONS = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens
19440110.0,1722ac82-0a46,43,GPT-4,906,446
19440161.0,,2,ChatGPT,36,29
19440192.0,1722ac82-0a46,5,ChatGPT,17,3
"""


def test_burstgpt_of_the_second_release_has_sessions_and_begins_late(tmp_path: Path) -> None:
    """Blank for requests of the API; day 225 becomes day 0, the time of day stays."""
    requests = read(write(tmp_path, BURSTGPT_WITH_SESSIONS))
    assert requests.arrival_s.tolist() == [110, 161, 192]
    assert requests.input_tokens.tolist() == [906, 36, 17]
    assert requests.session_id[1] == -1
    assert requests.session_id[0] == requests.session_id[2] >= 0


def test_burstgpt_before_time_began_is_refused(tmp_path: Path) -> None:
    assert "Timestamp is -5.0" in refusal(tmp_path, BURSTGPT.replace("\n5,", "\n-5,"))


def test_vllm_results_are_sorted_by_start(tmp_path: Path) -> None:
    requests = read(write(tmp_path, json.dumps(VLLM), "result.json"))
    assert requests.arrival_s.tolist() == [0, 1.5]
    assert requests.input_tokens.tolist() == [10, 30]
    assert requests.output_tokens.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"start_times": None}, ["no field 'start_times'", "--save-detailed"]),
        ({"start_times": 3}, ["start_times is not a list"]),
        ({"input_lens": [1, 2]}, ["differ in length"]),
        ({"input_lens": [1, 2.5, 3]}, ["input_lens[1]: 2.5 is not a whole number"]),
        ({"output_lens": [3, -1, 0]}, ["row 2: output_lens is -1"]),
        ({"errors": ["a", "b", "c"]}, ["no requests"]),
        ({"errors": 5}, ["errors is '5', not a list"]),
    ],
)
def test_damaged_vllm_results_are_refused(
    tmp_path: Path, change: dict[str, object], parts: list[str]
) -> None:
    content = {key: value for key, value in (VLLM | change).items() if value is not None}
    message = refusal(tmp_path, json.dumps(content))
    for part in parts:
        assert part in message, message


def write_parquet(folder: Path, **columns: list[object]) -> Path:
    path = folder / "trace.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_has_the_columns_of_plain_csv(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path,
        ms=[0, 500, 2000],
        input_tokens=[1, 2, 3],
        output_tokens=[4, 5, 6],
        client=["b", "a", "b"],
        note=["x", None, "y"],
    )
    options = {"columns": {"arrival_s": "ms"}, "time_unit_s": 1e-3, "clients": ["a", "b"]}
    requests = read(path, **options)
    assert requests.arrival_s.tolist() == [0, 0.5, 2]
    assert requests.client.tolist() == [1, 0, 1]
    single = open_trace(path, **options)  # type: ignore[arg-type]
    parts = list(TraceFile(path, single.reader, block=2).blocks(Streams(0)))
    assert [len(part) for part in parts] == [2, 1]
    assert read_all(parts).output_tokens.tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"arrival_s": [0.0, None]}, ["row 2: arrival_s has no value"]),
        ({"arrival_s": [1.0, 0.5]}, ["row 2: arrival_s is not sorted: 0.5 s after 1.0 s"]),
        ({"arrival_s": [0.0, float("nan")]}, ["row 2: arrival_s is nan"]),
        ({"arrival_s": [0.0, float("inf")]}, ["row 2: arrival_s is inf"]),
        ({"input_tokens": [1.0, 2.0]}, ["input_tokens is of type double, not a whole number"]),
        ({"input_tokens": ["1", "x"]}, ["row 2: input_tokens is 'x', not a whole number"]),
        ({"output_tokens": [5, 0]}, ["row 2: output_tokens is 0, must be at least 1"]),
        ({"output_tokens": None, "output_token": [1, 1]}, ["mean 'output_token'"]),
        (
            {"session_id": pa.array([1, 2**64 - 1], pa.uint64())},
            ["row 2: session_id is 18446744073709551615, above 2**63"],
        ),
        ({"arrival_s": [1.7e12, 1.8e12]}, ["row 1: arrival_s is 1700000000000.0", "the unit"]),
    ],
)
def test_damaged_parquet_is_refused(
    tmp_path: Path, columns: dict[str, list[object] | None], parts: list[str]
) -> None:
    plain = {"arrival_s": [0.0, 1.0], "input_tokens": [1, 2], "output_tokens": [3, 4]}
    merged = {name: values for name, values in (plain | columns).items() if values is not None}
    path = write_parquet(tmp_path, **merged)  # type: ignore[arg-type]
    with pytest.raises(InputError) as error:
        read(path)
    for part in parts:
        assert part in str(error.value)


def test_parquet_of_coded_text(tmp_path: Path) -> None:
    """What pandas makes of categories."""
    path = write_parquet(
        tmp_path,
        arrival_s=[0, 1, 2],
        input_tokens=[1, 2, 3],
        output_tokens=[4, 5, 6],
        client=pa.array(["b", "a", "b"]).dictionary_encode(),
    )
    assert read(path, clients=["a", "b"]).client.tolist() == [1, 0, 1]


@pytest.mark.parametrize("content", [b"\x00\xff\x10\x9c", b"a,b\n1,2\n", b""])
def test_what_is_only_named_parquet(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content, "trace.parquet")
    with pytest.raises(InputError, match=r"trace\.parquet: not a Parquet file: it begins with b"):
        read(path)
    with pytest.raises(InputError, match=r"not a Parquet file"):
        read(write(tmp_path, content, "other"), format="parquet")


def test_a_cut_parquet_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, arrival_s=[0.0], input_tokens=[1], output_tokens=[1])
    assert "damaged Parquet file" in refusal(tmp_path, path.read_bytes()[:-30])


HEADER = "arrival_s,input_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["trace.csv: the file is empty"]),
        ("\n\n", ["the file is empty"]),
        (HEADER, ["the file has no requests"]),
        ("arrivals_s,input_tokens,output_tokens\n0,1,1\n", [":1:", "mean 'arrivals_s'"]),
        ("0.0,5,6\n0.1,5,6\n", [":1:", "no column 'arrival_s'"]),
        ("arrival_s,arrival_s,input_tokens,output_tokens\n", [":1:", "two columns"]),
        (HEADER + "0,1,1\n2,1,1\n1.5,1,1\n", [":4:", "not sorted: 1.5 s after 2.0 s"]),
        (HEADER + "-0.5,1,1\n", [":2:", "arrival_s is -0.5, must be at least 0"]),
        (HEADER + "0,1,1\n\n0,0,1\n", [":4:", "input_tokens is 0, must be at least 1"]),
        (HEADER + "0,5,-3\n", [":2:", "output_tokens is -3"]),
        (HEADER + "0,5,\n", [":2:", "output_tokens is ''"]),
        (HEADER + "0,5.5,1\n", [":2:", "'5.5', not a whole number"]),
        (HEADER + "0,1_000,1\n", [":2:", "'1_000'"]),
        (HEADER + "0,\N{FULLWIDTH DIGIT ONE},1\n", [":2:", "not a whole number"]),
        (HEADER + "0,99999999999999999999,1\n", [":2:", "99999999999999999999"]),
        (HEADER + "nan,1,1\n", [":2:", "arrival_s is 'nan', not a number"]),
        (HEADER + "1e999,1,1\n", [":2:", "'1e999'"]),
        (HEADER + "0,1,1,1\n", [":2:", "4 fields instead of 3"]),
        (HEADER + "0,1,1\n0.5,1\n0.6,1,1\n", [":3:", "2 fields instead of 3"]),
        (HEADER + "0,1,1\n0.5,1", [":3:", "2 fields", "ends in the middle of this row"]),
        (HEADER + "0,1,1\n0.5,1,", [":3:", "''", "ends in the middle of this row"]),
        (HEADER + '0,1,"1\n', ["unexpected end"]),
        (AZURE[:-6], [":4:", "2 fields", "ends in the middle"]),
        (AZURE.replace("18:15:46.6805900", "18:65:46"), [":2:", "TIMESTAMP is '2023-11-16 18:65"]),
        (AZURE.replace("2023-11-16 18:15:46", "2024-11-16 18:15:46"), [":3:", "not sorted"]),
        (AZURE.replace("ContextTokens", "ContextToken"), [":1:", "mean 'ContextToken'"]),
        (AZURE.replace("2023-11-16 18:15:46", "9999-11-16 18:15:46"), [":2:", "is '9999-11"]),
        (HEADER + "1700000000000,5,5\n", [":2:", "at most 1e+10", "is the unit right?"]),
        (HEADER + "0,5,9007199254740993\n", [":2:", "output_tokens is 9007", "at most 1e+09"]),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, text: str, parts: list[str]) -> None:
    message = refusal(tmp_path, text)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ('{"timestamp": 1, "input_length": 5, "output_length"', [":3:", "not JSON", "ends in"]),
        ("[1, 2]\n", [":3:", "not a JSON object"]),
        ('{"timestamp": 9000, "input_length": 5, "input_length": 6}\n',
         [":3:", "'input_length' is there twice"]),
        ('{"timestamp": 9000, "input_len": 5}\n', [":3:", "'input_length'", "mean 'input_len'"]),
        (json.dumps({"timestamp": 1.5, "input_length": 5, "output_length": 1, "hash_ids": []}),
         [":3:", "timestamp is 1.5"]),
        (json.dumps({"timestamp": 9000, "input_length": True, "output_length": 1, "hash_ids": []}),
         [":3:", "input_length is True"]),
        (json.dumps({"timestamp": 9000, "input_length": 9, "output_length": 1, "hash_ids": ["a"]}),
         [":3:", "hash_ids"]),
        (json.dumps({"timestamp": 9000, "input_length": 9, "output_length": 1, "hash_ids": [1, 2]}),
         [":3:", "2 hash_ids for 9 tokens"]),
        (json.dumps({"timestamp": 9, "input_length": 9, "output_length": 1, "hash_ids": [1]}),
         [":3:", "not sorted: 0.009 s after 2.5 s"]),
        (json.dumps({"timestamp": 9000, "input_length": 9, "output_length": 0, "hash_ids": [1]}),
         [":3:", "output_length is 0"]),
    ],
)  # fmt: skip
def test_damaged_json_lines_are_refused(tmp_path: Path, line: str, parts: list[str]) -> None:
    message = refusal(tmp_path, MOONCAKE + line)
    for part in parts:
        assert part in message, message


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    message = refusal(tmp_path, PLAIN.encode() + b"20,\xff5,1\n")
    assert "trace.csv:5: byte 0xff is not UTF-8" in message


def test_a_cut_gzip_file(tmp_path: Path) -> None:
    assert "damaged gzip file" in refusal(tmp_path, gzip.compress(PLAIN.encode() * 50)[:-20])


def test_an_absent_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, PLAIN, "conversation.csv")
    with pytest.raises(InputError, match=r"no such file.*did you mean 'conversation\.csv'"):
        read(tmp_path / "conversatoin.csv")


def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path)


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'mooncake'" in refusal(tmp_path, PLAIN, format="moncake")
    assert "did you mean 'input_tokens'" in refusal(tmp_path, PLAIN, columns={"input_token": "x"})
    text = "arrival_s,input_tokens,output_tokens,client\n0,1,1,Pari\n"
    message = refusal(tmp_path, text, clients=["lyon", "Paris"])
    assert ":2: client is 'Pari', not the name of a client; did you mean 'Paris'?" in message


def test_errors_in_a_later_block_have_the_right_line(tmp_path: Path) -> None:
    rows = "".join(f"{i},5,5\n" for i in range(10)) + "4,5,5\n"
    trace = TraceFile(write(tmp_path, HEADER + rows), read_csv, block=3)
    with pytest.raises(InputError, match=r":12: arrival_s is not sorted: 4\.0 s after 9\.0 s"):
        read_all(trace.blocks(Streams(0)))


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='0123456789.,-eE+{}[]":\n nai_', max_size=200).map(str.encode),
        st.tuples(st.sampled_from([AZURE, PLAIN, MOONCAKE]), st.integers(0, 200), st.binary(
            max_size=3)).map(lambda c: c[0].encode()[: c[1]] + c[2] + c[0].encode()[c[1] + 1 :]),
    )
)  # fmt: skip
def test_fuzzed_files_are_read_sanely_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content)
    try:
        requests = read(path)
    except InputError:
        return
    assert len(requests) > 0
    assert (np.diff(requests.arrival_s) >= 0).all()
    assert np.isfinite(requests.arrival_s).all()
    assert requests.arrival_s[0] >= 0
    assert (requests.input_tokens >= 1).all()
    assert (requests.output_tokens >= 1).all()
