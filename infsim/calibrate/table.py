"""Kernel tables: what was measured on one hardware, one row per point, in one schema.

Every importer and every microbenchmark ends in a `KernelTable`; every fit begins with one. On disk
it is a folder with ``kernels.parquet`` and, beside it, ``meta.yaml``, which tells where the rows
come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infsim.errors import InputError, Where, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

KERNELS_FILE = "kernels.parquet"
META_FILE = "meta.yaml"

KERNELS = (
    "linear",
    "attention",
    "norm",
    "activation",
    "rotary",
    "embedding",
    "head",
    "sample",
    "kv_write",
    "residual",
    "quantize",
    "dequantize",
    "copy_device",
    "copy_host",
    "load",
    "collective",
    "step",
)
"""The kinds of kernels that a table can hold."""

TEXT = ("kernel", "name", "format", "kv_format", "library", "pattern")
COUNTS = (
    "tokens",
    "n",
    "k",
    "experts",
    "active_experts",
    "heads",
    "kv_heads",
    "head_dim",
    "window",
    "prefills",
    "chunk",
    "prefix",
    "decodes",
    "context",
    "bytes",
    "devices",
    "nodes",
    "held_out",
    "runs",
)
REALS = ("density", "time_s", "spread_s")
COLUMNS = (*TEXT, *COUNTS, *REALS)
"""All columns; see `KernelTable`."""

MEASURED = ("time_s", "spread_s", "runs")
"""The columns that were measured; all others say what was measured."""


@dataclass(frozen=True)
class Meta:
    """Where a kernel table comes from, the content of ``meta.yaml``.

    Attributes
    ----------
    hardware : str
        Name of the device in the catalogue.
    source : str
        Where the rows come from: repository and revision, or ``measured``.
    licence : str
        Licence of the rows.
    date : str
        When it was measured, ISO 8601; empty if unknown.
    command : str
        What made the table.
    versions : mapping of str to str
        Versions of driver, libraries, frameworks.
    noise : float or None
        Typical relative spread of repeated measurements; None if unknown.
    rows : int
        Rows of the table; set when it is written.
    refused : mapping of str to int
        Rows that the audit left out, by reason.
    flagged : mapping of str to int
        Rows that are kept although something about them is odd, by reason.
    notes : sequence of str
    extra : mapping
        Whatever else is to be kept; plain YAML data.
    """

    hardware: str
    source: str = ""
    licence: str = ""
    date: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    noise: float | None = None
    rows: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Meta:
        """Read a ``meta.yaml``; an unknown or missing key is an `InputError`."""
        import yaml

        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read it: {error}", where=Where(str(path))) from error
        if not isinstance(found, dict) or "hardware" not in found:
            raise InputError("no 'hardware' in it", where=Where(str(path)))
        known = [f.name for f in fields(cls)]
        for key in found:
            if key not in known:
                hint = did_you_mean(str(key), known)
                raise InputError(f"unknown key {key!r}{hint}", where=Where(str(path)))
        return cls(**found)

    def write(self, path: Path) -> None:
        """Write it as YAML, whole or not at all."""
        import yaml

        from infsim.results.folder import whole_file

        plain = asdict(self) | {"notes": list(self.notes)}
        given = {key: value for key, value in plain.items() if value not in ("", None, {}, [])}
        with whole_file(path) as scratch:
            text = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=99)
            scratch.write_text(text, encoding="utf-8")


@dataclass(frozen=True, eq=False)
class KernelTable:
    """Measured points, one row each, as columns of equal length.

    What does not apply to a row is ``""``, 0 or, for reals, NaN.

    - ``kernel`` (one of `KERNELS`), ``name`` (operation in its source: qkv, o, gate_up, down,
      all_reduce, …), ``format`` (of the catalogue: bf16, fp8, w8a8, …), ``kv_format`` (number type
      of the KV cache where it differs), ``library`` (kernel library or framework), ``pattern`` (of
      the zeros of pruned weights);
    - ``tokens`` (rows m), ``n`` and ``k`` (output and input features of a linear layer; n is the
      width of element-wise kernels), ``experts`` held and ``active_experts`` that get tokens (then
      n x k are the parameters of one expert);
    - ``heads``, ``kv_heads``, ``head_dim``, ``window`` (of sliding-window attention), ``prefills``
      (sequences with a chunk), ``chunk`` (new tokens of each), ``prefix`` (KV entries before the
      chunk, each), ``decodes`` (sequences that decode), ``context`` (KV entries of each of them,
      its new token included);
    - ``bytes`` of copies, loads and collectives, ``devices`` (ranks or degree of tensor
      parallelism, whose shard the shapes are), ``nodes`` (machines that a collective spans);
    - ``held_out`` (1 for points drawn at random to tell the error between the others, else 0);
    - ``density`` (share of the weights that are not zero), ``time_s`` (of one run; for collectives
      of the slowest rank), ``spread_s`` (standard deviation of rounds or repeats, NaN if
      unknown), ``runs``.

    Attributes
    ----------
    columns : mapping of str to array
        All of `COLUMNS`: str objects, int64, float64.
    meta : Meta
    """

    columns: Mapping[str, NDArray[Any]]
    meta: Meta

    @classmethod
    def from_columns(cls, columns: Mapping[str, ArrayLike], meta: Meta) -> Self:
        """Return a table of some columns, each an array or one value for all rows.

        Raises
        ------
        InputError
            For an unknown column, a value of the wrong type, or unequal lengths.
        """
        for name in columns:
            if name not in COLUMNS:
                raise InputError(f"unknown column {name!r}{did_you_mean(name, COLUMNS)}")
        for name in ("kernel", "time_s"):
            if name not in columns:
                raise InputError(f"a kernel table needs the column {name!r}")
        arrays = {name: _typed(name, values) for name, values in columns.items()}
        lengths = {len(array) for array in arrays.values() if array.ndim}
        if len(lengths) > 1:
            raise InputError(f"columns of unequal length: {sorted(lengths)}")
        length = lengths.pop() if lengths else 1
        full = {}
        for name in COLUMNS:
            values = arrays.get(name, _absent(name))
            full[name] = values if values.ndim else np.full(length, values[()], values.dtype)
        return cls(full, meta)

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], meta: Meta) -> Self:
        """Return a table of rows that name only what applies to them."""
        listed = list(rows)
        names = {name: None for row in listed for name in row}  # a set that keeps the order
        blank = {name: _absent(name)[()] for name in COLUMNS}
        columns = {n: [row.get(n, blank.get(n)) for row in listed] for n in names}
        empty: dict[str, list[Any]] = {"kernel": [], "time_s": []}
        return cls.from_columns(empty | columns, meta)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a table.

        Parameters
        ----------
        path : str or Path
            The folder, or the Parquet file in it; ``meta.yaml`` lies beside it.

        Raises
        ------
        InputError
            If there is none, or its rows break the rules of `check`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = Path(path)
        file = file / KERNELS_FILE if file.is_dir() else file
        try:
            found: pa.Table = pq.read_table(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"no kernel table: {error}", where=Where(str(file))) from error
        meta = Meta.read(file.with_name(META_FILE))
        try:
            columns = {name: _from_arrow(found.column(name)) for name in found.column_names}
            table = cls.from_columns(columns, meta)
        except InputError as error:
            raise error.at(Where(str(file))) from error
        table.check(str(file))
        return table

    def write(self, folder: str | Path) -> Path:
        """Write ``kernels.parquet`` and ``meta.yaml`` into a folder; return the former.

        Raises
        ------
        InputError
            If the rows break the rules of `check`, or the folder cannot be written.
        """
        import pyarrow.parquet as pq

        from infsim.results.folder import whole_file

        file = Path(folder) / KERNELS_FILE
        self.check(str(file))
        with whole_file(file) as scratch:
            pq.write_table(self._to_arrow(), scratch, compression="zstd")
        replace(self.meta, rows=len(self)).write(file.with_name(META_FILE))
        return file

    def _to_arrow(self) -> pa.Table:
        """Return the columns that say anything, texts as dictionaries."""
        import pyarrow as pa

        told: dict[str, Any] = {}
        for name in COLUMNS:
            values = self.columns[name]
            if name in ("kernel", "time_s") or not _all_absent(name, values):
                array = pa.array(values)
                told[name] = array.dictionary_encode() if name in TEXT else array
        return pa.table(told)

    def check(self, file: str) -> None:
        """Check that the rows make sense.

        Parameters
        ----------
        file : str
            Named in the message.

        Raises
        ------
        InputError
            For the first row with an unknown kernel or format, a negative count, a density outside
            (0, 1], or a time that is not positive and finite.
        """
        self._check_words(file)
        for name in COUNTS:
            self._refuse(file, name, self[name] < 0, "must not be negative")
        density = self["density"]
        self._refuse(
            file,
            "density",
            ~(np.isnan(density) | ((density > 0) & (density <= 1))),
            "not in (0, 1]",
        )
        time = self["time_s"]
        self._refuse(file, "time_s", ~((time > 0) & np.isfinite(time)), "must be positive, finite")
        spread = self["spread_s"]
        self._refuse(
            file,
            "spread_s",
            ~(np.isnan(spread) | ((spread >= 0) & np.isfinite(spread))),
            "negative",
        )

    def _check_words(self, file: str) -> None:
        from infsim.model.catalog import FORMATS

        known = {"kernel": KERNELS, "format": ("", *FORMATS.names())}
        known["kv_format"] = known["format"]
        for column, words in known.items():
            for word in sorted(set(self[column])):
                if word not in words:
                    row = int(np.flatnonzero(self[column] == word)[0]) + 1
                    raise InputError(
                        f"unknown {column} {word!r}{did_you_mean(word, words)}",
                        where=Where(file, row, path=column),
                    )

    def _refuse(self, file: str, column: str, wrong: NDArray[np.bool_], rule: str) -> None:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            value = self[column][row].item()
            raise InputError(f"{value!r}: {rule}", where=Where(file, row + 1, path=column))

    def __len__(self) -> int:
        return len(self.columns["kernel"])

    def __getitem__(self, column: str) -> NDArray[Any]:
        """Return a column."""
        return self.columns[column]

    def take(self, rows: NDArray[Any]) -> Self:
        """Return the rows of a mask or of indices."""
        return replace(self, columns={name: c[rows] for name, c in self.columns.items()})

    def select(self, **values: object) -> Self:
        """Return the rows whose columns have these values.

        A tuple, list or set means any of its members.

        Examples
        --------
        >>> table = KernelTable.from_rows(
        ...     [{"kernel": "norm", "time_s": 1e-6}, {"kernel": "head", "time_s": 1e-4}],
        ...     Meta("h200"),
        ... )
        >>> len(table.select(kernel="norm")), len(table.select(kernel=("norm", "head")))
        (1, 2)
        """
        mask = np.ones(len(self), dtype=np.bool_)
        for column, value in values.items():
            if column not in COLUMNS:
                raise InputError(f"unknown column {column!r}{did_you_mean(column, COLUMNS)}")
            wanted = list(value) if isinstance(value, tuple | list | set | frozenset) else [value]
            mask &= _among(self[column], wanted)
        return self.take(mask)

    def rows(self) -> Iterable[dict[str, Any]]:
        """Yield each row as plain Python values, what does not apply left out."""
        for index in range(len(self)):
            row = {name: self[name][index] for name in COLUMNS}
            yield {
                n: v.item() if n not in TEXT else v for n, v in row.items() if not _is_absent(n, v)
            }

    def with_meta(self, **changes: Any) -> Self:
        """Return the same rows with some entries of the meta changed."""
        return replace(self, meta=replace(self.meta, **changes))


def concatenate(tables: Sequence[KernelTable], meta: Meta | None = None) -> KernelTable:
    """Return the rows of several tables in one, with the first one's meta unless given."""
    columns = {name: np.concatenate([table[name] for table in tables]) for name in COLUMNS}
    return KernelTable(columns, meta or tables[0].meta)


