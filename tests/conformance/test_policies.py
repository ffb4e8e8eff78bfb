"""Every policy that ships keeps the laws."""

import pytest

from infsim import registry
from infsim.testing import check_policy

SHIPPED = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
PARAMETERS: list[tuple[str, dict[str, object]]] = [
    ("routing", {"name": "least-loaded", "by": "tokens"}),
    ("routing", {"name": "power-of-two", "d": 3, "by": "tokens"}),
    ("routing", {"name": "greedy-latency", "output_tokens": 0}),
    ("routing", {"name": "kv-affinity", "balance_requests": 2, "sticky": False}),
    ("batching", {"name": "continuous", "token_budget": 37, "max_sequences": 3}),
    ("batching", {"name": "static", "batch_size": 3, "max_wait_s": 0.7}),
    ("recovery", {"name": "replay", "max_losses": 2}),
    ("recovery", {"name": "restart", "max_losses": 0}),
]


def test_every_kind_has_policies() -> None:
    assert {kind for kind, _ in SHIPPED} == set(registry.KINDS)


@pytest.mark.parametrize(("kind", "name"), SHIPPED, ids=lambda value: str(value))
def test_laws(kind: str, name: str) -> None:
    check_policy(kind, name)


@pytest.mark.parametrize(("kind", "spec"), PARAMETERS, ids=lambda value: str(value))
def test_laws_with_parameters(kind: str, spec: dict[str, object]) -> None:
    # the engines are compared with the defaults above
    check_policy(kind, spec, experiments=["replicas", "volatile mesh"], reference=False)
