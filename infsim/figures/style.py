"""How figures look: paper size, fonts, colours for everybody, and bytes that do not change.

Figures are made without `matplotlib.pyplot`, so that nothing global is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infsim.errors import InputError, did_you_mean
from infsim.results.folder import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Widths of one column, and of the text, of a two-column paper, in inches.
COLUMN_IN = 3.4
TEXT_IN = 7.0

# Okabe & Ito, "Color universal design" (2008): told apart by colour-blind readers. Its yellow is
# left out, which a thin line on white paper cannot carry.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# Lines also differ where there is no colour.
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))

GRID = "#E0E0E0"
INK = "#333333"

FORMATS = ("pdf", "png", "svg")

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # TrueType: publishers refuse the default
    "svg.hashsalt": "infsim",  # names inside an SVG would be random otherwise
}


@contextmanager
def style() -> Iterator[None]:
    """Make and save figures in this style within the block; nothing outside changes."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {**mpl.rcParamsDefault, "backend": "agg", **_SETTINGS}
    with mpl.rc_context(settings):
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure that lays itself out."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def tidy(axes: Axes, grid: str = "both") -> None:
    """Take away what carries no data, and put a light grid behind the rest."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, axis=grid, color=GRID, linewidth=0.5)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def line_style(index: int) -> dict[str, Any]:
    """Return colour and dashes of the alternative of this index."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": DASHES[index % len(DASHES)],
    }


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format of its suffix; the same figure gives the same bytes.

    Raises
    ------
    InputError
        If the suffix is not one of ``.pdf``, ``.png``, ``.svg``, or the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{str(path)!r}: no figure format {suffix!r}{did_you_mean(suffix, FORMATS)}",
            hint=f"known: {', '.join(FORMATS)}",
        )
    # no time and no version of the software inside
    metadata: dict[str, Any] = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
    }[suffix]
    with style(), whole_file(target) as scratch:
        figure.savefig(scratch, format=suffix, dpi=300, metadata=metadata)
