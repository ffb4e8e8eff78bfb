"""Mixed-integer programs: PuLP as the language, HiGHS as the solver, plans that repeat.

A wall-clock limit makes a plan depend on how busy the machine was. Here the effort is limited
by branch-and-bound nodes instead, on one thread and with a fixed seed, so that the same program
always gives the same plan. HiGHS decides what is feasible with absolute tolerances of about
1e-6: state a program in units in which its numbers are near 1 (`unit_of` helps).

PuLP 3.3 and 4 are both served. The outcome is read from HiGHS itself: PuLP 3.3 does not know
the status of a run that ended at its node limit and raises a KeyError (coin-or/pulp issue 895),
and it reports neither bound nor gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


class Infeasible(ValueError):  # noqa: N818 - a finding, not a fault
    """No assignment satisfies the constraints (or the instance itself cannot be met)."""


class NoIncumbent(ValueError):  # noqa: N818
    """The node limit was reached before any feasible assignment was found."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try.

    Attributes
    ----------
    nodes : int
        Limit on branch-and-bound nodes.
    gap : float
        Relative gap between incumbent and bound at which to stop.
    seed : int
        Seed of the solver's own randomness.
    """

    nodes: int = 20_000
    gap: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.gap < 0:
            raise ValueError(f"effort needs nodes >= 1 and gap >= 0, not {self}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a solve ended.

    Attributes
    ----------
    status : str
        ``"optimal"`` (within the gap asked for) or ``"node limit"`` (an incumbent, with its gap).
    objective, bound : float
        Value of the incumbent and the proven bound, in the units of the objective.
    gap : float
        ``|objective - bound| / |objective|``; 0 if they are equal.
    nodes : int
        Branch-and-bound nodes explored.
    """

    status: str
    objective: float
    bound: float
    gap: float
    nodes: int


def outcome(status: str, objective: float, bound: float, nodes: int = 0) -> Outcome:
    """Return an `Outcome` whose gap follows from objective and bound."""
    difference = abs(objective - bound)
    gap = 0.0 if difference == 0 else difference / abs(objective) if objective else float("inf")
    return Outcome(status, objective, bound, gap, nodes)


def unit_of(*values: ArrayLike) -> float:
    """Return the largest finite magnitude among ``values``, 1 if there is none.

    Dividing all coefficients of a program by it keeps them far above the solver's tolerances.
    """
    largest = 0.0
    for value in values:
        magnitudes = np.abs(np.asarray(value, dtype=float))
        largest = max(largest, float(magnitudes.max(where=np.isfinite(magnitudes), initial=0.0)))
    return largest or 1.0


class Model:
    """A program under construction; expressions and constraints are PuLP's own.

    Parameters
    ----------
    name : str
        Name of the program.
    """

    def __init__(self, name: str) -> None:
        import pulp

        self._pulp: Any = pulp
        self._problem: Any = pulp.LpProblem(name, pulp.LpMinimize)

    def continuous(self, name: str, low: float | None = 0.0, up: float | None = None) -> Any:
        """Return a new real variable, non-negative by default."""
        return self._problem.add_variable(name, low, up)

    def integer(self, name: str, low: int, up: int) -> Any:
        """Return a new integer variable in ``[low, up]``."""
        return self._problem.add_variable(name, low, up, self._pulp.LpInteger)

    def binary(self, name: str) -> Any:
        """Return a new variable that is 0 or 1."""
        return self.integer(name, 0, 1)

    def sum(self, terms: Iterable[Any]) -> Any:
        """Return the sum of expressions."""
        return self._pulp.lpSum(terms)

    def add(self, constraint: Any) -> None:
        """Add a constraint."""
        self._problem += constraint

    def minimise(self, objective: Any) -> None:
        """Set the objective; a constant in it would not be part of the outcome."""
        self._problem.setObjective(objective)

    def solve(self, effort: Effort) -> Outcome:
        """Solve, and return how it ended.

        Raises
        ------
        Infeasible
            If no assignment satisfies the constraints.
        NoIncumbent
            If the node limit came before the first feasible assignment.
        """
        solver = self._pulp.HiGHS(
            msg=False,
            threads=1,
            gapRel=effort.gap,
            gapAbs=0.0,
            random_seed=effort.seed,
            mip_max_nodes=effort.nodes,
        )
        with suppress(KeyError):  # PuLP 3.3 at the node limit, see above; the values are set
            self._problem.solve(solver)
        return self._outcome()

    def _outcome(self) -> Outcome:
        from highspy import HighsModelStatus as Status

        highs = self._problem.solverModel
        status = highs.getModelStatus()
        info = highs.getInfo()
        feasible = info.primal_solution_status == 2  # HiGHS: 0 none, 1 infeasible, 2 feasible
        name = self._problem.name
        if status in (Status.kInfeasible, Status.kUnboundedOrInfeasible):
            raise Infeasible(f"{name}: no feasible assignment exists")
        if status == Status.kSolutionLimit and not feasible:
            raise NoIncumbent(
                f"{name}: no feasible assignment found in {info.mip_node_count} nodes; "
                "raise the node limit"
            )
        if not feasible or status not in (Status.kOptimal, Status.kSolutionLimit):
            raise RuntimeError(f"{name}: HiGHS ended with {highs.modelStatusToString(status)!r}")
        objective = info.objective_function_value
        pure_lp = info.mip_node_count < 0  # no integers: no tree, and the optimum is its own bound
        return outcome(
            "optimal" if status == Status.kOptimal else "node limit",
            objective,
            objective if pure_lp else info.mip_dual_bound,
            max(info.mip_node_count, 0),
        )


def value(variable: Any) -> float:
    """Return the value of a variable after a solve, 0 if no constraint mentions it."""
    return float(variable.value() or 0.0)


def whole(variable: Any) -> int:
    """Return the value of an integer variable after a solve."""
    return round(value(variable))
