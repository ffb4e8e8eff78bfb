"""The commands ``fidelity …``: recorded runs of real engines against their simulation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infsim.cli.main import app, command

if TYPE_CHECKING:
    from infsim.fidelity.comparison import Row
    from infsim.fidelity.recorded import Recorded
    from infsim.results.recorder import RunRecord

fidelity = typer.Typer(
    name="fidelity",
    help="Compare recorded runs of real engines with their simulation.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(fidelity, name="fidelity")


@command("import", fidelity)
def import_(
    folder: Annotated[Path, typer.Argument(help="A run of vLLM: meta.json and requests.jsonl.")],
    kernels: Annotated[
        Path | None,
        typer.Option(help="Kernels measured on the same device; by default those that ship."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device of `infsim list devices`.")] = None,
    model: Annotated[str | None, typer.Option(help="Model of `infsim list models`.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Simulate a recorded run, and say how far off the simulation is."""
    from infsim.fidelity.comparison import as_mapping, compare
    from infsim.fidelity.replay import replay
    from infsim.fidelity.vllm import read_vllm

    recorded = read_vllm(folder, device, model)
    record = replay(recorded) if kernels is None else _replay_with(recorded, kernels)
    rows = compare(recorded, record)
    if json:
        from json import dump

        dump(as_mapping(rows), sys.stdout, indent=1)
        print()
        return
    _print(recorded, rows, record.counters["extrapolated"])


def _replay_with(recorded: Recorded, kernels: Path) -> RunRecord:
    """Fit the kernels and price the iterations with them."""
    from tempfile import TemporaryDirectory

    from infsim.calibrate.audit import audit
    from infsim.calibrate.fit.device import fit_device
    from infsim.calibrate.fit.write import write_calibration
    from infsim.calibrate.importers.formats import read
    from infsim.cluster.device import load_device
    from infsim.fidelity.replay import replay

    device = load_device(recorded.serving.device)
    table = audit(read(kernels, device.name), device).table
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "costs.json"
        write_calibration(fit_device([table], device.name), path)
        return replay(recorded, path)


def _print(recorded: Recorded, rows: list[Row], extrapolated: float) -> None:
    serving = recorded.serving
    parallel = f"{serving.devices} x " if serving.devices > 1 else ""
    print(
        f"{recorded.name}: {len(recorded)} requests, {serving.model} in {serving.format} on"
        f" {parallel}{serving.device}, KV cache of {serving.kv_tokens} tokens"
    )
    for row in rows:
        if row.name.endswith("MAPE"):
            print(f"  {row.name:18} {'':24} {row.error:8.1%}")
        else:
            print(f"  {row.name:18} {row.real:10.4g} s {row.simulated:10.4g} s {row.error:+8.1%}")
    if extrapolated:
        print(f"  {extrapolated:.0f} iterations were outside of what was measured")
