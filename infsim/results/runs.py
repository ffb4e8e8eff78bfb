"""The runs of a study: which alternative and replication each is, and its tables in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infsim.results.digests import digest_columns
from infsim.results.recorder import INCIDENT_KINDS, STATUS_NAMES, RunRecord, Status
from infsim.results.tables import Column, Table

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("requests", "nodes", "segments", "incidents")

# Columns of codes, and what the codes stand for (None: the texts of the record).
CODED: Mapping[str, Mapping[str, tuple[str, ...] | None]] = {
    "requests": {"status": STATUS_NAMES, "error": None},
    "nodes": {"name": None},
    "segments": {},
    "incidents": {"kind": INCIDENT_KINDS, "detail": None},
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a study.

    Attributes
    ----------
    alternative : str
    replication : int
    record : RunRecord
    details : mapping
        About the run, as plain JSON data: ``plans`` (per deployment the stages, pipelines and
        notes of its placement), ``costs`` (calibrated or not, sources, times asked for and
        extrapolated), ``power`` (by device, where it comes from).
    """

    alternative: str
    replication: int
    record: RunRecord
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def power(self) -> Mapping[str, str]:
        """Where the power of each device comes from."""
        found: Mapping[str, str] = self.details.get("power") or {}
        return found

    @property
    def unfinished(self) -> int:
        """Number of requests that had not ended at the end of the run."""
        return int((self.record.requests["status"] == Status.UNFINISHED).sum())

    @property
    def single_stage(self) -> bool:
        """Whether every replica is one stage."""
        plans = self.details.get("plans") or []
        return bool(plans) and all(
            plan["pipelines"] is not None and all(len(path) == 1 for path in plan["pipelines"])
            for plan in plans
        )


def words(record: RunRecord, table: str) -> dict[str, NDArray[Any] | Sequence[str]]:
    """Return a table of a record with its codes spelt out."""
    columns: dict[str, NDArray[Any] | Sequence[str]] = dict(getattr(record, table))
    for name, legend in CODED[table].items():
        texts = legend or record.texts
        columns[name] = [texts[code] for code in getattr(record, table)[name].tolist()]
    return columns


def digests(record: RunRecord) -> dict[str, str]:
    """Return the digest of each table."""
    return {table: digest_columns(words(record, table)) for table in TABLES}


@dataclass(frozen=True)
class Frame:
    """A long table as columns.

    Attributes
    ----------
    columns : mapping of str to array or list of str
    """

    columns: Mapping[str, NDArray[Any] | Sequence[str]]

    @classmethod
    def of(cls, run: Run, table: str) -> Frame:
        """Return one of the `TABLES` of a run, its codes spelt out."""
        return cls(words(run.record, table))

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column; raises KeyError if there is none of this name."""
        if name not in self.columns:
            raise KeyError(f"no column {name!r}; there are {', '.join(self.columns)}")
        return np.asarray(self.columns[name])

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame.

        Raises ImportError if pandas is not installed (``pip install 'infsim[analysis]'``).
        """
        import pandas as pd

        return pd.DataFrame(dict(self.columns))

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`."""
        import pyarrow as pa

        return pa.table(dict(self.columns))

    def head(self, rows: int = 5) -> Table:
        """Return the first rows, for people."""
        first = zip(*(column[:rows] for column in self.columns.values()), strict=True)
        cells = tuple(tuple(_cell(value) for value in row) for row in first)
        return Table(tuple(map(Column, self.columns)), cells, notes=(f"{len(self):,} rows",))

    def __repr__(self) -> str:
        return self.head().text()

    def _repr_html_(self) -> str:
        return self.head().html()


def _cell(value: Any) -> str | float:
    return value if isinstance(value, str) else value.item()
