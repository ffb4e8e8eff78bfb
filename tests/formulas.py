"""Formulas of queueing theory, and Markov chains that are solved where there is no formula."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement
from math import factorial

import numpy as np


def erlang_c(servers: int, offered: float) -> float:
    """Probability that all servers are busy (Erlang 1917)."""
    busy = offered**servers / factorial(servers) * servers / (servers - offered)
    return busy / (sum(offered**k / factorial(k) for k in range(servers)) + busy)


def shorter_of_two(servers: int, load: float, most: int) -> float:
    """Mean sojourn when each request joins the shorter of two queues drawn from a few.

    From the stationary distribution of the Markov chain of the sorted queue lengths, each cut
    off at `most`; services are exponential of mean 1.
    """
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import spsolve

    states = list(combinations_with_replacement(range(most + 1), servers))
    index = {state: i for i, state in enumerate(states)}
    pairs = list(combinations(range(servers), 2))
    rates: dict[tuple[int, int], float] = {}

    def add(state: tuple[int, ...], server: int, change: int, rate: float) -> None:
        lengths = list(state)
        lengths[server] += change
        if 0 <= lengths[server] <= most:
            here, there = index[state], index[tuple(sorted(lengths))]
            rates[there, here] = rates.get((there, here), 0.0) + rate
            rates[here, here] = rates.get((here, here), 0.0) - rate

    for state in states:
        for server in range(servers):
            add(state, server, -1, 1.0)
        for first, second in pairs:
            shorter = first if state[first] <= state[second] else second
            add(state, shorter, +1, load * servers / len(pairs))
    # the balance equations, the first of which is replaced by: probabilities add up to 1
    rows = [[*key, rate] for key, rate in rates.items() if key[0] != 0]
    rows += [[0, i, 1.0] for i in range(len(states))]
    to, by, rate = np.array(rows).T
    matrix = csc_array((rate, (to.astype(int), by.astype(int))))
    chance = spsolve(matrix, np.eye(1, len(states)).ravel())
    mean_requests = float(chance @ np.array([sum(state) for state in states]))
    return mean_requests / (load * servers)


def shared_in_turns(rate: float, quantum_s: float, end: float, most: int = 120) -> float:
    """Mean sojourn if all present are served a quantum each, and end with some probability.

    Those who arrive meanwhile join the next round. Rounds form a Markov chain in the number n
    that take part: n' = Binomial(n, 1 - end) + Poisson(rate n quantum), and at least 1.
    """
    from scipy.stats import binom, poisson

    number = np.arange(most + 1)
    chain = np.zeros((most + 1, most + 1))
    for present in range(1, most + 1):
        stay = binom.pmf(number, present, 1 - end)
        join = poisson.pmf(number, rate * quantum_s * present)
        chain[present] = np.convolve(stay, join)[: most + 1]
    idle = chain[:, 0].copy()
    chain[:, 1] += idle
    chain = chain[1:, 1:]
    balance = np.vstack([chain.T - np.eye(most), np.ones(most)])
    share = np.linalg.lstsq(balance, np.eye(1, most + 1, most).ravel(), rcond=None)[0]
    round_s = number[1:] * quantum_s
    requests = number[1:] + rate * round_s / 2  # those that come during the round count by half
    all_s = share @ (round_s + idle[1:] / rate)
    return float(share @ (round_s * requests) / all_s / rate)
