"""The figures of one run, from its record.

A run is measured in a window of time. Figures of requests (latency, availability, accuracy, share
within the objectives) are about those that *arrived* in it; rates (throughput, goodput) count what
was completed, or made, *within* it, over its length; figures of nodes (energy, memory, time up) are
about the whole run. A figure that does not exist is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infsim.results.recorder import Columns, RunRecord, Status
from infsim.results.statistics import Truncation, mser

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Objectives:
    """What a request has to keep to count as good; None does not ask for anything.

    Attributes
    ----------
    ttft_s, tpot_s, e2e_s : float or None
        Upper bounds in seconds. A request of one token has no TPOT and keeps any.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def __bool__(self) -> bool:
        return (self.ttft_s, self.tpot_s, self.e2e_s) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Window:
    """The measured part of a run, in seconds since its start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    def split(self, parts: int) -> list[Window]:
        """Return equal consecutive parts."""
        edges = np.linspace(self.start_s, self.end_s, parts + 1).tolist()
        return [Window(a, b) for a, b in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a run, and how to show it.

    Attributes
    ----------
    label : str
        For people, with the unit if it has no dimension.
    dimension : str or None
        Of `infsim.units`; None is a plain number.
    better : int
        1 if more is better, -1 if less is, 0 if neither.
    headline : bool
        Whether it is among the figures that are compared.
    batch_requests : int or None
        Least number of requests that a part of the run needs to have this figure; None if it is
        about the whole run.
    """

    label: str
    dimension: str | None
    better: int
    headline: bool = False
    batch_requests: int | None = 30


QUANTILES = (50, 90, 99)
GAPS = {"itl_p50_s": 0.50, "itl_p99_s": 0.99}
OF_TOKENS = (
    "throughput_tokens_per_s",
    "ttft_mean_s",
    *(f"ttft_p{q}_s" for q in QUANTILES),
    "energy_per_token_j",
    "carbon_per_token_g",
)
"""What would repeat other figures where each answer is a single token (a class, a detection)."""
_LATENCIES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E", "queue": "queue time"}


