"""Kernels that were measured by oneself, as the costs of a simulation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from infsim.calibrate.audit import audit
from infsim.calibrate.fit.device import fit_device
from infsim.calibrate.fit.write import write_calibration
from infsim.calibrate.importers.formats import read
from infsim.calibrate.table import KERNELS_FILE, KernelTable
from infsim.cluster.device import load_device


@contextmanager
def fitted(kernels: Path, device: str) -> Iterator[Path]:
    """Fit measured kernels; the file of coefficients is there within the block.

    Parameters
    ----------
    kernels : Path
        What `infsim calibrate run` or `infsim calibrate import` wrote, what the latter can read,
        or a file of coefficients, which is taken as it is.
    device : str
        Name of the device in the catalogue.

    Raises
    ------
    InputError
        If it cannot be read, or lacks kernels that a fit needs.
    """
    if kernels.suffix == ".json":
        yield kernels
        return
    if (kernels / KERNELS_FILE).is_file():
        table = KernelTable.read(kernels)
    else:
        known = load_device(device)
        table = audit(read(kernels, known.name), known).table
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "costs.json"
        write_calibration(fit_device([table], device), path)
        yield path
