"""Which prompts of a recorded run begin alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infsim.errors import InputError
from infsim.fidelity.prompts import FOLDER, known_prompts, read_prompts, shared, unlike
from infsim.paths import data_folder

BLOCK = 4
token_lists = st.lists(st.integers(0, 1), min_size=1, max_size=20)


def write(path: Path, prompts: list[list[int]]) -> Path:
    path.write_text("".join(json.dumps({"input_tok_ids": tokens}) + "\n" for tokens in prompts))
    return path


@given(st.lists(token_lists, min_size=2, max_size=5))
def test_hashes_are_equal_where_all_before_is(prompts: list[list[int]]) -> None:
    import tempfile

    lengths = np.array([len(tokens) for tokens in prompts])
    with tempfile.TemporaryDirectory() as folder:
        found = read_prompts(write(Path(folder) / "p.jsonl", prompts), lengths, BLOCK)
    assert [len(hashes) for hashes in found] == (lengths // BLOCK).tolist()
    for a, first in zip(prompts, found, strict=True):
        for b, second in zip(prompts, found, strict=True):
            for i in range(min(len(first), len(second))):
                end = (i + 1) * BLOCK
                assert (first[i] == second[i]) == (a[:end] == b[:end])


def test_what_is_told_to_be_shared_is_what_the_tokens_share(tmp_path: Path) -> None:
    prompts = [list(range(10)), list(range(8)) + [99] * 12, [99] * 9, list(range(10)) + [7] * 3]
    lengths = np.array([10, 20, 9, 13])
    read = read_prompts(write(tmp_path / "p.jsonl", prompts), lengths, BLOCK)
    told = shared([(1, 0, 8), (3, 0, 10)], lengths, BLOCK)
    for hashes in (read, told):
        names: dict[int, int] = {}
        numbered = [[names.setdefault(h, len(names)) for h in row.tolist()] for row in hashes]
        assert numbered == [[0, 1], [0, 1, 2, 3, 4], [5, 6], [0, 1, 7]]


def test_prompts_without_anything_in_common() -> None:
    hashes = unlike(np.array([9, 3, 8]), BLOCK)
    assert [len(row) for row in hashes] == [2, 0, 2]
    assert len(set(np.concatenate(hashes).tolist())) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"input_tok_ids": [1, 2]}\n', "1 prompts, 2 were recorded"),
        (
            '{"input_tok_ids": [1, 2]}\n{"input_tok_ids": [1]}\n',
            r"p\.jsonl:2: a prompt of 1 tokens",
        ),
        ('{"input_tok_ids": [1, 2]}\n{"input_tok_ids"\n', r"p\.jsonl:2: not JSON"),
        ('{"input_tok_ids": [1, true]}\n', r"p\.jsonl:1: no list of whole numbers"),
        ("[1, 2]\n", r"p\.jsonl:1: no list of whole numbers"),
    ],
)
def test_other_data_sets_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_prompts(path, np.array([2, 2]), BLOCK)


def test_a_missing_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(tmp_path / "none", np.array([2, 2]), BLOCK)


@pytest.mark.parametrize("path", sorted(data_folder(FOLDER).glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_lists_name_earlier_prompts(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    later = [number for number, _, _ in content["shared"]]
    assert later == sorted(set(later))
    assert all(0 <= earlier < number for number, earlier, _ in content["shared"])
    assert later[-1] < content["requests"]
    assert all(len(checksum) == 64 for checksum in content["sha256"])
    lengths = np.full(content["requests"], 5000)
    found = known_prompts(content["sha256"][0], lengths, 16)
    assert found is not None
    for number, earlier, tokens in content["shared"]:
        assert found[number][tokens // 16 - 1] == found[earlier][tokens // 16 - 1]
    assert known_prompts("0" * 64, lengths, 16) is None
