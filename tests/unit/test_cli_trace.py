"""The commands about traces: what they print and write, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from infsim.cli.comparison_text import SHOWN, errors_table, markdown, text
from infsim.cli.main import main
from infsim.paths import data_folder
from infsim.workload.compare import Row
from infsim.workload.profile import load_profile

DIALOGUE = "arrival_s,input_tokens,output_tokens,session_id\n" + "".join(
    f"{i * 0.5},{100 + i % 7},{10 + i % 3},{i % 40}\n" for i in range(300)
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text(DIALOGUE)
    return tmp_path


def infsim(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    code = exit_.value.code
    assert isinstance(code, int | None)
    return code or 0


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert infsim("trace", *arguments) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


# --- fit ------------------------------------------------------------------------------------


def test_fit_writes_a_profile_that_a_scenario_can_use(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = printed(
        capsys, "fit", "mine.csv", "-o", "like.yaml", "--seeds", 2, "--source", "licence=none"
    )
    assert said == "like.yaml\n"
    profile = load_profile(Path("like.yaml"))
    assert sum(profile.counts) == 300
    assert profile.source == {"trace": "mine.csv", "licence": "none"}
    assert profile.errors["seeds"] == 2
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    out = printed(capsys, "stats", "like.yaml")
    assert out.startswith("like.yaml: 300 requests in 2.")


def test_fit_prints_without_a_file_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "fit", "mine.csv", "--seeds", 2)
    printed(capsys, "fit", "mine.csv", "--seeds", 2, "-o", "like.yaml")
    assert out == Path("like.yaml").read_text()
    assert out.startswith("kind: trace-profile\n")


def test_nothing_is_left_of_a_fit_that_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.csv").write_text(DIALOGUE + "1,5,5,1\n")
    (folder / "like.yaml").write_text("kept")
    assert infsim("trace", "fit", "mine.csv", "-o", "like.yaml") == 2
    assert "mine.csv:302: arrival_s is not sorted" in capsys.readouterr().err
    assert (folder / "like.yaml").read_text() == "kept"


# --- stats ----------------------------------------------------------------------------------


def test_stats_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "stats", "mine.csv")
    lines = [line.split() for line in out.splitlines()]
    assert out.startswith("mine.csv: 300 requests in 2.49 min, 2 /s\n")
    # equal gaps: no dispersion at all
    assert ["CV", "of", "gaps", "0"] in lines
    assert ["input", "103", "103", "106", "106", "106", "106"] in lines
    assert ["sessions:", "40"] in lines
    assert ["turns", "7.5", "7.5", "8"] in lines
    assert ["time", "between", "turns", "20", "s", "20", "s"] in lines


def test_stats_as_json_are_those_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "stats", "mine.csv", "--json"))
    assert found["requests"] == 300
    assert found["rate_per_s"] == pytest.approx(2)
    assert found["dispersion"]["10"] == pytest.approx(0, abs=1e-9)
    assert found["dispersion"]["3600"] is None
    assert found["input_tokens"]["quantiles"]["0.5"] == 103
    assert found["sessions"]["turns_mean"] == 7.5
    assert found["prefixes"] is None
    assert sum(found["rates_per_s"]) * found["rate_window_s"] == pytest.approx(300)


def test_columns_and_units_are_those_of_a_scenario(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DIALOGUE.replace("arrival_s", "when").replace("input_tokens", "prompt")
    (folder / "other.csv").write_text(text)
    options = ["--column", "arrival_s=when", "--column", "input_tokens=prompt"]
    out = printed(capsys, "stats", "other.csv", *options, "--time-unit", "1 ms")
    assert out.startswith("other.csv: 300 requests in 150 ms, 2e+03 /s")


def test_shipped_names_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert "19,366 requests" in printed(capsys, "stats", "azure-conv-like")
    same = [printed(capsys, "stats", "azure-conv-like", "--seed", seed) for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_one_file_or_a_folder_of_plots(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "stats", "mine.csv", "--plot", "all.png")
    assert (folder / "all.png").read_bytes().startswith(b"\x89PNG")
    printed(capsys, "stats", "mine.csv", "--plot", "plots")
    assert {path.name for path in (folder / "plots").iterdir()} == {
        f"{name}.pdf"
        for name in ("rates", "gaps", "dispersion", "autocorrelation", "input-tokens",
                     "output-tokens")
    }  # fmt: skip


# --- compare --------------------------------------------------------------------------------


def test_a_trace_is_at_no_distance_from_itself(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "compare", "mine.csv", "mine.csv", "--json"))
    assert found["seeds"] == 1
    for name, row in found["rows"].items():
        if name.startswith("KS") and "halves" not in name:
            assert row["made"] == 0
        else:
            assert row["made"] == row["real"]
    assert {"wait p99", "KS halves gaps", "turns mean", "turn gap p50 s"} <= set(found["rows"])


def test_another_trace_is_told_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.csv").write_text(DIALOGUE.replace(",11,", ",55,"))
    rows = json.loads(printed(capsys, "compare", "mine.csv", "other.csv", "--json"))["rows"]
    assert rows["KS output_tokens"]["made"] > 0.3 > rows["KS output_tokens"]["real"]
    assert rows["KS input_tokens"]["made"] == 0
    out = printed(capsys, "compare", "mine.csv", "other.csv")
    assert "One made trace: what is chance is not known." in out


def test_a_profile_is_compared_over_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "fit", "mine.csv", "-o", "like.yaml", "--seeds", 2)
    out = printed(capsys, "compare", "mine.csv", "like.yaml", "--seeds", 3)
    assert out.startswith("like.yaml against mine.csv\n")
    assert "± is the standard deviation of one trace, over 3 seeds." in out
    table = printed(capsys, "compare", "mine.csv", "like.yaml", "--seeds", 3, "--markdown")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6}
    assert len(rows) > 25


def test_what_the_table_says() -> None:
    rows = [
        Row("requests", 100.0, 100.0, 0.0),
        Row("wait p95", 16.0, 20.0, 1.0),
        Row("wait mean", 4.0, 4.1, 0.5),
        Row("dispersion 300 s", np.nan, np.nan, np.nan),
        Row("KS gaps", 0.01, 0.005, 0.001),
        Row("KS input_tokens", 0.01, 0.1, 0.001),
        Row("hits infinite", 0.366, 0.36, 0.002),
    ]
    lines = [line.split() for line in text("a", "b", rows, 20).splitlines()]
    assert ["requests", "100", "100", "+0.0%"] in lines
    assert ["prefix", "hits,", "cache", "of", "infinite", "blocks"] in [line[:6] for line in lines]
    assert ["0.366", "0.3600", "±", "0.0020", "-1.6%", "*"] in [line[6:] for line in lines]
    table = markdown("a", "b", rows, 20).splitlines()
    assert "| wait at load 0.8, p95 (service times) | 16 | 20.0 ± 1.0 | +25.0% | * |" in table
    assert "| wait at load 0.8, mean (service times) | 4 | 4.10 ± 0.50 | +2.5% | |" in table
    # what neither has is left out
    assert not any("300 s" in line for line in table)
    # nearer than noise is no difference
    assert "| KS, gaps | 0.01 | 0.0050 ± 0.0010 |  | |" in table
    assert "| KS, input tokens | 0.01 | 0.1000 ± 0.0010 |  | * |" in table


def test_the_errors_of_shipped_profiles_are_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "errors")
    paths = sorted(data_folder("traces").glob("*.yaml"))
    profiles = {path.stem: load_profile(path) for path in paths}
    assert out == errors_table(profiles) + "\n"
    assert all(f"| `{name}` | real |" in out for name in profiles)
    assert f"{profiles['azure-conv-like'].errors['wait p99']['real']:.3g}" in out
    assert printed(capsys, "errors", "azure-conv-like").count("\n") == 4
    assert set(SHOWN[:3]) == {"wait mean", "wait p95", "wait p99"}


# --- bad ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats", "nowhere.csv"], "no file 'nowhere.csv'"),
        (["stats", "azure-conv-lke"], "did you mean 'azure-conv-like'?"),
        (["stats", "mine.csv", "--format", "burstgtp"], "did you mean 'burstgpt'?"),
        (["stats", "mine.csv", "--column", "input_tokens"], "--column: 'input_tokens' is not"),
        (["stats", "mine.csv", "--column", "input=x"], "did you mean 'input_tokens'?"),
        (["stats", "mine.csv", "--time-unit", "3"], "--time-unit: '3' has no unit"),
        (["stats", "mine.csv", "--time-unit", "0 s"], "--time-unit"),
        (["stats", "mine.csv", "--plot", "x.gif"], "no figure format 'gif'"),
        (["fit", "azure-conv-like"], "is a profile already"),
        (["fit", "mine.csv", "--seeds", "0"], "--seeds"),
        (["compare", "mine.csv"], "Missing argument"),
        (["compare", "mine.csv", "mine.csv", "--json", "--markdown"], "either --json or"),
        (["errors", "sample"], "'sample' is no profile with errors"),
        (["fits"], "No such command"),
    ],
)
def test_bad_input_ends_with_2_and_a_reason(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infsim("trace", *arguments) == 2
    found = capsys.readouterr()
    assert said in found.err
    assert found.out == ""


def test_too_few_requests_to_compare(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "few.csv").write_text("\n".join(DIALOGUE.splitlines()[:5]) + "\n")
    assert infsim("trace", "compare", "few.csv", "mine.csv") == 2
    assert "the real trace has 4 requests, too few to compare" in capsys.readouterr().err
    assert infsim("trace", "compare", "mine.csv", "few.csv") == 2
    assert "the made trace has 4 requests, too few to compare" in capsys.readouterr().err
    (folder / "once.csv").write_text("arrival_s,input_tokens,output_tokens\n" + "1,2,3\n" * 200)
    assert infsim("trace", "compare", "mine.csv", "once.csv") == 2
    assert "the made trace cannot be compared, all its requests" in capsys.readouterr().err
    assert infsim("trace", "fit", "once.csv") == 2
    assert "once.csv: all requests arrive at once" in capsys.readouterr().err


def test_messages_are_short_whatever_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "long.csv").write_text("[" * 1_000_000)
    assert infsim("trace", "stats", "long.csv") == 2
    assert len(capsys.readouterr().err) < 500
    assert infsim("trace", "stats", "mine.csv", "--format", "servegen") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_public_traces_are_not_said_to_be_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim("trace", "stats", "nothing-of-this-name") == 2
    said = capsys.readouterr().err
    assert "sample" in said
    assert "skype-availability" not in said
    assert "infsim trace fetch --list" in said


def test_formats_are_known_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert infsim("trace", "stats", "mine.csv", "--format", "servgen") == 2
    assert "--format: unknown trace format 'servgen'; did you mean 'servegen'?" in (
        capsys.readouterr().err
    )


def test_ctrl_c_ends_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infsim.workload.summary.summarize", interrupted)
    assert infsim("trace", "stats", "mine.csv") == 130
    assert capsys.readouterr().err == "interrupted\n"
