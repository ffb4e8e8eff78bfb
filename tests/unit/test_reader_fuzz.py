"""Damaged files of every format: each is read sanely, or refused with its name, never else."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.workload.blocks import read_all
from infsim.workload.readers import FORMATS, open_trace
from infsim.workload.readers.checks import MOST
from infsim.workload.requests import Requests

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:50.9951691,879,55
"""
BURSTGPT = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
19440110.0,1722ac82-0a46,43,GPT-4,906,446,1352,Conversation log
19440161.0,,2,ChatGPT,36,29,65,API log
19440192.5,1722ac82-0a46,5,ChatGPT,0,0,0,Conversation log
"""  # noqa: E501
PLAIN = """arrival_s,input_tokens,output_tokens,session_id,client,sample_id
0.5,10,1,a,0,3
0.5,20,2,b,1,-1
1e1,30,3,7,0,0
"""
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1030, "output_length": 5, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 2500, "input_length": 600, "output_length": 7, "hash_ids": [0, 3]}\n'
)
VLLM = json.dumps(
    {
        "input_lens": [30, 10, 20],
        "output_lens": [3, 1, 5],
        "start_times": [101.5, 100.0, 100.5],
        "errors": ["", "", "timeout"],
    }
)
TEXTS = [AZURE, BURSTGPT, PLAIN, MOONCAKE, VLLM]

NASTY = [
    "nan", "NaN", "inf", "-inf", "Infinity", "-1", "-0", "0", "1e999", "1e308", "1e12", "1.5", "",
    "99999999999999999999", "9223372036854775807", "9007199254740993", "0x10", "1_0", " 5", "5 ",
    "+5", "true", "null", "\uff11", '"', "'", ",", "[", "{}", "[[[[", "1\x00",
    "9999-01-01 00:00:00", "2023-02-30 00:00:00", "\u202e", "1e-400", "--1", "1-1", "5.", ".5", "٣",
]  # fmt: skip
NUMBER = re.compile(rb"\d+(?:\.\d+)?")


def parquet() -> bytes:
    table = {
        "arrival_s": [0.0, 0.5, 0.5],
        "input_tokens": [10, 20, 30],
        "output_tokens": [1, 2, 3],
        "session_id": ["a", "b", "a"],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


PARQUET = parquet()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file of one of the formats, damaged a few times."""
    content = draw(st.sampled_from([text.encode() for text in TEXTS] + [PARQUET]))
    for _ in range(draw(st.integers(0, 3))):
        content = _damage(draw, content)
    pack = draw(st.sampled_from([None, None, gzip.compress, _cut_gzip]))
    return content if pack is None else pack(content)


def _damage(draw: st.DrawFn, content: bytes) -> bytes:
    kind = draw(st.sampled_from(["number", "number", "bytes", "cut", "lines", "repeat", "code"]))
    lines = content.splitlines(keepends=True)
    if kind == "number":
        places = list(NUMBER.finditer(content))
        if places:
            place = draw(st.sampled_from(places))
            nasty = draw(st.sampled_from(NASTY)).encode()
            return content[: place.start()] + nasty + content[place.end() :]
    if kind == "bytes":
        first = draw(st.integers(0, len(content)))
        removed = draw(st.integers(0, 3))
        return content[:first] + draw(st.binary(max_size=3)) + content[first + removed :]
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "lines":
        return b"".join(draw(st.permutations(lines)))
    if kind == "repeat" and lines:
        index = draw(st.integers(0, len(lines) - 1))
        return b"".join([*lines[:index], lines[index], *lines[index:]])
    if kind == "code":
        text = content.decode("utf-8", errors="replace")
        return text.encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "latin-1"])), "replace")
    return content


def _cut_gzip(content: bytes) -> bytes:
    packed = gzip.compress(content)
    return packed[: len(packed) - 12]


def check(requests: Requests) -> None:
    """Requests as every workload must have them."""
    n = len(requests)
    assert n > 0
    assert requests.arrival_s.dtype == np.float64
    assert np.isfinite(requests.arrival_s).all()
    assert (np.diff(requests.arrival_s) >= 0).all()
    assert requests.arrival_s[0] >= 0
    assert requests.arrival_s[-1] <= MOST["arrival_s"]
    for name, least in (
        ("input_tokens", 1),
        ("output_tokens", 1),
        ("client", 0),
        ("session_id", -1),
        ("sample_id", -1),
    ):
        values = getattr(requests, name)
        assert values.dtype == np.int64
        assert len(values) == n
        assert values.min() >= least
        assert values.max() <= MOST.get(name, np.inf)
    if requests.prefix_hashes is not None:
        assert requests.prefix_offsets is not None
        blocks = np.diff(requests.prefix_offsets)
        assert len(blocks) == n
        assert (blocks >= 0).all()
        assert requests.prefix_offsets[-1] == len(requests.prefix_hashes)
        assert (blocks * requests.prefix_block_tokens <= requests.input_tokens).all()


def read_or_refuse(path: Path, form: str) -> None:
    try:
        requests = read_all(open_trace(path, form).blocks(Streams(0)))
    except InputError as error:
        assert path.name in str(error)  # noqa: PT017 - that it is raised is not what is tested
    else:
        check(requests)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), st.sampled_from(["auto", "auto", "auto", *FORMATS]))
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, content: bytes, form: str) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.file"
    path.write_bytes(content)
    read_or_refuse(path, form)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.sampled_from(["x.parquet", "x.csv", "x.jsonl", "x.csv.gz"]))
def test_random_bytes_under_any_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    for start in (b"", b"PAR1", b"\x1f\x8b", b"{"):
        path.write_bytes(start + content)
        read_or_refuse(path, "auto")


parquet_columns = st.fixed_dictionaries(
    {
        name: st.sampled_from(
            [
                [1, 2],
                [2, 1],
                [0, 0],
                [1.5, float("nan")],
                [float("inf"), 1e300],
                [None, 1],
                ["1", "2"],
                ["x", "y"],
                [b"1", b"2"],
                [True, False],
                [2**64 - 1, 2**63],
                [-(2**63), 5],
                [[1], [2]],
                [{"a": 1}, {"a": 2}],
            ]
        )
        for name in ("arrival_s", "input_tokens", "output_tokens", "session_id")
    }
)


@settings(deadline=None, max_examples=60)
@given(parquet_columns, st.booleans())
def test_parquet_of_any_types(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, list[object]], coded: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "types.parquet"
    arrays = {}
    for name, values in columns.items():
        kind = pa.uint64() if values[0] == 2**64 - 1 else None
        array = pa.array(values, type=kind)
        simple = not pa.types.is_nested(array.type) and not pa.types.is_boolean(array.type)
        arrays[name] = array.dictionary_encode() if coded and simple else array
    pq.write_table(pa.table(arrays), path)
    read_or_refuse(path, "auto")
