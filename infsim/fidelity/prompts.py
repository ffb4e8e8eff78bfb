"""Which prompts of a recorded run begin alike: what a prefix cache can find.

A recording tells how long prompts are, not what is in them. The data set that was sent does: a file
with ``input_tok_ids`` per line, as LLMServingSim's generators write it (casys-kaist/LLMServingSim,
MIT), or, for public data sets that infsim knows by their checksum, the list of prompts that begin
alike in ``traces/prompts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from infsim.errors import InputError, Where
from infsim.fidelity.files import read_json_lines
from infsim.paths import data_folder

Ints = NDArray[np.int64]

FOLDER = "traces/prompts"


def unlike(lengths: Ints, block_tokens: int) -> list[Ints]:
    """Return hashes of the whole blocks of prompts that have nothing in common.

    Parameters
    ----------
    lengths : int64 (n,)
        Tokens of each prompt.
    block_tokens : int

    Returns
    -------
    list of int64 arrays
        One array per prompt, ``length // block_tokens`` long.
    """
    blocks = lengths // block_tokens
    return np.split(np.arange(blocks.sum()), np.cumsum(blocks)[:-1])


def read_prompts(path: Path, lengths: Ints, block_tokens: int) -> list[Ints]:
    """Return chained hashes of the blocks of the prompts in a data set.

    Parameters
    ----------
    path : Path
        JSON lines with ``input_tok_ids``.
    lengths : int64 (n,)
        Tokens that the recording gives for each prompt, in the order of the lines.
    block_tokens : int

    Raises
    ------
    InputError
        With file and line, if the file is damaged or has other prompts.
    """
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    found = []
    for length, (where, row) in zip(lengths.tolist(), read_json_lines(path), strict=False):
        tokens = _tokens(row, where)
        if len(tokens) != length:
            raise InputError(
                f"a prompt of {len(tokens)} tokens, the recorded one has {length}", where=where
            )
        found.append(_chained(tokens, block_tokens, known))
    if len(found) < len(lengths):
        raise InputError(
            f"{len(found)} prompts, {len(lengths)} were recorded", where=Where(str(path))
        )
    return found


def known_prompts(dataset_sha256: str, lengths: Ints, block_tokens: int) -> list[Ints] | None:
    """Return the same for a data set that infsim knows; None for any other.

    Parameters
    ----------
    dataset_sha256 : str
        Checksum of the file that was sent.
    lengths : int64 (n,)
    block_tokens : int
    """
    for path in sorted(data_folder(FOLDER).glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if dataset_sha256 in content["sha256"]:
            return shared(content["shared"], lengths, block_tokens)
    return None


def shared(alike: Sequence[tuple[int, int, int]], lengths: Ints, block_tokens: int) -> list[Ints]:
    """Return hashes of prompts of which some begin like earlier ones.

    Parameters
    ----------
    alike : sequence of (int, int, int)
        Number of a prompt, of the earlier one that it begins like, and the tokens that they
        share, sorted by the first.
    lengths : int64 (n,)
    block_tokens : int
    """
    hashes = unlike(lengths, block_tokens)
    for number, earlier, tokens in alike:
        if number < len(hashes):
            blocks = tokens // block_tokens
            hashes[number][:blocks] = hashes[earlier][:blocks]
    return hashes


def _chained(
    tokens: Sequence[int], block_tokens: int, known: dict[tuple[int, tuple[int, ...]], int]
) -> Ints:
    """Number the blocks so that equal numbers mean equal prefixes."""
    before, chain = -1, []
    for end in range(block_tokens, len(tokens) + 1, block_tokens):
        block = before, tuple(tokens[end - block_tokens : end])
        before = known.setdefault(block, len(known))
        chain.append(before)
    return np.array(chain, dtype=np.int64)


def _tokens(row: object, where: Where) -> list[int]:
    tokens = row.get("input_tok_ids") if isinstance(row, dict) else None
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise InputError("no list of whole numbers 'input_tok_ids'", where=where)
    return tokens
