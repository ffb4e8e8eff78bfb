"""Policies by name, by file, with checked parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from infsim import registry
from infsim.errors import InputError, Where
from infsim.policy.interface import Router
from infsim.scenario.schema.base import Quantity

MY_FILE = """
from dataclasses import dataclass
from infsim.policy.interface import Router


@dataclass
class Mine(Router):
    "A router of the user's own."
    depth: int = 1

    def route(self, request, view):
        return view.replicas[0]
"""


@pytest.fixture
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    registry.names("routing")  # what is built in stays
    monkeypatch.setitem(registry._classes, "routing", dict(registry._classes["routing"]))


@pytest.fixture
def probe(_clean: None) -> type:
    @registry.register("routing", "probe")
    @dataclass
    class Probe(Router):
        depth: int
        share: float = 0.5
        mode: Literal["fast", "slow"] = "fast"
        weights: tuple[float, ...] = ()
        wait: Annotated[float, Quantity("time")] = 0.0

        def __post_init__(self) -> None:
            if self.depth < 0:
                raise ValueError("depth must not be negative")

        def route(self, request: Any, view: Any) -> Any:
            return view.replicas[self.depth]

    return Probe


def test_create_by_name_with_parameters(probe: type) -> None:
    spec = {"name": "probe", "depth": 2, "share": 1, "weights": [1, 2.5], "wait": "40 ms"}
    made = registry.create("routing", spec)
    assert made == probe(2, 1.0, "fast", (1.0, 2.5), 0.04)
    assert isinstance(made.share, float)


@pytest.mark.parametrize(
    ("spec", "said", "key"),
    [
        ({"name": "probe", "dept": 2}, "no parameter 'dept'; did you mean 'depth'", "dept"),
        ({"name": "probe"}, "needs the parameter 'depth'", None),
        ({"name": "probe", "depth": "2"}, "depth = '2'", "depth"),
        ({"name": "probe", "depth": True}, "depth = True", "depth"),
        ({"name": "probe", "depth": 1.5}, "depth = 1.5", "depth"),
        ({"name": "probe", "depth": 1, "mode": "fats"}, "mode = 'fats'", "mode"),
        ({"name": "probe", "depth": 1, "wait": "4 GiB"}, "not a unit of time", "wait"),
        ({"name": "probe", "depth": -1}, "must not be negative", None),
        ({"depth": 1}, "is not a routing policy", None),
        ("prob", "unknown routing policy 'prob'; did you mean 'probe'", None),
    ],
)
def test_bad_entries_are_refused(probe: type, spec: Any, said: str, key: str | None) -> None:
    with pytest.raises(InputError, match=said) as caught:
        registry.create("routing", spec, where=Where("a.yaml", 3, 1))
    assert str(caught.value).startswith("a.yaml:3:1: ")
    assert caught.value.key == key


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="'ruting'; did you mean 'routing'"):
        registry.names("ruting")


def test_a_class_of_the_user_s_own_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MY_FILE)
    made = registry.create("routing", {"name": "mine.py:Mine", "depth": 4}, base=tmp_path)
    assert type(made).__name__ == "Mine"
    assert made.depth == 4


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MY_FILE)
    assert registry.create("routing", "mine.py:Mine", base=tmp_path).depth == 1
    file.write_text(MY_FILE.replace("depth: int = 1", "depth: int = 9"))
    assert registry.create("routing", "mine.py:Mine", base=tmp_path).depth == 9


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (None, "mine.py:Mine", "no file"),
        (MY_FILE, "mine.py:Mien", "no class 'Mien'.*did you mean 'Mine'"),
        (MY_FILE, "mine.py:Router", "no class 'Router'"),
        ("x = 1\ny = x / 0\n", "mine.py:Mine", r"mine\.py:2: .*ZeroDivisionError"),
        ("x = 1\nclass Mine(:\n", "mine.py:Mine", r"mine\.py:2: .*SyntaxError"),
        ("class Mine: pass\n", "mine.py:Mine", "does not extend infsim.policy.interface.Router"),
        (
            "from infsim.policy.interface import Router\nclass Mine(Router): pass\n",
            "mine.py:Mine",
            "lacks route",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: str | None, name: str, said: str) -> None:
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    with pytest.raises(InputError, match=said):
        registry.create("routing", name, base=tmp_path)


def test_two_classes_cannot_have_one_name(probe: type) -> None:
    with pytest.raises(InputError, match="registered already"):

        @registry.register("routing", "probe")
        class Other(Router):
            def route(self, request: Any, view: Any) -> Any:
                return None


def test_the_same_class_may_be_registered_again(probe: type) -> None:
    # a notebook cell that is executed twice
    assert registry.register("routing", "probe")(probe) is probe


class _EntryPoint:
    """What the metadata of an installed package would give."""

    def load(self) -> type:
        @dataclass
        class Installed(Router):
            def route(self, request: Any, view: Any) -> Any:
                return view.replicas[0]

        return Installed


@pytest.mark.usefixtures("_clean")
def test_entry_points_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda kind: {"installed": _EntryPoint()})
    assert "installed" in registry.names("routing")
    assert type(registry.create("routing", "installed")).__name__ == "Installed"


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_built_in_policies_describe_themselves(kind: str) -> None:
    assert registry.names(kind)
    for name in registry.names(kind):
        policy = registry.lookup(kind, name)
        assert policy.__doc__
        for parameter in registry.parameters(policy):
            assert parameter.name


@pytest.mark.usefixtures("_clean")
def test_parameters_may_have_units() -> None:
    @registry.register("routing", "timed")
    @dataclass
    class Timed(Router):
        """Knows a time, a rate and a size."""

        wait_s: float | None = None
        limit_per_s: float = 1.0
        cache_bytes: float = 0.0

        def route(self, request: Any, view: Any) -> Any:
            return view.replicas[0]

    spec = {
        "name": "timed",
        "wait_s": "40 ms",
        "limit_per_s": "120 /min",
        "cache_bytes": "2 KiB",
    }
    assert registry.create("routing", spec) == Timed(0.04, 2.0, 2048.0)
    assert registry.create("routing", {"name": "timed", "wait_s": 0.04}) == Timed(0.04)
    with pytest.raises(InputError, match=r"wait_s = '40 GB': .*time"):
        registry.create("routing", {"name": "timed", "wait_s": "40 GB"})