def _among(values: NDArray[Any], wanted: list[Any]) -> NDArray[np.bool_]:
    found = np.zeros(len(values), dtype=np.bool_)
    for value in wanted:
        found |= values == value
    return found


def _typed(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return values in the type of their column."""
    found = np.asarray(values)
    if name in TEXT:
        if found.size and found.dtype.kind not in "OUT":
            raise InputError(f"column {name!r} holds words, got {found.reshape(-1)[0].item()!r}")
        return found.astype(object)
    if found.size and found.dtype.kind not in "iuf":
        raise InputError(f"column {name!r} holds numbers, got {found.reshape(-1)[0].item()!r}")
    if name in REALS:
        return found.astype(np.float64)
    if found.dtype.kind == "f" and not (found == np.floor(found)).all():
        broken = np.flatnonzero(~(found.reshape(-1) == np.floor(found.reshape(-1))))[0]
        value = found.reshape(-1)[broken].item()
        raise InputError(f"column {name!r} holds whole numbers, got {value!r} in row {broken + 1}")
    return found.astype(np.int64)


def _absent(name: str) -> NDArray[Any]:
    if name in TEXT:
        return np.array("", dtype=object)
    return np.array(np.nan) if name in REALS else np.array(0, dtype=np.int64)


def _is_absent(name: str, value: Any) -> bool:
    return bool(value != value if name in REALS else value == _absent(name)[()])


def _all_absent(name: str, values: NDArray[Any]) -> bool:
    if name in REALS:
        return bool(np.isnan(values).all())
    return bool((values == _absent(name)[()]).all())


def _from_arrow(column: pa.ChunkedArray) -> NDArray[Any]:
    import pyarrow as pa

    if column.null_count:
        raise InputError(f"{column.null_count} empty cells in a column")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values: NDArray[Any] = column.to_numpy()
    return values
