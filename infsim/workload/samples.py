"""Random samples of requests and sessions that pass by, of a size that does not grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infsim.workload.accumulate import LogHistogram
from infsim.workload.blocks import concatenate, empty, take
from infsim.workload.hashing import mix
from infsim.workload.requests import Requests

Ints = NDArray[np.int64]


class RequestSample:
    """All requests, or at random about half of the `most` that are kept at most, or more.

    A request is in the sample if the hash of its number is below a threshold, which is halved
    when the sample is full: each request is in it with the same probability (adaptive sampling;
    Flajolet, Computing 43, 1990).

    Parameters
    ----------
    most : int
    """

    def __init__(self, most: int = 1 << 16) -> None:
        self.share = 1.0
        self._most = most
        self._count = 0
        self._keys: Ints = np.zeros(0, dtype=np.int64)
        self._kept = empty()

    def add(self, part: Requests) -> None:
        """Take in the requests that come next."""
        keys = mix(np.arange(self._count, self._count + len(part)))
        self._count += len(part)
        plain = Requests(
            part.arrival_s,
            part.input_tokens,
            part.output_tokens,
            part.client,
            part.session_id,
            part.sample_id,
        )
        chosen = np.flatnonzero(_below(keys, self.share))
        self._kept = concatenate([self._kept, take(plain, chosen)])
        self._keys = np.append(self._keys, keys[chosen])
        while len(self._keys) > self._most:
            self.share /= 2
            chosen = np.flatnonzero(_below(self._keys, self.share))
            self._kept, self._keys = take(self._kept, chosen), self._keys[chosen]

    def requests(self) -> Requests:
        """Return the sample in order of arrival."""
        return self._kept


class SessionSample:
    """Turns of all sessions, or of a random share of them if there are more than `most`.

    Sampled as requests are in `RequestSample`, so that of a session all turns are seen or none.

    Parameters
    ----------
    most : int
    """

    def __init__(self, most: int = 1 << 16) -> None:
        self.share = 1.0
        self.gaps_s = LogHistogram()
        self._most = most
        self._seen: dict[int, tuple[int, float]] = {}

    def add(self, part: Requests) -> None:
        """Take in the requests that come next."""
        named = part.session_id >= 0
        chosen = np.flatnonzero(named & _below(mix(part.session_id), self.share))
        gaps = []
        seen = self._seen
        rows = zip(part.session_id[chosen].tolist(), part.arrival_s[chosen].tolist(), strict=True)
        for session, time_s in rows:
            turns, last_s = seen.get(session, (0, time_s))
            if turns:
                gaps.append(time_s - last_s)
            seen[session] = turns + 1, time_s
        self.gaps_s.add(np.array(gaps))
        while len(seen) > self._most:
            self.share /= 2
            ids = np.array(list(seen), dtype=np.int64)
            for session in ids[~_below(mix(ids), self.share)].tolist():
                del seen[session]

    def turns(self) -> Ints:
        """Return the number of turns of each session in the sample."""
        return np.array([turns for turns, _ in self._seen.values()], dtype=np.int64)


def _below(keys: Ints, share: float) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = keys < share * 2.0**63
    return kept
