"""The command ``calibrate fit``: from kernel tables to coefficients of costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infsim.cli.calibrate import calibrate
from infsim.cli.main import command


@command("fit", calibrate)
def fit(
    tables: Annotated[
        list[Path], typer.Argument(help="Folders with kernels.parquet of one device.")
    ],
    device: Annotated[
        str | None, typer.Option(help="Device of `infsim list`, if the tables name another.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; without it errors are only shown.")
    ] = None,
) -> None:
    """Fit costs to measured kernels, with errors at points held out."""
    from infsim.calibrate.fit.device import fit_device
    from infsim.calibrate.fit.write import write_calibration
    from infsim.calibrate.table import KernelTable

    fitted = fit_device([KernelTable.read(path) for path in tables], device)
    print(f"{fitted.device}: {fitted.source}")
    for error in fitted.errors:
        print(
            f"  {error['what']:22} {error['format']:10} held-out {error['held_out']:18}"
            f" median {error['median']:7.2%}  p95 {error['p95']:7.2%}  {error['points']:6} points"
        )
    if out is not None:
        write_calibration(fitted, out)
        print(out)
