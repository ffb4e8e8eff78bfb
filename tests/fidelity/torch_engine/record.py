"""Record what an engine of calibrated kernels does: traces with continuous batching.

    pip install -e ".[calibrate]"
    infsim calibrate run --out calibration/epyc-7763-vcpu --model smollm2-135m --format fp32 \
      --only linear --only attention --only elements --only steps --budget 20
    infsim calibrate fit calibration/epyc-7763-vcpu --out calibration/epyc-7763-vcpu/costs.json
    python -m tests.fidelity.torch_engine.record --hardware epyc-7763-vcpu --format fp32 --out runs

Nothing is fitted to these runs, nor to any other steps of the engine: they are priced by the sum of
the kernels that were measured one by one. For each format three traces that all come at once (the
capacity), then Poisson arrivals at shares of that capacity, three seeds each, everything twice.
Steps count relative to the reference kernels of the calibration, which are computed between them,
and as long as they would have taken while these took what they usually did then. If they take 10 %
more or less in quiet moments, the machine is another one, and nothing is recorded. On CUDA
the engine launches its kernels one by one, and times are those of the wall clock.
"""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-call"
import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infsim.calibrate.llama_cpp.bench import SATURATED, StepBench, UnsteadyError
from infsim.calibrate.llama_cpp.clock import SteadyClock
from infsim.calibrate.llama_cpp.measure import undisturbed
from infsim.calibrate.llama_cpp.server import Lengths, Limits
from infsim.calibrate.llama_cpp.table import write_table
from infsim.calibrate.measure.bench import DRIFT, TRIES
from infsim.calibrate.measure.machine import description, versions
from infsim.calibrate.measure.reference import references
from infsim.calibrate.measure.torch_case import require_torch
from infsim.calibrate.measure.torch_model import form_of
from infsim.calibrate.table import KernelTable
from infsim.errors import InputError
from infsim.model.catalog import load_architecture
from infsim.paths import data_folder
from tests.fidelity.serving import Recorder, request_table
from tests.fidelity.torch_engine.engine import TorchEngine

LIMITS, LENGTHS = Limits(tokens=64, sequences=8), Lengths(prompt=24, output=12)
FORMATS = ("fp32", "w8a8")
LOADS = 0.5, 0.8
LEARNED = 40, 6
"""Requests of the traces, and times that they are served, to learn how steps slow down."""


def main() -> None:
    """Record each format and write a folder for it."""
    parser = argparse.ArgumentParser(description="Record served traces of an engine in PyTorch.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--format", action="append")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--hardware", default="epyc-7763-vcpu", help="a folder of calibration")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--requests", type=int, default=60, help="of each run")
    arguments = parser.parse_args()
    calibrated = KernelTable.read(data_folder("calibration") / arguments.hardware)
    requests = dict.fromkeys((*LOADS, SATURATED), arguments.requests)
    for form in arguments.format or FORMATS:
        with undisturbed():
            stand, quiet = _bench(arguments.model, form, arguments.device, calibrated)
            stand.learn(*LEARNED)
            recorder = Recorder(form, stand, requests)
            recorder.record()
        out = arguments.out / form
        out.mkdir(parents=True, exist_ok=True)
        write_table(request_table(recorder.runs), out / "requests.parquet")
        meta = {
            "name": f"torch {form}",
            "format": form,
            "engine": f"continuous batching in PyTorch {versions(arguments.device)['torch']},"
            f" {arguments.model} with random weights, priced by the sum of its kernels, none fitted"
            " to it",
            "kernels": {"device": calibrated.meta.hardware, "model": arguments.model},
            "machine": description(arguments.device),
            "reference": round(quiet, 4),
            "elasticity": [round(x, 3) for x in stand.clock.elasticity],
            "recorded": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            **recorder.meta(),
        }
        (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def _bench(name: str, form: str, device: str, calibrated: KernelTable) -> tuple[StepBench, float]:
    """Return a bench, and what the reference takes in quiet moments against the calibration."""
    torch = require_torch()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = load_architecture(name)
    engine = TorchEngine(model, form_of(form, device), LIMITS.sequences, LENGTHS.longest, device)
    then = calibrated.meta.extra["reference"]
    if "quiet_s" not in then:
        raise InputError("its meta.yaml does not tell what the references take in quiet moments")
    both = [make() for make in references(device, then["bytes"])]

    def run() -> Any:
        found = [case.run() for case in both]
        return torch.cuda.synchronize() if device == "cuda" else found

    now = time.perf_counter if device == "cuda" else time.process_time
    quiet = min(SteadyClock(run, now).quiet_s for _ in range(TRIES)) / then["quiet_s"]
    if abs(quiet - 1) > DRIFT:
        raise UnsteadyError(f"the references take {quiet - 1:+.0%} beside the calibration")
    clock = SteadyClock(run, now, then["time_s"])
    return StepBench(engine, model.vocabulary, clock, LIMITS, LENGTHS, _say), quiet


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