def _latency_metrics() -> dict[str, Metric]:
    found = {}
    for name, label in _LATENCIES.items():
        found[f"{name}_mean_s"] = Metric(f"{label} mean", "time", -1)
        for q in QUANTILES:
            found[f"{name}_p{q}_s"] = Metric(
                f"{label} p{q}",
                "time",
                -1,
                headline=name != "queue",
                batch_requests=max(30, 1000 // (100 - q)),  # ten in the tail
            )
    return found


def _whole(label: str, dimension: str | None, better: int, headline: bool = False) -> Metric:
    return Metric(label, dimension, better, headline, batch_requests=None)


METRICS: Mapping[str, Metric] = {
    "requests": _whole("requests", "count", 0),
    "throughput_requests_per_s": Metric("throughput (requests/s)", None, 1, headline=True),
    "throughput_tokens_per_s": Metric("throughput (output tokens/s)", None, 1, headline=True),
    **_latency_metrics(),
    "itl_p50_s": _whole("ITL p50", "time", -1),
    "itl_p99_s": _whole("ITL p99", "time", -1),
    "goodput_requests_per_s": Metric("goodput (requests/s)", None, 1, headline=True),
    "slo_attainment": Metric("within all SLOs", "fraction", 1, headline=True),
    "availability": Metric("availability", "fraction", 1, headline=True),
    "unfinished": Metric("unfinished", "fraction", -1),
    "node_availability": _whole("nodes up", "fraction", 0),
    "utilization": _whole("nodes busy", "fraction", 0),
    "wasted_work": Metric("wasted work", "fraction", -1, headline=True),
    "preemptions": Metric("preemptions per request", None, -1),
    "attempts": Metric("attempts per request", None, -1),
    "forwards": Metric("forwards per request", None, 0),
    "cached_input": Metric("input from cache", "fraction", 1),
    "accuracy": Metric("accuracy", "fraction", 1, headline=True),
    "memory_peak_bytes": _whole("memory peak, fullest node", "memory", -1, headline=True),
    "kv_peak": _whole("KV memory peak, fullest node", "fraction", 0),
    "energy_j": _whole("energy", "energy", -1, headline=True),
    "energy_per_token_j": _whole("energy per output token", "energy", -1, headline=True),
    "carbon_g": _whole("carbon (g CO2e)", None, -1, headline=True),
    "carbon_per_token_g": _whole("carbon per output token (g CO2e)", None, -1),
    "energy_cost": _whole("cost of energy", None, -1, headline=True),
    "bytes_sent": _whole("bytes sent", "memory", -1),
}


# --- columns derived from those of the record ---------------------------------------------------


def ttft_s(requests: Columns) -> Floats:
    """Time to first token of each request, NaN if there was none."""
    return np.asarray(requests["first_token_s"] - requests["arrival_s"])


def e2e_s(requests: Columns) -> Floats:
    """Time from arrival to the last token of each completed request, else NaN."""
    return np.where(
        requests["status"] == Status.COMPLETED,
        requests["end_s"] - requests["arrival_s"],
        np.nan,
    )


def queue_s(requests: Columns) -> Floats:
    """Time from arrival to the start of the first computation, NaN if there was none."""
    return np.asarray(requests["start_s"] - requests["arrival_s"])


def tpot_s(requests: Columns) -> Floats:
    """Time per output token after the first, (E2E - TTFT) / (n - 1).

    NaN for requests that were not completed or have one token.
    """
    gaps = requests["generated_tokens"] - 1
    several = (requests["status"] == Status.COMPLETED) & (gaps > 0)
    decode_s = requests["end_s"] - requests["first_token_s"]
    return np.where(several, decode_s / np.maximum(gaps, 1), np.nan)


def has_tokens(requests: Columns) -> bool:
    """Return whether any answer is more than a single token."""
    return bool((requests["output_tokens"] > 1).any())


LATENCIES: Mapping[str, Callable[[Columns], Floats]] = {
    "ttft": ttft_s,
    "tpot": tpot_s,
    "e2e": e2e_s,
    "queue": queue_s,
}


def meets(requests: Columns, objectives: Objectives) -> NDArray[np.bool_]:
    """Return which requests were completed within all objectives."""
    good = np.asarray(requests["status"] == Status.COMPLETED)
    for name, bound in (
        ("ttft", objectives.ttft_s),
        ("tpot", objectives.tpot_s),
        ("e2e", objectives.e2e_s),
    ):
        if bound is not None:
            values = LATENCIES[name](requests)
            good &= (values <= bound) | (np.isnan(values) if name == "tpot" else False)
    return good


# --- the window ---------------------------------------------------------------------------------


def warmup_end_s(record: RunRecord) -> tuple[float, Truncation]:
    """Find the end of the warm-up by MSER-5 on the E2E latency in order of arrival.

    Returns the arrival of the first request to keep, and what the rule found.
    """
    latency = e2e_s(record.requests)
    done = ~np.isnan(latency)
    cut = mser(latency[done])
    if cut.index == 0:
        return 0.0, cut
    return float(record.requests["arrival_s"][done][cut.index]), cut


def arrivals_window(record: RunRecord, start_s: float) -> Window:
    """Return the window from ``start_s`` to the last arrival: the part without draining."""
    arrivals = record.requests["arrival_s"]
    return Window(start_s, float(arrivals[-1]) if len(arrivals) else start_s)


# --- the figures --------------------------------------------------------------------------------


def measure(
    record: RunRecord,
    *,
    objectives: Objectives | None = None,
    start_s: float = 0.0,
    single_stage: bool = False,
) -> dict[str, float]:
    """Return all `METRICS` of a run, measured from ``start_s`` to its end.

    Those `OF_TOKENS` are NaN if no answer has more than one token.

    Parameters
    ----------
    record : RunRecord
        What happened.
    objectives : Objectives, optional
        Without them there is no goodput.
    start_s : float
        End of the warm-up.
    single_stage : bool
        Whether every replica is one stage: only then do iterations tell the ITL.
    """
    window = Window(start_s, record.end_s)
    values = measure_requests(record, window, objectives or Objectives())
    values |= measure_nodes(record)
    values |= measure_gaps(record) if single_stage else dict.fromkeys(GAPS, math.nan)
    if not has_tokens(record.requests):
        values |= dict.fromkeys(OF_TOKENS, math.nan)
    return {name: values[name] for name in METRICS}


def measure_requests(record: RunRecord, window: Window, objectives: Objectives) -> dict[str, float]:
    """Return the metrics of requests and rates within a window, its end included."""
    table = record.requests
    arrived = _within(table["arrival_s"], window)
    completed = _within(table["end_s"], window) & (table["status"] == Status.COMPLETED)
    subset = {name: column[arrived] for name, column in table.items()}
    values = _rates(record, completed, window, objectives)
    for name, latency in LATENCIES.items():
        values |= _distribution(name, latency(subset))
    return values | _shares(subset, objectives)


def _within(times: NDArray[Any], window: Window) -> NDArray[np.bool_]:
    return np.asarray((times >= window.start_s) & (times <= window.end_s))


def _rates(
    record: RunRecord, completed: NDArray[np.bool_], window: Window, objectives: Objectives
) -> dict[str, float]:
    def rate(amount: float) -> float:
        return _ratio(amount, window.length_s)

    good = completed & meets(record.requests, objectives)
    return {
        "throughput_requests_per_s": rate(int(completed.sum())),
        "throughput_tokens_per_s": rate(_tokens_within(record, window)),
        "goodput_requests_per_s": rate(int(good.sum())) if objectives else math.nan,
    }


def _tokens_within(record: RunRecord, window: Window) -> float:
    """Return the output tokens made within the window, failed requests left out.

    The tokens of a request are spread evenly from its first to its last, so that a window which
    cuts through long answers counts its share of them.
    """
    table = record.requests
    kept = np.isin(table["status"], (Status.COMPLETED, Status.UNFINISHED))
    kept &= ~np.isnan(table["first_token_s"])
    first, last = table["first_token_s"][kept], table["end_s"][kept]
    last = np.where(np.isnan(last), record.end_s, last)
    inside = np.minimum(last, window.end_s) - np.maximum(first, window.start_s)
    span = last - first
    share = np.where(span > 0, inside / np.where(span > 0, span, 1.0), _within(first, window))
    return float((table["generated_tokens"][kept] * np.clip(share, 0.0, 1.0)).sum())


def _distribution(name: str, values: Floats) -> dict[str, float]:
    present = values[~np.isnan(values)]
    names = [f"{name}_mean_s", *(f"{name}_p{q}_s" for q in QUANTILES)]
    if len(present) == 0:
        return dict.fromkeys(names, math.nan)
    figures = [present.mean(), *np.percentile(present, QUANTILES)]
    return dict(zip(names, map(float, figures), strict=True))


def _shares(requests: Columns, objectives: Objectives) -> dict[str, float]:
    """Return what is counted over the requests that arrived in the window."""
    count = len(requests["status"])
    completed = requests["status"] == Status.COMPLETED
    unfinished = int((requests["status"] == Status.UNFINISHED).sum())
    judged = requests["correct"] >= 0
    cached, prompts = requests["cached_tokens"][completed], requests["input_tokens"][completed]
    useful = int((prompts - cached + requests["generated_tokens"][completed]).sum())
    wasted = int(requests["wasted_tokens"].sum())
    good = int(meets(requests, objectives).sum()) if objectives else math.nan
    return {
        "requests": float(count),
        "availability": _ratio(int(completed.sum()), count - unfinished),
        "unfinished": _ratio(unfinished, count),
        "slo_attainment": _ratio(good, count),
        "wasted_work": _ratio(wasted, wasted + useful),
        "preemptions": _ratio(int(requests["preemptions"].sum()), count),
        "attempts": _ratio(int(requests["attempts"].sum()), count),
        "forwards": _ratio(int(requests["forwards"].sum()), count),
        "cached_input": _ratio(int(cached.sum()), int(prompts.sum())),
        "accuracy": _ratio(int((requests["correct"] == 1).sum()), int(judged.sum())),
    }


def measure_nodes(record: RunRecord) -> dict[str, float]:
    """Return the metrics of the nodes, over the whole run."""
    nodes = record.nodes
    span_s = len(nodes["node"]) * record.end_s
    energy_j, carbon_g = float(nodes["energy_j"].sum()), float(nodes["carbon_g"].sum())
    completed = record.requests["status"] == Status.COMPLETED
    tokens = int(record.requests["generated_tokens"][completed].sum())
    used = nodes["kv_capacity_bytes"] > 0
    fill = nodes["peak_kv_bytes"][used] / nodes["kv_capacity_bytes"][used]
    memory = nodes["weight_bytes"] + nodes["peak_kv_bytes"]
    return {
        "node_availability": 1 - _ratio(float(nodes["down_s"].sum()), span_s),
        "utilization": _ratio(float(nodes["busy_s"].sum()), span_s),
        "memory_peak_bytes": float(memory.max()) if len(memory) else math.nan,
        "kv_peak": float(fill.max()) if len(fill) else math.nan,
        "energy_j": energy_j,
        "energy_per_token_j": _ratio(energy_j, tokens),
        "carbon_g": carbon_g,
        "carbon_per_token_g": _ratio(carbon_g, tokens),
        "energy_cost": float(nodes["energy_cost"].sum()) if len(memory) else math.nan,
        "bytes_sent": float(nodes["bytes_sent"].sum()),
    }


def measure_gaps(record: RunRecord) -> dict[str, float]:
    """Return quantiles of the inter-token latency where every replica is one stage.

    The gap of a token is then the time of the iteration that made it; the iterations of a
    segment count as equally long.
    """
    segments = record.segments
    decodes = segments["decode_sequences"] > 0
    if not decodes.any():
        return dict.fromkeys(GAPS, math.nan)
    iterations = segments["iterations"][decodes]
    gaps = (segments["end_s"] - segments["start_s"])[decodes] / iterations
    weights = iterations * segments["decode_sequences"][decodes]
    order = np.argsort(gaps)
    share = np.cumsum(weights[order]) / weights.sum()
    found = gaps[order][np.searchsorted(share, list(GAPS.values()))]
    return dict(zip(GAPS, found.tolist(), strict=True))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
