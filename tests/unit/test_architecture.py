"""Architectures and operator graphs: counts against published figures, and their laws."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cost.memory import kv_bytes_per_token, weight_bytes
from infsim.errors import InputError
from infsim.model import catalog
from infsim.model.architecture import Architecture
from infsim.model.catalog import MODELS, load, load_architecture, load_format, model_from_mapping
from infsim.model.graph import Linear, Operator, OperatorGraph, chain, graph_from_mapping

# From the model cards or the tensor index files on huggingface.co.
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "bloom-176b": 176_247_271_424,
    "bloom-7b1": 7_069_016_064,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "smollm2-135m": 134_515_008,
}
TRANSFORMERS = [name for name in MODELS.names() if MODELS.read(name)["kind"] == "transformer"]

sizes = st.integers(1, 64)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    kv_heads, experts = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    return Architecture(
        name="any",
        layers=draw(st.integers(1, 6)),
        hidden=draw(sizes),
        heads=kv_heads * draw(st.integers(1, 8)),
        kv_heads=kv_heads,
        head_dim=draw(sizes),
        ffn=draw(sizes),
        vocabulary=draw(sizes),
        max_context=draw(sizes),
        gated_ffn=draw(st.booleans()),
        tied_embeddings=draw(st.booleans()),
        experts=experts,
        active_experts=draw(st.integers(1, experts)),
        attention_bias=draw(st.sampled_from(["none", "qkv", "all"])),
        ffn_bias=draw(st.booleans()),
        norm_bias=draw(st.booleans()),
        embedding_norm=draw(st.booleans()),
        head_norm=draw(st.booleans()),
    )


def test_every_transformer_of_the_catalogue_has_a_published_count() -> None:
    assert set(TRANSFORMERS) == set(PUBLISHED)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    assert load_architecture(name).parameters == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("llama-2-70b", 327_680), ("llama-3.1-8b", 131_072), ("bloom-176b", 2 * 70 * 14336 * 2)],
)
def test_kv_bytes_per_token(name: str, expected: int) -> None:
    assert kv_bytes_per_token(load(name).graph.operators, load_format("fp16")) == expected


@settings(deadline=None)
@given(architectures())
def test_the_graph_holds_exactly_the_parameters_of_the_architecture(arch: Architecture) -> None:
    graph = arch.graph()
    assert graph.parameters == arch.parameters
    assert weight_bytes(graph.operators, load_format("fp16")) == 2 * arch.parameters
    assert sum(op.kv_values_per_token for op in graph.operators) == arch.kv_values_per_token


@settings(deadline=None)
@given(architectures())
def test_a_layer_multiplies_with_no_more_weights_than_it_holds(arch: Architecture) -> None:
    graph = arch.graph()
    assert graph.is_chain
    assert len(graph) == arch.layers
    for op in graph.operators:
        assert 0 < op.macs_per_token <= op.parameters
    # what an inactive expert holds is not multiplied
    idle = arch.experts - arch.active_experts
    matrices = (3 if arch.gated_ffn else 2) * arch.hidden * arch.ffn
    layer = graph.operators[0]
    assert layer.macs_per_token + idle * matrices <= layer.parameters


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_matrices_of_a_layer_are_its_multiplications_and_parameters(name: str) -> None:
    for op in load(name).graph.operators:
        used = [m.n * m.k * (op.active_experts if m.expert else 1) for m in op.linears]
        held = [m.n * m.k * (op.experts if m.expert else 1) for m in op.linears]
        assert sum(used) == op.macs_per_token
        assert sum(held) <= op.parameters  # biases and norms are the rest
        assert op.heads * op.head_dim == op.attention_dim
        assert 2 * op.kv_heads * op.head_dim == op.kv_values_per_token


def test_shards_of_a_matrix() -> None:
    assert Linear("qkv", 6144, 4096).shard(4) == (1536, 4096)
    assert Linear("o", 4096, 4096, rows_split=True).shard(4) == (4096, 1024)
    assert Linear("qkv", 10, 4).shard(4) == (3, 4)
    with pytest.raises(InputError, match="at least 1"):
        Linear("qkv", 0, 4)


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_of_the_catalogue_loads_and_states_its_source(name: str) -> None:
    model = load(name)
    assert model.source != "unspecified"
    assert model.generative == (name in TRANSFORMERS)
    assert load(name.upper().replace("-", " ")).name == name


def test_a_misspelt_model_is_told_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"'lama-3\.1-8b'.*did you mean 'llama-3\.1-8b'"):
        load("lama-3.1-8b")


def test_an_image_classifier_is_not_an_architecture() -> None:
    with pytest.raises(InputError, match="'resnet50' is not a transformer"):
        load_architecture("resnet50")


def test_models_of_a_table_of_accuracy_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "accuracy" / "digits"
    folder.mkdir(parents=True)
    (folder / "meta.yaml").write_text("models: {cnn: {parameters: 25866, macs: 551488}}")
    monkeypatch.setattr(catalog, "data_folder", lambda _: tmp_path)
    model = load("digits/cnn")
    assert (model.graph.parameters, model.accuracy_model) == (25866, "cnn")
    assert model.graph.operators[0].macs_per_token == 551_488
    assert not model.generative
    assert catalog.names()[-1] == "digits/cnn"
    with pytest.raises(InputError, match="'digits/cn'; did you mean 'digits/cnn'"):
        load("digits/cn")


def test_tied_embeddings_are_held_once_where_both_ends_are() -> None:
    arch = load_architecture("qwen2.5-0.5b")
    layers, form = arch.graph().operators, load_format("fp16")
    table = 2 * arch.vocabulary * arch.hidden
    apart = weight_bytes(layers[:12], form) + weight_bytes(layers[12:], form)
    assert apart - weight_bytes(layers, form) == table


# --- graphs ---------------------------------------------------------------------------------


@st.composite
def dags(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    n = draw(st.integers(2, 8))
    tree = [(draw(st.integers(0, v - 1)), v) for v in range(1, n)]
    extra = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=6))
    return n, sorted({*tree, *((a, b) for a, b in extra if a < b)})


@settings(deadline=None)
@given(dags(), st.randoms())
def test_any_dag_comes_out_in_topological_order(
    dag: tuple[int, list[tuple[int, int]]], shuffler: object
) -> None:
    n, edges = dag
    names = [f"op{v}" for v in range(n)]
    shuffler.shuffle(names)  # type: ignore[attr-defined]
    graph = graph_from_mapping(
        {name: {"macs": 1, "output_values": 3} for name in sorted(names)},
        [(names[a], names[b]) for a, b in edges],
    )
    assert all(source < target for source, target, _ in graph.edges)
    assert len(graph.edges) == len(edges)
    for i in range(n):
        assert graph.successors(i) == tuple(t for s, t, _ in graph.edges if s == i)
        assert graph.predecessors(i) == tuple(s for s, t, _ in graph.edges if t == i)
    assert graph.is_chain == (
        len(edges) == n - 1 and all(len(graph.successors(i)) <= 1 for i in range(n))
        and all(len(graph.predecessors(i)) <= 1 for i in range(n))
    )  # fmt: skip


def test_an_edge_may_carry_something_else_than_the_operator_sends() -> None:
    graph = graph_from_mapping(
        {"a": {"output_values": 10}, "b": {}, "c": {}}, [["a", "b", 4], ["a", "c"]]
    )
    assert list(graph.edges) == [(0, 1, 4), (0, 2, 10)]
    assert not graph.is_chain


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([["a", "b"], ["b", "a"]], "cycle"),
        ([["a", "b"]], r"2 unconnected parts.*\['c'\]"),
        ([["a", "b"], ["b", "cc"]], "no operator 'cc'; did you mean 'c'"),
        ([["a", "b"], ["a", "b"], ["b", "c"]], "given twice"),
        ([["a"], ["b", "c"]], r"edge \['a'\]: expected"),
        ([["a", "b", -1], ["b", "c"]], "values = -1"),
    ],
)
def test_graphs_that_make_no_sense_are_refused(edges: list[list[object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        graph_from_mapping({"a": {}, "b": {}, "c": {}}, edges)


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"mac": 1}, "unknown key 'mac'; did you mean 'macs'"),
        ({"macs": -1}, "macs_per_token must be finite and not negative, got -1"),
        ({"active_experts": 2}, "active_experts must be between 1 and experts = 1, got 2"),
        ({"expert_parameters": 2, "parameters": 1}, "cannot exceed"),
    ],
)
def test_operators_that_make_no_sense_are_refused(figures: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        graph_from_mapping({"a": figures}, [])


def test_a_graph_needs_operators_of_its_own_kind() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    with pytest.raises(InputError, match="at least one operator"):
        OperatorGraph(graph)
    graph.add_node("a", operator="not one")
    with pytest.raises(InputError, match="'a' carries no Operator"):
        OperatorGraph(graph)
    with pytest.raises(InputError, match="two operators are named 'a'"):
        chain([Operator("a", 1, 1, 1)] * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"heads": 3, "kv_heads": 2}, r"heads \(3\) must be a multiple of kv_heads \(2\)"),
        ({"attention_bias": "some"}, "none, qkv or all, got 'some'"),
    ],
)
def test_impossible_architectures_are_refused(change: dict[str, object], message: str) -> None:
    figures = dict.fromkeys(
        ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocabulary", "max_context"),
        4,
    )
    with pytest.raises(InputError, match=message):
        Architecture("x", **{**figures, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"kind": "transformers"}, "unknown kind 'transformers'; did you mean 'transformer'"),
        ({"kind": "monolithic", "parameters": 1}, "'x'.*'macs'"),
        ({"kind": "transformer", "layer": 1}, "'x'.*'layer'"),
    ],
)
def test_models_that_make_no_sense_are_refused(figures: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model_from_mapping("x", figures)
