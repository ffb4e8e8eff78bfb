"""How much of the prompts a cache of their prefixes would save."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from infsim.errors import InputError
from infsim.workload.requests import Requests


def hit_curve(requests: Requests, cache_blocks: Sequence[int | None]) -> list[float]:
    """Return the share of prompt blocks found in an LRU cache, for several sizes of the cache.

    A block is found if it and all blocks before it in the prompt are in the cache; then the
    whole prompt is put there.

    Parameters
    ----------
    requests : Requests
        With prefix hashes.
    cache_blocks : sequence of int or None
        Sizes of the cache in blocks of ``requests.prefix_block_tokens`` tokens; None: infinite.

    Returns
    -------
    list of float
        One share for each size.

    Raises
    ------
    InputError
        If the requests have no prefix hashes.
    """
    if requests.prefix_offsets is None or requests.prefix_hashes is None:
        raise InputError("the requests have no prefix hashes")
    hashes = requests.prefix_hashes.tolist()
    bounds = requests.prefix_offsets.tolist()
    prompts = [hashes[first:last] for first, last in pairwise(bounds)]
    return [_hits(prompts, size) / max(1, len(hashes)) for size in cache_blocks]


def _hits(prompts: list[list[int]], size: int | None) -> int:
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for prompt in prompts:
        found = True
        for block in prompt:
            found = found and block in cache
            hits += found
            cache[block] = None
            cache.move_to_end(block)
            if size is not None and len(cache) > size:
                cache.popitem(last=False)
    return hits
