"""What each batching policy answers when the view is known."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infsim.policy.batching.continuous import Continuous
from infsim.policy.batching.static import Static
from infsim.policy.interface import Iteration
from infsim.testing.views import BatchSight, Prompt

lengths = st.lists(st.integers(1, 300), max_size=8)


def prompts(sizes: Sequence[int]) -> list[Prompt]:
    return [Prompt(size) for size in sizes]


def tokens(iteration: Iteration) -> list[int]:
    return [count for _, count in iteration.chunks]


class TestContinuous:
    def test_decodes_then_unfinished_then_waiting(self) -> None:
        view = BatchSight(
            waiting=prompts([300, 500, 40]), prefilling=prompts([250]), decoding=50, running=51
        )
        iteration = Continuous(token_budget=1000).plan(view)
        assert iteration.decode
        assert [prompt for prompt, _ in iteration.chunks] == [*view.prefilling, *view.waiting[:2]]
        assert tokens(iteration) == [250, 300, 400]

    def test_no_prompt_overtakes_one_that_does_not_fit(self) -> None:
        view = BatchSight(waiting=prompts([100, 900, 10]), free_tokens=500)
        assert tokens(Continuous().plan(view)) == [100]

    def test_sequences_are_limited(self) -> None:
        view = BatchSight(waiting=prompts([10] * 5), running=3)
        assert tokens(Continuous(max_sequences=5).plan(view)) == [10, 10]

    def test_decodes_may_use_the_whole_budget(self) -> None:
        view = BatchSight(waiting=prompts([10]), prefilling=prompts([20]), decoding=64, running=65)
        assert Continuous(token_budget=64).plan(view) == Iteration()

    @given(lengths, lengths, st.integers(0, 100), st.integers(1, 600), st.integers(0, 900))
    def test_laws(
        self, waiting: list[int], started: list[int], decoding: int, budget: int, free: int
    ) -> None:
        view = BatchSight(
            prompts(waiting), prompts(started), decoding, decoding + len(started), free_tokens=free
        )
        policy = Continuous(budget, max_sequences=12)
        iteration = policy.plan(view)
        spent = decoding + sum(tokens(iteration))
        assert spent <= max(budget, decoding)
        assert all(0 < count <= prompt.remaining_tokens for prompt, count in iteration.chunks)
        named = [prompt for prompt, _ in iteration.chunks]
        everyone = [*view.prefilling, *view.waiting]
        assert named == everyone[: len(named)]  # in order, without gaps
        admitted = [prompt for prompt in named if prompt in view.waiting]
        assert sum(prompt.remaining_tokens for prompt in admitted) <= free
        assert not admitted or view.running + len(admitted) <= 12
        if len(named) < len(everyone) and spent < budget:  # work conserving
            blocked = everyone[len(named)]
            assert blocked in view.waiting
            assert view.running + len(admitted) >= 12 or not view.fits(admitted, blocked)

    @pytest.mark.parametrize(
        ("micro_batches", "running", "limit"), [(None, 9, 3), (None, 10, 4), (5, 10, 2), (1, 7, 7)]
    )
    def test_pipelines_run_several_batches(
        self, micro_batches: int | None, running: int, limit: int
    ) -> None:
        view = BatchSight(waiting=prompts([90]), decoding=7, running=running, stages=3)
        iteration = Continuous(64, micro_batches=micro_batches).plan(view)
        assert iteration.decode_limit == limit
        assert tokens(iteration) == [64 - limit]

    @pytest.mark.parametrize("name", ["token_budget", "max_sequences", "micro_batches"])
    def test_bad_parameters(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            Continuous(**{name: 0})


class TestStatic:
    policy = Static(batch_size=3, max_wait_s=2.0)

    def test_waits_for_a_full_batch(self) -> None:
        view = BatchSight(waiting=[Prompt(5, queued_s=1.0), Prompt(7, queued_s=1.5)], now=1.5)
        assert self.policy.plan(view) == Iteration(wake_s=3.0)

    def test_starts_when_full(self) -> None:
        view = BatchSight(waiting=prompts([5, 7, 9, 11]))
        assert tokens(self.policy.plan(view)) == [5, 7, 9]

    @pytest.mark.parametrize("now", [3.0, 3.0 - 4e-16, 10.0])
    def test_starts_when_the_first_has_waited(self, now: float) -> None:
        view = BatchSight(waiting=[Prompt(5, queued_s=1.0)], now=now)
        assert tokens(self.policy.plan(view)) == [5]

    def test_nobody_joins_a_running_batch(self) -> None:
        view = BatchSight(waiting=prompts([5] * 9), decoding=1, running=1)
        assert self.policy.plan(view) == Iteration(decode=True)

    def test_prompts_are_finished_before_decoding(self) -> None:
        view = BatchSight(waiting=prompts([5]), prefilling=prompts([6, 7]), decoding=1, running=3)
        iteration = self.policy.plan(view)
        assert tokens(iteration) == [6, 7]
        assert not iteration.decode

    def test_a_batch_that_does_not_fit_is_smaller(self) -> None:
        view = BatchSight(waiting=prompts([5, 7, 9]), free_tokens=12)
        assert tokens(self.policy.plan(view)) == [5, 7]

    def test_after_a_preemption_nothing_waits(self) -> None:
        assert self.policy.plan(BatchSight()) == Iteration()

    def test_bad_parameters(self) -> None:
        with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
            Static(batch_size=0)
        with pytest.raises(ValueError, match=r"max_wait_s must not be negative, got -1\.0"):
            Static(max_wait_s=-1.0)
