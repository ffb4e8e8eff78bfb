"""The commands ``calibrate …``: where measured costs come from."""

from __future__ import annotations

import typer

from infsim.cli.main import app

calibrate = typer.Typer(
    name="calibrate",
    help="Measure, import and fit what kernels cost.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(calibrate, name="calibrate")
