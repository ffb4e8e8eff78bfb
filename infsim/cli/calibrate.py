"""The commands ``calibrate …``: where measured costs come from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infsim.cli.main import app, command

if TYPE_CHECKING:
    from infsim.calibrate.audit import Audit
    from infsim.calibrate.table import KernelTable

calibrate = typer.Typer(
    name="calibrate",
    help="Measure, import and fit what kernels cost.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(calibrate, name="calibrate")


@command("import", calibrate)
def import_(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="aiconfigurator, vidur, frontier, llmservingsim, splitwise, llama-cpp, or auto.",
        ),
    ],
    path: Annotated[Path, typer.Argument(help="The file or folder to read.")],
    device: Annotated[str, typer.Option(help="What was measured: a device of `infsim list`.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; without it the table is only checked.")
    ] = None,
) -> None:
    """Read a table of kernels of another project, and check it against physics."""
    from infsim.calibrate.audit import audit
    from infsim.calibrate.importers.formats import read
    from infsim.cluster.device import load_device

    known = load_device(device)
    imported = read(path, known.name, form)
    result = audit(imported, known)
    words = ["infsim", "calibrate", "import", form, path.name, "--device", known.name]
    table = result.table.with_meta(command=shlex.join(words))
    _report(path, len(imported.table), table, result)
    if out is not None:
        print(table.write(out))


@command("fit-steps", calibrate)
def fit_steps(
    table: Annotated[Path, typer.Argument(help="A folder that `calibrate import` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default rates.json beside the table.")
    ] = None,
) -> None:
    """Fit a roofline to whole steps, where no kernels were measured."""
    from infsim.calibrate.fit import steps
    from infsim.calibrate.table import KernelTable
    from infsim.cost.rates import FILE

    rates = steps.fit_steps(KernelTable.read(table))
    shares = ", ".join(f"{form} {share:.3f}" for form, share in rates.compute.items())
    print(f"{rates.device}: share of the arithmetic: {shares}; of the bandwidth:", end=" ")
    print(f"{rates.bandwidth:.3f}; {rates.layer_s * 1e6:.1f} us a layer")
    for step, error in rates.errors.items():
        held_out = rates.held_out.get(step)
        alone = "" if held_out is None else f", {held_out:+.1%} held out"
        print(f"  {step}: {error:+.1%}{alone}")
    for note in rates.notes:
        print(f"  {note}")
    target = out or table / FILE
    steps.write_rates(rates, target)
    print(target)


def _report(path: Path, read: int, table: KernelTable, result: Audit) -> None:
    meta = table.meta
    refused = sum(meta.refused.values())
    merged = read - refused - len(table)
    print(
        f"{path}: {read} rows read, {refused} refused, {merged} repeats merged, {len(table)} kept"
    )
    for place in result.examples:
        print(f"  {place}")
    for reason, count in meta.refused.items():
        print(f"  refused {count}: {reason}")
    for reason, count in meta.flagged.items():
        print(f"  kept {count}: {reason}")
    for note in meta.notes:
        print(f"  {note}")
    for kernel in sorted(set(table["kernel"])):
        part = table.select(kernel=kernel)
        formats = ", ".join(sorted(set(part["format"]) - {""}))
        print(f"  {kernel}: {len(part)} rows{f' in {formats}' if formats else ''}")
