"""Electricity in a scenario: files, profiles, negative prices and currencies, to the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import infsim
from infsim.cluster.node import Site
from infsim.errors import InputError
from infsim.scenario.build import build_experiment
from infsim.scenario.build.roster import ONLY_REGION
from infsim.scenario.load import load

BASE: dict[str, Any] = {
    "name": "small",
    "model": "llama-3.1-8b",
    "cluster": {"nodes": [{"name": "gpu", "device": "a100-80gb"}]},
    "workload": {
        "arrivals": {"rate": "2 /s"},
        "lengths": {"input": 200, "output": 50},
        "requests": 20,
    },
    "output": {"figures": []},
}
PRICES = "Datetime (UTC),Price (EUR/MWh)\n2024-01-01 00:00:00,-120\n2024-01-01 01:00:00,80\n"


def scenario(energy: Any = None, regions: Any = None) -> dict[str, Any]:
    cluster = dict(BASE["cluster"])
    if regions:
        cluster["regions"] = regions
        cluster["network"] = {"between_rtt": "10 ms"}
        cluster["nodes"] = [
            {"name": f"gpu-{name}", "device": "a100-80gb", "region": name} for name in regions
        ]
    return BASE | {"cluster": cluster} | ({"energy": energy} if energy else {})


def sites(data: dict[str, Any], replication: int = 0) -> dict[str, Site]:
    loaded = load(data)
    built = build_experiment(loaded, loaded.alternatives()[0], replication)
    return dict(built.cluster.sites)


def results(data: dict[str, Any], engine: Any = "fast") -> dict[str, float]:
    study = infsim.run(data, engine=engine)
    metrics = study.observations.metrics
    return {name: study.observations.estimate("small", name).value for name in metrics}


# --- prices ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_negative_price_gives_a_negative_cost(engine: str, tmp_path: Path) -> None:
    constant = results(scenario({"price": "-120 EUR/MWh"}), engine)
    assert constant["energy_cost"] == pytest.approx(-0.12 * constant["energy_j"] / 3.6e6)
    (tmp_path / "prices.csv").write_text(PRICES)
    series = {"file": str(tmp_path / "prices.csv")}
    assert results(scenario({"price": series}), engine) == pytest.approx(constant)


def test_the_price_of_each_hour_counts(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(PRICES)
    price = {"file": str(tmp_path / "prices.csv"), "start": "2024-01-01T00:59:55"}
    found = results(scenario({"price": price}))
    rate = found["energy_cost"] / (found["energy_j"] / 3.6e6)
    assert -0.12 < rate < 0.08  # five seconds at the one, the others at the other


def test_a_cost_needs_the_prices_of_all_regions() -> None:
    some = {"a": {"price": "0.2 EUR/kWh"}, "b": {}}
    assert "energy_cost" not in results(scenario(regions=some))
    assert "energy_cost" in results(scenario({"price": "0.1 EUR/kWh"}, some))


def test_prices_in_two_currencies_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"regions\.b\.price: price is in USD, that of region 'a' in"
    ):
        sites(scenario(regions={"a": {"price": "0.2 EUR/kWh"}, "b": {"price": "0.2 USD/kWh"}}))
    with pytest.raises(InputError, match="in USD"):
        sites(scenario(regions={"a": {"price": "0.2 EUR/kWh"}, "b": {"price": {"profile": "fr"}}}))
    sites(scenario(regions={"a": {"price": "0.2 EUR/kWh"}, "b": {"price": "0.2 /kWh"}}))


def test_a_price_keeps_its_sign_and_currency_when_it_is_written_out() -> None:
    data = scenario({"price": "-30 EUR/MWh"})
    written = load(data).to_dict()
    assert written["energy"]["price"] == "-0.03 EUR/kWh"
    assert load(written).to_dict() == written
    assert sites(written)[ONLY_REGION].price.at(0) == -0.03


# --- profiles -------------------------------------------------------------------------------


def test_regions_of_one_profile_see_the_same_series() -> None:
    fr, de = {"profile": "fr"}, {"profile": "de", "year": 2022}
    found = sites(scenario(regions={"a": {"carbon": fr}, "b": {"carbon": fr}, "c": {"carbon": de}}))
    hours = [3600.0 * h for h in range(8784)]
    a, b, c = ([found[name].carbon.at(t) for t in hours] for name in "abc")
    assert a == b
    assert sum(a) / len(a) == pytest.approx(31.3, rel=0.01)  # France, 2024
    assert sum(c[:8760]) / 8760 == pytest.approx(478, rel=0.01)  # Germany, 2022


def test_replications_differ_and_a_start_does_not_change_the_year() -> None:
    data = scenario({"carbon": {"profile": "pl"}, "price": {"profile": "de-lu"}})
    one, again, other = sites(data), sites(data), sites(data, replication=1)
    hours = [3600.0 * h for h in range(100)]

    def shown(found: dict[str, Site]) -> list[float]:
        (site,) = found.values()
        return [site.carbon.at(t) for t in hours] + [site.price.at(t) for t in hours]

    assert shown(one) == shown(again) != shown(other)
    july = sites(scenario({"carbon": {"profile": "pl", "start": "2024-07-01"}}))
    (site,), (whole,) = july.values(), one.values()
    day_s = (31 + 29 + 31 + 30 + 31 + 30) * 86400.0
    assert site.carbon.at(100.0) == whole.carbon.at(day_s + 100.0)
    assert whole.price.currency == "USD"


@pytest.mark.parametrize(
    ("energy", "said"),
    [
        ({"carbon": {"profile": "de-l"}}, r"energy\.carbon\.profile: .*ships de, fr, gb"),
        ({"price": {"profile": "d-lu"}}, "did you mean 'de-lu'"),
        (
            {"price": {"profile": "fr", "year": 2020}},
            r"energy\.price.*does not know 2020, but 2023",
        ),
        ({"price": {"profile": "fr", "start": "July"}}, r"energy\.price\.start"),
        ({"price": {"fil": "x"}}, r"energy\.price.*'fil'; did you mean 'file'"),
        ({"carbon": "-5 g/kWh"}, "negative"),
        ({"price": "5 g/kWh"}, "not a unit of price"),
    ],
)
def test_mistakes_are_told_with_their_place(energy: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        sites(scenario(energy))


def test_a_wrong_zone_or_unit_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(PRICES.replace(" (EUR/MWh)", ""))
    entry: dict[str, Any] = {"file": str(tmp_path / "prices.csv"), "unit": "EUR/MW"}
    with pytest.raises(
        InputError, match=r"energy\.price\.unit: 'EUR/MW' is not a unit of price; did"
    ):
        sites(scenario({"price": entry}))
    entry |= {"unit": "EUR/MWh", "zone": "Europe/Berln"}
    with pytest.raises(InputError, match=r"energy\.price\.zone: .*did you mean 'Europe/Berlin'"):
        sites(scenario({"price": entry}))
    entry |= {"zone": "Europe/Berlin", "columns": {"value": "Price"}}
    assert sites(scenario({"price": entry}))[ONLY_REGION].price.at(0) == -0.12


def test_files_and_profiles_are_inputs_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(PRICES)
    energy = {"price": {"file": str(tmp_path / "prices.csv")}, "carbon": {"profile": "us-cal-ciso"}}
    study = infsim.run(scenario(energy))
    names = {Path(entry["path"]).name for entry in study.setup.inputs}
    assert {"prices.csv", "us-cal-ciso.yaml"} <= names


def test_the_table_of_nodes_has_the_cost() -> None:
    study = infsim.run(scenario({"price": "0.1 EUR/kWh"}))
    nodes = study.nodes()
    assert nodes["energy_cost"] == pytest.approx(0.1 * nodes["energy_j"] / 3.6e6)
