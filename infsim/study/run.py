"""All runs of a study: every alternative in every replication, one after another or in parallel."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infsim.errors import InputError
from infsim.results.folder import check_writable
from infsim.results.runs import Run
from infsim.study.execute import EngineName, Job, execute
from infsim.study.progress import ProgressBar
from infsim.study.study import Setup, Study

if TYPE_CHECKING:
    from infsim.scenario.scenario import Scenario


def run_study(
    scenario: Scenario,
    *,
    out: str | Path | None = None,
    jobs: int = 1,
    progress: bool | None = None,
    engine: EngineName = "fast",
    timeline: bool | None = None,
    unsaved: Callable[[Study], None] | None = None,
) -> Study:
    """Run all alternatives of a scenario in all replications.

    The alternatives of a replication see the same random numbers. The results do not depend on
    ``jobs``. After an interruption (Ctrl-C) the runs that have ended are kept and the study is
    marked as interrupted.

    Parameters
    ----------
    scenario : Scenario
        As `infsim.load` gives it.
    out : path, optional
        Folder to write; see `Study.save`. Whether that can be done is found out beforehand.
    jobs : int
        Number of processes.
    progress : bool, optional
        Whether to show a progress bar on stderr; by default if that is a terminal.
    engine : {"fast", "reference"}
        The reference engine is the slow and obvious one.
    timeline : bool, optional
        Whether to write a timeline of each run; by default as the scenario says.
    unsaved : callable, optional
        Called with the study if the folder cannot be written after all, before the error is
        raised: a full disk need not cost the result.

    Raises
    ------
    InputError
        If the scenario cannot be built, or the folder cannot be written.
    PolicyError, CostError
        If a policy or a cost model fails.
    """
    from infsim.scenario.build import require_use

    if jobs < 1:
        raise InputError(f"jobs must be at least 1, not {jobs}")
    if out is not None:
        check_writable(Path(out))
    require_use(scenario)
    setup = Setup.of(scenario, engine)
    started, clock = datetime.now(UTC), time.monotonic()
    runs, interrupted = _run_all(scenario, setup, jobs, progress)
    study = Study(
        setup,
        runs,
        interrupted=interrupted,
        started=started.isoformat(timespec="seconds"),
        wall_s=time.monotonic() - clock,
    )
    if out is not None:
        output = scenario.spec.output
        try:
            study.save(
                out,
                figures=tuple(output.figures),
                timeline=output.timeline if timeline is None else timeline,
            )
        except InputError:
            if unsaved is not None:
                unsaved(study)
            raise
    return study


def _run_all(
    scenario: Scenario, setup: Setup, jobs: int, progress: bool | None
) -> tuple[tuple[Run, ...], bool]:
    """Return the runs by alternative and replication, and whether they were interrupted."""
    # all alternatives of a replication before the next: what is cut short can still be compared
    planned = [
        Job(alternative, replication)
        for replication in range(setup.replications)
        for alternative in range(len(setup.alternatives))
    ]
    done: dict[Job, Run] = {}
    interrupted = False
    with ProgressBar(len(planned), progress) as bar:
        one_by_one = jobs == 1 or len(planned) == 1
        source = (
            _in_turn(scenario, planned, setup.engine, bar)
            if one_by_one
            else _in_parallel(scenario, planned, setup.engine, bar, jobs)
        )
        try:
            for job, run in source:
                done[job] = run
                bar.run_ended()
                if run.record.interrupted:
                    interrupted = True
                    break
        except KeyboardInterrupt:
            interrupted = True
        finally:
            source.close()
    return tuple(done[job] for job in sorted(done)), interrupted


def _in_turn(
    scenario: Scenario, planned: list[Job], engine: EngineName, bar: ProgressBar
) -> Generator[tuple[Job, Run]]:
    for job in planned:
        yield job, execute(scenario, job, engine, bar.requests)


def _in_parallel(
    scenario: Scenario, planned: list[Job], engine: EngineName, bar: ProgressBar, jobs: int
) -> Generator[tuple[Job, Run]]:
    with _workers(min(jobs, len(planned))) as pool:
        waiting: dict[Future[Run], Job] = {
            pool.submit(execute, scenario, job, engine): job for job in planned
        }
        try:
            while waiting:
                ended, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                bar.tick()
                for future in ended:
                    yield waiting.pop(future), future.result()
        except KeyboardInterrupt:  # what has ended by now is kept, too
            for future, job in waiting.items():
                if future.done() and future.exception() is None:
                    yield job, future.result()
            raise


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes that is gone at once if the block raises or is left early."""
    import multiprocessing

    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_ignore_interrupts)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(cancel_futures=True)
        raise


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one that started them."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
