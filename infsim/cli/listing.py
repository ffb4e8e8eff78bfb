"""The command ``list``: what a scenario can name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated

import typer

from infsim.cli.main import command

Row = tuple[str, ...]


class What(StrEnum):
    """What can be listed."""

    policies = "policies"
    models = "models"
    formats = "formats"
    devices = "devices"
    traces = "traces"
    churn = "churn"
    energy = "energy"
    access = "access"
    accuracy = "accuracy"
    scenarios = "scenarios"


@command("list")
def list_(
    what: Annotated[What, typer.Argument(help="What to list.")],
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List what a scenario can name."""
    header, rows = _LISTS[what]()
    found = list(rows)
    if json:
        from json import dumps

        data = [dict(zip(header, row, strict=True)) for row in found]
        print(dumps(data, indent=2, ensure_ascii=False))
        return
    print(_aligned([header, *found]))


def _aligned(rows: list[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _policies() -> tuple[Row, Iterable[Row]]:
    from infsim import registry

    def rows() -> Iterable[Row]:
        for kind in registry.KINDS:
            for name in registry.names(kind):
                policy = registry.lookup(kind, name)
                given = ", ".join(
                    p.name if p.default is None else f"{p.name}={p.default}"
                    for p in registry.parameters(policy)
                )
                yield kind, name, given, _first_line(policy)

    return ("kind", "name", "parameters", "about"), rows()


def _first_line(policy: type) -> str:
    lines = (policy.__doc__ or "").strip().splitlines()
    return lines[0] if lines else ""


def _models() -> tuple[Row, Iterable[Row]]:
    from infsim.model.catalog import MODELS
    from infsim.units import format_quantity

    def rows() -> Iterable[Row]:
        from infsim.model.catalog import load

        for name in MODELS.names():
            operators = load(name).graph.operators
            weights = sum(
                op.parameters + op.head_parameters + op.extra_parameters - op.tied_parameters
                for op in operators
            )
            yield name, MODELS.read(name)["kind"], format_quantity(weights, "count")

    return ("name", "kind", "parameters"), rows()


def _formats() -> tuple[Row, Iterable[Row]]:
    from infsim.model.catalog import FORMATS, load_format

    formats = [load_format(name) for name in FORMATS.names()]
    rows = (
        (f.name, f"{f.weight_bits:g}", f"{f.kv_bits:g}", f.compute, f"{f.density:g}")
        for f in formats
    )
    return ("name", "weight bits", "KV bits", "computes in", "density"), rows


def _devices() -> tuple[Row, Iterable[Row]]:
    from infsim.cluster.device import DEVICES, load_device
    from infsim.units import format_quantity

    def rows() -> Iterable[Row]:
        for name in DEVICES.names():
            device = load_device(name)
            yield (
                name,
                format_quantity(device.memory_bytes, "memory"),
                f"{device.bandwidth_bytes_per_s / 1e9:.0f} GB/s",
                ", ".join(device.peak_flops),
                format_quantity(device.active_w, "power"),
            )

    return ("name", "memory", "bandwidth", "number types", "power"), rows()


def _traces() -> tuple[Row, Iterable[Row]]:
    from infsim.paths import data_file, data_names
    from infsim.scenario.schema.workload import TRACE_SUFFIXES
    from infsim.workload.profile import load_profile

    def rows() -> Iterable[Row]:
        for name in data_names("traces", TRACE_SUFFIXES):
            path = data_file("traces", name, TRACE_SUFFIXES)
            is_profile = path.suffix == ".yaml"
            about = f"like: {load_profile(path).source['trace']}" if is_profile else path.name
            yield name, about

    return ("name", "about"), rows()


def _churn() -> tuple[Row, Iterable[Row]]:
    from infsim.cluster.churn.profile import FOLDER, SUFFIXES, load_profile
    from infsim.paths import data_file, data_names

    def rows() -> Iterable[Row]:
        for name in data_names(FOLDER, SUFFIXES):
            yield name, f"like: {load_profile(data_file(FOLDER, name, SUFFIXES)).source['trace']}"

    return ("name", "about"), rows()


def _energy() -> tuple[Row, Iterable[Row]]:
    from infsim.cluster.electricity_profile import load_electricity
    from infsim.paths import data_file, data_names

    def rows() -> Iterable[Row]:
        for kind in ("carbon", "price"):
            folder = f"traces/energy/{kind}"
            for name in data_names(folder, (".yaml",)):
                profile = load_electricity(data_file(folder, name, (".yaml",)))
                years = f"{min(profile.years)}-{max(profile.years)}"
                yield kind, name, profile.unit, years, str(profile.source.get("data", ""))

    return ("kind", "name", "unit", "years", "like"), rows()


def _access() -> tuple[Row, Iterable[Row]]:
    from infsim.cluster.networks.access import BYTES_PER_MBIT, access_classes

    rows = (
        (
            kind.name,
            f"{kind.down_bytes_per_s / BYTES_PER_MBIT:g} Mbit/s",
            f"{kind.up_bytes_per_s / BYTES_PER_MBIT:g} Mbit/s",
            f"{kind.down_sigma:g}",
            kind.source,
        )
        for kind in access_classes().values()
    )
    return ("name", "down", "up", "sigma down", "source"), rows


def _accuracy() -> tuple[Row, Iterable[Row]]:
    from infsim.paths import data_folder
    from infsim.scenario.build.accuracy import FOLDER

    return ("name",), ((path.name,) for path in sorted(data_folder(FOLDER).glob("*/")))


def _scenarios() -> tuple[Row, Iterable[Row]]:
    from infsim.paths import data_names
    from infsim.scenario.load import SUFFIXES, load

    names = data_names("scenarios", SUFFIXES)
    return ("name", "question"), ((name, load(name).spec.question or "") for name in names)


_LISTS: dict[What, Callable[[], tuple[Row, Iterable[Row]]]] = {
    What.policies: _policies,
    What.models: _models,
    What.formats: _formats,
    What.devices: _devices,
    What.traces: _traces,
    What.churn: _churn,
    What.energy: _energy,
    What.access: _access,
    What.accuracy: _accuracy,
    What.scenarios: _scenarios,
}
