"""Check any policy, a user's own included, against the laws.

>>> from infsim.testing import check_policy
>>> check_policy("routing", "least-loaded")  # doctest: +SKIP
>>> check_policy("routing", "my_policies.py:Nearest")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from infsim import registry
from infsim.engine.experiment import Experiment
from infsim.errors import PolicyError
from infsim.results.recorder import RunRecord
from infsim.testing import laws
from infsim.testing.experiments import EXPERIMENTS, SUITED
from infsim.testing.variants import FACTOR, renamed, scaled, with_outputs
from infsim.testing.watch import EndlessError, Watch, watched
from infsim.workload.given import Given

SLOTS: Mapping[str, str] = {
    "routing": "router",
    "batching": "batching",
    "delivery": "delivery",
    "recovery": "recovery",
}


def check_policy(
    kind: str,
    policy: Any,
    *,
    base: Path | None = None,
    experiments: Sequence[str] | None = None,
    reference: bool = True,
) -> None:
    """Run a policy through small experiments and check every law that it could break.

    Parameters
    ----------
    kind : str
        ``routing``, ``batching``, ``delivery``, ``recovery`` or ``placement``.
    policy : str, mapping, type or object
        As in a scenario (``"least-loaded"``, ``{"name": "static", "batch_size": 4}``,
        ``"my_policies.py:Nearest"``), or a class, or an object (it is copied for each run).
    base : Path, optional
        The folder that file names are relative to.
    experiments : sequence of str, optional
        Names of the experiments to use, of those in `infsim.testing.experiments` (for a
        placement: of the tasks in `infsim.testing.placement`); default those in which the kind
        has something to decide.
    reference : bool
        Whether to compare with the reference engine, which takes most of the time.

    Raises
    ------
    AssertionError
        If the policy breaks a law; says which, where, and what was expected.
    PolicyError
        If the policy raises, or answers what it must not.
    InputError
        If there is no such policy.
    """
    subject = Subject(kind, policy, base)
    if kind == "placement":
        from infsim.testing.placement import check_plans

        check_plans(subject.name, subject.policy, experiments, reference=reference)
        return
    for name in experiments if experiments is not None else SUITED[kind]:
        with _context(subject, name):
            subject.check(name, EXPERIMENTS[name], reference)


def check_routing(policy: Any, **options: Any) -> None:
    """Check a routing policy; see `check_policy`."""
    check_policy("routing", policy, **options)


def check_batching(policy: Any, **options: Any) -> None:
    """Check a batching policy; see `check_policy`."""
    check_policy("batching", policy, **options)


def check_delivery(policy: Any, **options: Any) -> None:
    """Check a delivery policy; see `check_policy`."""
    check_policy("delivery", policy, **options)


def check_recovery(policy: Any, **options: Any) -> None:
    """Check a recovery policy; see `check_policy`."""
    check_policy("recovery", policy, **options)


def check_placement(policy: Any, **options: Any) -> None:
    """Check a placement policy; see `check_policy`."""
    check_policy("placement", policy, **options)


class Subject:
    """A policy that is being checked.

    Attributes
    ----------
    name : str
        For messages.
    policy : object
        Never run itself, only copies of it are.
    """

    def __init__(self, kind: str, policy: Any, base: Path | None) -> None:
        self.kind = kind
        if isinstance(policy, str | Mapping):
            self.name = policy if isinstance(policy, str) else str(policy.get("name"))
            self.policy = registry.create(kind, policy, base=base)
        else:
            self.policy = policy() if isinstance(policy, type) else policy
            self.name = type(self.policy).__name__

    def check(self, name: str, make: Callable[[], Experiment], reference: bool) -> None:
        """Check all laws in one experiment."""
        experiment = self._in(make(), self.policy)
        watch, again = Watch(), Watch()
        record = self._run(experiment, watch)
        self._require("L1", name, laws.conserved(record, experiment))
        self._require("L2", name, laws.causal(record))
        self._require("L3", name, laws.bounded(record))
        self._require("L9", name, laws.powered(record, experiment))
        second = self._guarded_run(experiment, again, name)
        self._require("L5", name, laws.same_bytes(record, second))
        self._check_foresight(name, experiment, record, watch)
        slow = self._run(scaled(experiment, FACTOR), Watch())
        whose = ("as expected", "with all times doubled")
        self._require("L7", name, laws.same_results(record, slow, whose, FACTOR))
        other = self._run(renamed(experiment), Watch())
        whose = ("at first", "with other names")
        self._require("L8", name, laws.same_results(record, other, whose))
        if reference:
            expected = self._run(experiment, Watch(), engine="reference")
            whose = ("in the reference engine", "in the fast engine")
            self._require("L10", name, laws.same_results(expected, record, whose))

    def _in(self, experiment: Experiment, policy: Any) -> Experiment:
        changed: dict[str, Any] = {SLOTS[self.kind]: policy}
        return replace(experiment, **changed)

    def _run(
        self,
        experiment: Experiment,
        watch: Watch,
        *,
        guarded: bool = False,
        engine: Literal["fast", "reference"] = "fast",
    ) -> RunRecord:
        from infsim.engine.simulation import simulate

        policy = getattr(experiment, SLOTS[self.kind])
        copied = watched(policy, self.name, watch, guarded=guarded)
        return simulate(self._in(experiment, copied), engine=engine)

    def _guarded_run(self, experiment: Experiment, watch: Watch, name: str) -> RunRecord:
        """Run with views that hide everything but what they declare."""
        try:
            record = self._run(experiment, watch, guarded=True)
        except PolicyError:
            self._require("L6", name, laws.unpeeked(watch))  # a peek explains the error
            raise
        self._require("L6", name, laws.unpeeked(watch))
        return record

    def _check_foresight(
        self, name: str, experiment: Experiment, record: RunRecord, watch: Watch
    ) -> None:
        """Make outputs longer that end late in the run; earlier decisions must stay the same."""
        assert isinstance(experiment.workload, Given)
        ends = record.requests["end_s"]
        middle = float(np.nanmedian(ends))
        # the last token is made earlier than it reaches the client
        late = ~(ends <= middle + experiment.cluster.network.delay_s.max())
        outputs = experiment.workload.requests.output_tokens
        # by very different amounts, so that an order by output length changes
        longer = np.where(late, outputs + 1 + 53 * (np.arange(len(outputs)) % 3), outputs)
        other = Watch()
        self._run(with_outputs(experiment, longer), other)
        self._require("L6", name, laws.same_decisions(watch, other, middle))

    def _require(self, law: str, experiment: str, complaints: Iterable[str]) -> None:
        found = list(islice(complaints, 3))
        if found:
            raise AssertionError(
                f"{self.kind} policy {self.name!r} breaks {law} ({laws.LAWS[law]}) in the"
                f" experiment {experiment!r}: {'; '.join(found)}"
            )


@contextmanager
def _context(subject: Subject, experiment: str) -> Iterator[None]:
    """Say in which experiment a policy failed."""
    try:
        yield
    except PolicyError as error:
        if isinstance(error.__cause__, EndlessError):
            raise AssertionError(
                f"{subject.kind} policy {subject.name!r} makes no progress in the experiment"
                f" {experiment!r}: {error.__cause__}"
            ) from error
        error.add_note(f"in the experiment {experiment!r} of infsim.testing.experiments")
        raise
