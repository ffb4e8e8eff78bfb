"""A run from the first arrival to the last record."""

from __future__ import annotations

from infsim.engine.experiment import Experiment
from infsim.engine.reference.arrivals import Arrivals, ClosedArrivals, OpenArrivals
from infsim.engine.reference.clock import Turn
from infsim.engine.reference.world import World
from infsim.results.recorder import RunRecord
from infsim.workload.closed_loop import ClosedLoop


def simulate_reference(experiment: Experiment) -> RunRecord:
    """Run an experiment, slowly, by the rules of ``docs/explanation/engine.md``.

    Parameters
    ----------
    experiment : Experiment
        Its policies may remember things: build it anew for every run.

    Returns
    -------
    RunRecord
        As the fast engine gives it, but with one segment for each iteration.

    Raises
    ------
    PolicyError
        If a policy raises, or answers what makes no sense.
    InputError
        If the weights of a plan do not fit, or prefix blocks are no multiple of KV blocks.
    ConservationError
        If the audit at the end fails.
    """
    run = Run(experiment)
    interrupted = False
    try:
        while not run.over:
            run.world.clock.step()
    except KeyboardInterrupt:
        interrupted = True
    end_s = run.end_s
    run.world.books.close(end_s)
    return run.world.recorder.finish(end_s, interrupted)


class Run:
    """Feeds the requests into a world, and knows when the run is over."""

    def __init__(self, experiment: Experiment) -> None:
        self.world = World(experiment)
        self.limit_reached = False
        horizon_s = experiment.settings.horizon_s
        if horizon_s is not None:
            self.world.clock.at(horizon_s, self._stop, Turn.END)
        workload = experiment.workload
        self.arrivals: Arrivals = (
            ClosedArrivals(self.world, workload)
            if isinstance(workload, ClosedLoop)
            else OpenArrivals(self.world, workload)
        )
        self.world.dispatch.on_end = self.arrivals.ended

    def _stop(self) -> None:
        self.limit_reached = True

    @property
    def over(self) -> bool:
        return self.at_limit or (self.arrivals.over and self._all_ended)

    @property
    def at_limit(self) -> bool:
        return self.limit_reached or self.arrivals.limit_reached

    @property
    def _all_ended(self) -> bool:
        return self.world.books.rows == len(self.world.requests)

    @property
    def end_s(self) -> float:
        """When the run ends: the limit if requests are left, else when the last one ended."""
        if self.at_limit or not self._all_ended:
            return self.world.clock.now
        return max((request.end_s for request in self.world.requests), default=0.0)
