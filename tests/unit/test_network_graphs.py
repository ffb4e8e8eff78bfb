"""Graphs of real networks in the formats of the Topology Zoo and of SNDlib."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infsim.cluster.network import Network
from infsim.cluster.networks.geography import Place, city, distances_km
from infsim.cluster.networks.topology import LinkRules, read_topology
from infsim.errors import InputError
from tests.graphs import GML, GRAPHML, LENGTH_S, NATIVE, SNDLIB


def written(folder: Path, text: str, name: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [("n.graphml", GRAPHML), ("n.gml", GML), ("n.xml", SNDLIB), ("n.txt", NATIVE)],
)
def test_all_formats_give_the_same_link(tmp_path: Path, name: str, text: str) -> None:
    rules = LinkRules(unplaced_delay_s=1e-3, route_factor=1.5)
    graph = read_topology(written(tmp_path, text, name), rules)
    link = graph.edges["Paris", "Lyon"]
    assert link["delay_s"] == pytest.approx(1.5 * LENGTH_S, rel=2e-3)
    assert link["bandwidth"] == pytest.approx(5e8)


def test_links_without_place_or_capacity_follow_the_rules(tmp_path: Path) -> None:
    path = written(tmp_path, GRAPHML, "n.graphml")
    with pytest.raises(InputError, match="Lyon - Nowhere has no length, as 'Nowhere' has no coord"):
        read_topology(path)
    graph = read_topology(path, LinkRules(unplaced_delay_s=2e-3, default_bytes_per_s=7.0))
    assert graph.edges["Lyon", "Nowhere"] == {"delay_s": 2e-3, "bandwidth": 7.0}
    network = Network.from_topology(graph, ["Paris", "Nowhere"])
    assert network.delay_s[0, 1] == pytest.approx(LENGTH_S + 2e-3, rel=2e-3)
    assert network.bandwidth[0, 1] == 7.0
    assert (
        read_topology(path, LinkRules(unplaced_delay_s=0.0)).edges["Lyon", "Nowhere"]["bandwidth"]
        == inf
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.csv", "", r"n\.csv is no \.graphml, \.gml, \.xml, \.txt file"),
        ("n.graphml", GRAPHML[:300], "cannot read the graph"),
        ("n.gml", "graph [ node [ id 0", "cannot read the graph"),
        ("n.gml", GML.replace("Lyon", "Paris"), "two vertices are named 'Paris'"),
        ("n.gml", GML.replace("45.76", "145.76"), r"coordinates 4\.84, 145\.76 are not geog"),
        ("n.xml", SNDLIB[:200], "damaged XML"),
        ("n.xml", "<network/>", "the file has no nodes of SNDlib"),
        ("n.xml", SNDLIB.replace(">4000.0<", ">much<"), "'much' is not a number"),
        ("n.xml", SNDLIB.replace("<target>Lyon", "<target>Lion"), "ends at 'Lion'; did you mean"),
        ("n.txt", NATIVE.replace("( 2.35 48.86 )", ""), r"n\.txt:4: 'Paris' is no node"),
        ("n.txt", NATIVE.replace("( Paris Lyon )", ""), r"n\.txt:9: .* is no link"),
        ("n.txt", "nothing", "the file has no section NODES"),
    ],
)
def test_damaged_graphs_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_topology(written(tmp_path, text, name))


# --- the globe ------------------------------------------------------------------------------

places = st.builds(Place, st.floats(-90, 90), st.floats(-180, 180))


@settings(deadline=None)
@given(st.lists(places, min_size=3, max_size=3))
def test_distances_on_the_globe_are_a_metric(points: list[Place]) -> None:
    km = distances_km(points)
    assert km == pytest.approx(km.T)
    assert km.diagonal().tolist() == [0, 0, 0]
    assert (km <= 20_015.2).all()  # half of the circumference
    for k in range(3):
        assert (km <= km[:, [k]] + km[[k], :] + 1e-3).all()


def test_known_distances() -> None:
    # a degree of a great circle, a quarter of the equator, and cities by their published distance
    quarter = distances_km([Place(0, 0), Place(0, 90), Place(1, 0)])
    assert quarter[0, 1] == pytest.approx(10_007.557, abs=1e-3)
    assert quarter[0, 2] == pytest.approx(111.195, abs=1e-3)
    km = distances_km([city("Paris"), city("new york"), city("Tokyo")])
    assert km[0, 1] == pytest.approx(5_837, rel=5e-3)
    assert km[0, 2] == pytest.approx(9_713, rel=5e-3)


def test_places_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match="unknown city 'Pariss'; did you mean 'paris'"):
        city("Pariss")
    with pytest.raises(InputError, match="latitude 91"):
        distances_km([Place(91, 0)])
