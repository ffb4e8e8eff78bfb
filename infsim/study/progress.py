"""A progress bar on stderr, for what takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE_S = 2.0
_INTERVAL_S = 0.1
_LOG_INTERVAL_S = 10.0


class ProgressBar:
    """Counts runs and requests; shows nothing before two seconds have passed.

    Parameters
    ----------
    runs : int
        How many runs there will be.
    wanted : bool or None
        None shows it if stderr is a terminal, False never. True shows it anyway; what is no
        terminal gets a line every ten seconds.
    """

    def __init__(self, runs: int, wanted: bool | None = None) -> None:
        self._runs = runs
        self._done = 0
        self._terminal = sys.stderr.isatty()
        self._wanted = self._terminal if wanted is None else wanted
        self._next_s = time.monotonic() + _PATIENCE_S
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def run_ended(self) -> None:
        """One more run has ended."""
        self._done += 1
        self.tick()

    def requests(self, ended: int) -> None:
        """So many requests of the current run have ended; cheap enough to be told of each."""
        if ended & 127 == 0:
            self.tick(ended)

    def tick(self, requests: int | None = None) -> None:
        """Draw, if it is time to."""
        if not self._wanted or time.monotonic() < self._next_s:
            return
        current = "" if requests is None else f"{requests:,} requests of this run"
        if self._terminal:
            self._draw(current)
        else:
            self._log(current)

    def _log(self, current: str) -> None:
        self._next_s = time.monotonic() + _LOG_INTERVAL_S
        sys.stderr.write(f"runs {self._done}/{self._runs} {current}".rstrip() + "\n")
        sys.stderr.flush()

    def _draw(self, current: str) -> None:
        self._next_s = time.monotonic() + _INTERVAL_S
        if self._bar is None:
            self._start()
        assert self._bar is not None
        assert self._task is not None
        self._bar.update(self._task, completed=self._done, current=current)
        self._bar.refresh()

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        # drawn by hand: a thread of its own would live on in forked workers
        self._bar = Progress(
            TextColumn("runs"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[current]}"),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=self._runs, current="")
        self._bar.start()
