"""ServeGen data: rates, burstiness and lengths of each client, and damage named with its place."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from infsim.errors import InputError
from infsim.rng import Streams
from infsim.scenario.build import build_experiment
from infsim.scenario.load import load
from infsim.study.inputs import input_files
from infsim.workload.blocks import read_all
from infsim.workload.closed_loop import ClosedLoop
from infsim.workload.servegen import WindowedRenewal, open_servegen
from infsim.workload.transform import Limit
from tests.shared_data import shared

TRACE = """0,5,1,Gamma,1,0.2
600,0,0,,0,0
1200,20,3,Gamma,0.111111,0.45
1800,10,0.5,Weibull,2.1013,0.1129
"""

LENGTHS = {
    "0": {"input_tokens": "{10: 0.5, 20: 0.5}", "output_tokens": "{7: 1.0}", "reason_ratio": "{}"},
    "1200": {"input_tokens": "{}", "output_tokens": "{8: 0.25, 9: 0.75}"},
}


def write(folder: Path, chunk: int, trace: str = TRACE, lengths: object = LENGTHS) -> None:
    (folder / f"chunk-{chunk}-trace.csv").write_text(trace)
    (folder / f"chunk-{chunk}-dataset.json").write_text(json.dumps(lengths))


def test_each_window_has_its_rate_and_lengths(tmp_path: Path) -> None:
    write(tmp_path, 2)
    write(tmp_path, 10)
    write(tmp_path, 0, trace="0,0,0,,0,0\n600,0,0,,0,0\n")
    workload = open_servegen(tmp_path)
    assert len(workload.parts) == 2
    requests = read_all(workload.blocks(Streams(1)))
    counts = np.histogram(requests.arrival_s, [0, 600, 1200, 1800, 2400])[0]
    # two clients; the error of a count is that of a renewal process: its CV times a root
    for count, (rate, cv) in zip(counts, ((5, 1), (0, 0), (20, 3), (10, 0.5)), strict=True):
        assert abs(count - 1200 * rate) <= 4 * cv * (1200 * rate) ** 0.5
    late = requests.arrival_s >= 1200
    assert set(requests.output_tokens[~late].tolist()) == {7}
    assert (requests.output_tokens[late] == 9).mean() == pytest.approx(0.75, abs=0.02)
    # a segment without lengths keeps those of the one before
    assert (requests.input_tokens[late] == 10).mean() == pytest.approx(0.5, abs=0.02)
    assert (np.diff(requests.arrival_s) >= 0).all()


@pytest.mark.parametrize(
    ("family", "shape", "cv"), [("Gamma", 0.25, 2.0), ("Weibull", 2.0, 0.5227)]
)
def test_gaps_have_the_mean_and_cv_of_their_family(family: str, shape: float, cv: float) -> None:
    arrivals = WindowedRenewal(1000.0, [50.0] * 4, [family] * 4, [shape] * 4)
    gaps = np.diff(np.concatenate(list(arrivals.times(Streams(2), 1000))))
    assert gaps.mean() * 50 == pytest.approx(1, abs=4 * cv / len(gaps) ** 0.5)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_blocks_do_not_change_the_arrivals() -> None:
    arrivals = WindowedRenewal(60.0, [3.0, 0.0, 9.0], ["Gamma"] * 3, [0.5] * 3)
    parts = [np.concatenate(list(arrivals.times(Streams(5), size))) for size in (1, 100, 10_000)]
    assert parts[0].tolist() == parts[1].tolist() == parts[2].tolist()


@pytest.mark.parametrize(
    ("trace", "lengths", "parts"),
    [
        ("0,5,1,Gamma,1\n", LENGTHS, ["trace.csv:1:", "5 fields instead of 6"]),
        ("0,5,1,Gamma,1,1\n", LENGTHS, ["1 windows"]),
        (TRACE.replace("1800,", "1900,"), LENGTHS, [":4:", "1900.0 s", "equally long"]),
        (TRACE.replace("600,0", "600,-1"), LENGTHS, [":2:", "rate -1.0"]),
        (TRACE.replace("20,3", "x,3"), LENGTHS, [":3:", "rate is 'x', not a number"]),
        (TRACE.replace("Weibull", "Weibul"), LENGTHS, [":4:", "did you mean 'Weibull'"]),
        (TRACE, [], ["dataset.json", "start in seconds"]),
        (TRACE, {"0": {"input_tokens": "{}", "output_tokens": "{5: 1}"}}, ["no segment has"]),
        (TRACE, {"0": {"input_tokens": "{5: a}"}}, ["0.input_tokens", "'5: a'"]),
        (TRACE, {"0": {"input_tokens": "{0: 1}"}}, ["0.input_tokens", "from 0 to 0 tokens"]),
        (TRACE, {"0": {"input_tokens": 5}}, ["0.input_tokens", "'5' is not a table"]),
    ],
)
def test_damaged_data_are_refused(
    tmp_path: Path, trace: str, lengths: object, parts: list[str]
) -> None:
    write(tmp_path, 1, trace, lengths)
    with pytest.raises(InputError) as error:
        open_servegen(tmp_path)
    for part in parts:
        assert part in str(error.value)


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no files chunk"):
        open_servegen(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        open_servegen(tmp_path / "absent")


def packed(folder: Path, archive: Path, inside: str) -> Path:
    with tarfile.open(archive, "a") as tar:
        for file in sorted(folder.glob("chunk-*")):
            tar.add(file, f"{inside}/{file.name}")
    return archive


def test_an_archive_is_read_like_its_folder(tmp_path: Path) -> None:
    write(tmp_path, 2)
    write(tmp_path, 10)
    archive = packed(tmp_path, tmp_path / "clients.tar", "data/model")
    made = [read_all(open_servegen(path).blocks(Streams(1))) for path in (tmp_path, archive)]
    assert made[0].arrival_s.tolist() == made[1].arrival_s.tolist()
    assert made[0].output_tokens.tolist() == made[1].output_tokens.tolist()


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    archive = packed(tmp_path, tmp_path / "clients.tar", "one")
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(archive.read_bytes())[:-40])
    (tmp_path / "text.tar").write_text("no archive at all")
    for name in ("cut.tar.gz", "text.tar"):
        with pytest.raises(InputError, match=f"{name}.*no readable tar archive"):
            open_servegen(tmp_path / name)
    write(tmp_path, 1, trace="0,5,1,Gamma,1\n")
    with pytest.raises(InputError, match=r"two\.tar/one/chunk-1-trace\.csv:1: 5 fields"):
        open_servegen(packed(tmp_path, tmp_path / "two.tar", "one"))
    write(tmp_path, 1)
    with pytest.raises(InputError, match="several folders, unpack it and name one of one, two"):
        open_servegen(packed(tmp_path, archive, "two"))
    (tmp_path / "chunk-1-dataset.json").unlink()
    with pytest.raises(InputError, match=r"no such file: chunk-1-dataset\.json"):
        open_servegen(tmp_path)


@pytest.mark.parametrize("format_", ["auto", "servegen"])
@pytest.mark.parametrize("name", ["clients", "clients.tar"])
def test_a_scenario_may_name_them(tmp_path: Path, name: str, format_: str) -> None:
    folder = tmp_path / "clients"
    folder.mkdir()
    write(folder, 3)
    packed(folder, tmp_path / "clients.tar", "data/model")
    data = {
        "name": "clients",
        "model": "llama-3.1-8b",
        "cluster": {"nodes": [{"name": "gpu", "device": "a100-80gb"}]},
        "workload": {"trace": {"file": name, "format": format_}, "requests": 50},
    }
    (tmp_path / "scenario.yaml").write_text(json.dumps(data))
    scenario = load(tmp_path / "scenario.yaml")
    experiment = build_experiment(scenario, scenario.alternatives()[0], 0)
    assert not isinstance(experiment.workload, ClosedLoop)
    made = read_all(experiment.workload.blocks(Streams(1)))
    expected = read_all(Limit(open_servegen(folder), requests=50).blocks(Streams(1)))
    assert made.arrival_s.tolist() == expected.arrival_s.tolist()
    named = {path.name for path in input_files(scenario.to_dict())}
    assert named >= ({"clients.tar"} if "." in name else {p.name for p in folder.iterdir()})


def test_a_client_that_never_asks(tmp_path: Path) -> None:
    write(tmp_path, 0, trace="0,0,0,,0,0\n600,0,0,,0,0\n")
    with pytest.raises(InputError, match="no client ever asks"):
        open_servegen(tmp_path)


def test_the_clients_of_deepseek_r1() -> None:
    workload = open_servegen(shared("workload/servegen-deepseek-r1/deepseek-r1.tar.gz"))
    assert len(workload.parts) == 73
    expected = sum(
        600 * sum(part.arrivals.rates_per_s) for part in workload.parts if hasattr(part, "arrivals")
    )
    assert expected == pytest.approx(1_383_669, abs=1)
    made = sum(len(block) for block in workload.blocks(Streams(0)))
    assert made == pytest.approx(expected, rel=0.01)
