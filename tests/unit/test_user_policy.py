"""A policy of the user's own, from a file next to the scenario."""

from pathlib import Path

import pytest

from infsim import registry
from infsim.errors import InputError, PolicyError
from infsim.testing import check_policy

NEAREST = '''\
from dataclasses import dataclass

from infsim.policy.interface import Router


@dataclass
class Nearest(Router):
    """Send to the nearest replica that is not too busy."""

    busy: int = 8

    def route(self, request, view):
        idle = [r for r in view.replicas if r.waiting + r.running < self.busy]
        return min(idle or view.replicas, key=lambda replica: replica.delay_s)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(NEAREST)
    return tmp_path


@pytest.mark.parametrize("spec", ["mine.py:Nearest", {"name": "mine.py:Nearest", "busy": 3}])
def test_it_passes_the_kit(folder: Path, spec: str | dict[str, object]) -> None:
    check_policy("routing", spec, base=folder)


def test_its_parameters_are_checked(folder: Path) -> None:
    with pytest.raises(InputError, match="no parameter 'bussy'; did you mean 'busy'"):
        registry.create("routing", {"name": "mine.py:Nearest", "bussy": 3}, base=folder)
    with pytest.raises(InputError, match="busy = 'many'"):
        registry.create("routing", {"name": "mine.py:Nearest", "busy": "many"}, base=folder)


def test_a_wrong_class_name(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no class 'Nearset'.*did you mean 'Nearest'"):
        check_policy("routing", "mine.py:Nearset", base=folder)


def test_a_wrong_kind(folder: Path) -> None:
    with pytest.raises(InputError, match=r"does not extend infsim\.policy.interface\.Batching"):
        check_policy("batching", "mine.py:Nearest", base=folder)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return view.replica[0]", "AttributeError.*replica"),
        ("return request", "must return one of view.replicas"),
        ("return None", "must return one of view.replicas"),
        ("raise KeyError(request.request_id)", "KeyError: 0"),
    ],
)
def test_an_error_names_policy_and_request(tmp_path: Path, body: str, reason: str) -> None:
    head, _, _ = NEAREST.partition("        idle =")
    (tmp_path / "wrong.py").write_text(f"{head}        {body}\n")
    with pytest.raises(PolicyError, match=reason) as caught:
        check_policy("routing", "wrong.py:Nearest", base=tmp_path)
    assert (caught.value.policy, caught.value.request_id) == ("wrong.py:Nearest", 0)
