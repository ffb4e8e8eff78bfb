"""Public traces by name: what is known of them, the cache, and the command."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from infsim.errors import FetchError, InputError
from infsim.paths import cache_folder, data_file, fetched_files, public_file, public_files
from infsim.scenario.schema.workload import TRACE_SUFFIXES
from infsim.study.inputs import input_files
from infsim.workload.fetch import describe, fetch, known
from tests.command import SCENARIO, Command
from tests.shared_data import shared

CONV = "workload/azure-llm-2023/AzureLLMInferenceTrace_conv.csv"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty cache, and no network."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("INFSIM_CACHE", str(folder))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the port of discard: refused
    return folder


# --- what is known --------------------------------------------------------------------------


def test_entries_are_complete() -> None:
    names = [one.name for one in known()]
    assert {"azure-2023-conv", "azure-2023-code", "mooncake-conversation"} <= set(names)
    for one in known():
        assert one.kind in ("requests", "availability", "network")
        assert one.urls
        assert all(url.startswith("https://") and url.endswith("/") for url in one.urls)
        assert one.source.startswith("https://")
        assert one.licence
        assert one.citation
        for file in one.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert file.bytes > 0
            assert "/" not in file.name


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("azure-2023-conv", "workload/azure-llm-2023"),
        ("azure-2023-code", "workload/azure-llm-2023"),
        ("mooncake-conversation", "workload/mooncake-fast25"),
        ("skype-availability", "churn/skype"),
        ("spot-aws-2023-02", "churn/skypilot-spot/aws-02-15-2023"),
        ("spot-aws-2023-04", "churn/skypilot-spot/preempt-aws-04-22-2023"),
    ],
)
def test_public_traces_can_be_fetched_from_a_folder(name: str, folder: str) -> None:
    path = fetch(name, place=str(shared(folder)))
    files = {file.name: file.sha256 for file in describe(name).files}
    found = [path] if path.is_file() else sorted(path.glob("[!.]*"))
    assert {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in found} == files
    assert describe(name).is_here


def test_checksums_of_what_is_compressed_here(tmp_path: Path) -> None:
    frames = describe("planetlab-rtt").files
    for file in frames:
        packed = shared(f"network/planetlab/{file.name}.gz")
        assert hashlib.sha256(gzip.decompress(packed.read_bytes())).hexdigest() == file.sha256
    clients = {file.name: file.sha256 for file in describe("servegen-deepseek-r1").files}
    with tarfile.open(shared("workload/servegen-deepseek-r1/deepseek-r1.tar.gz")) as archive:
        for member in archive:
            data = archive.extractfile(member)
            if data is not None:
                digest = hashlib.sha256(data.read()).hexdigest()
                assert clients.pop(Path(member.name).name) == digest
    assert not clients


# --- the cache ------------------------------------------------------------------------------


def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFSIM_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/infsim")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/infsim")
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path("/home/me/Library/Caches/infsim")
    monkeypatch.setenv("INFSIM_CACHE", "~/mine")
    assert cache_folder() == Path("/home/me/mine")


def test_a_fetched_name_is_a_trace_and_an_input(cache: Path) -> None:
    with pytest.raises(
        InputError, match=r"not on this machine yet \(fetch it with: infsim trace f"
    ):
        data_file("traces", "azure-2023-conv", TRACE_SUFFIXES)
    path = fetch("azure-2023-conv", place=str(shared(CONV).parent))
    assert path == cache / "traces" / "azure-2023-conv" / "AzureLLMInferenceTrace_conv.csv"
    assert data_file("traces", "azure-2023-conv", TRACE_SUFFIXES) == path
    assert fetched_files("azure-2023-conv") == (path,)
    assert input_files({"workload": {"trace": "azure-2023-conv"}}) == {path}


def test_half_a_download_is_no_trace(cache: Path) -> None:
    folder = cache / "traces" / "azure-2023-conv"
    folder.mkdir(parents=True)
    (folder / ".AzureLLMInferenceTrace_conv.csv.part").write_text("half")
    with pytest.raises(InputError, match="not on this machine yet"):
        data_file("traces", "azure-2023-conv", TRACE_SUFFIXES)


def test_what_is_no_trace_of_requests_is_refused() -> None:
    with pytest.raises(InputError, match="no trace of requests, but of availability"):
        data_file("traces", "spot-aws-2023-04", TRACE_SUFFIXES)


def test_files_of_a_public_trace_have_names() -> None:
    folder = shared("churn/skypilot-spot/preempt-aws-04-22-2023")
    with pytest.raises(InputError, match="fetch it with: infsim trace fetch spot-aws-2023-04"):
        public_files("spot-aws-2023-04")
    fetch("spot-aws-2023-04", place=str(folder))
    files = public_files("spot-aws-2023-04")
    assert files is not None
    assert [file.name for file in files] == sorted(path.name for path in folder.iterdir())
    assert public_files(f"spot-aws-2023-04/{files[1].name}") == (files[1],)
    assert public_file(f"spot-aws-2023-04/{files[1].name}") == files[1]
    with pytest.raises(InputError, match=r"4 files .name one of them, as in spot-aws-2023-04/us"):
        public_file("spot-aws-2023-04")
    with pytest.raises(InputError, match=r"did you mean 'us-east-1c_v100_1\.json'"):
        public_files("spot-aws-2023-04/us-east-1c_v100_2.json")
    assert public_files("nonsense") is None
    files[0].unlink()
    with pytest.raises(InputError, match="1 of 4 files are missing"):
        public_files("spot-aws-2023-04")


def test_scenarios_and_commands_take_fetched_names(infsim: Command, tmp_path: Path) -> None:
    """Zones, each a file; ServeGen, a folder of clients; one frame of several."""
    folder = shared("churn/skypilot-spot/aws-02-15-2023")
    scenario = Path("named.yaml")
    scenario.write_text(SCENARIO)
    group = "cluster.nodes.0.availability={trace: spot-aws-2023-02}"
    ended = infsim("validate", str(scenario), "--set", group)
    assert ended.code == 2
    assert "infsim trace fetch spot-aws-2023-02" in ended.err
    fetch("spot-aws-2023-02", place=str(folder))
    assert infsim("validate", str(scenario), "--set", group).code == 0
    assert "online_mean" in infsim("churn", "stats", "spot-aws-2023-02").out

    packed = shared("workload/servegen-deepseek-r1/deepseek-r1.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "servegen", filter="data")
    (clients,) = {path.parent for path in (tmp_path / "servegen").rglob("chunk-*")}
    fetch("servegen-deepseek-r1", place=str(clients))
    trace = "workload={trace: servegen-deepseek-r1, requests: 20}"
    assert infsim("validate", str(scenario), "--set", trace).code == 0

    frames = tmp_path / "frames"
    frames.mkdir()
    for file in describe("planetlab-rtt").files:
        packed = shared(f"network/planetlab/{file.name}.gz")
        (frames / file.name).write_bytes(gzip.decompress(packed.read_bytes()))
    fetch("planetlab-rtt", place=str(frames))
    network = "cluster.network={matrix: %s, rows: sample, by: endpoint}"
    ended = infsim("validate", str(scenario), "--set", network % "planetlab-rtt")
    assert ended.code == 2
    assert "planetlab-rtt/PlanetLabData_1" in ended.err
    frame = network % "planetlab-rtt/PlanetLabData_9"
    assert infsim("validate", str(scenario), "--set", frame).code == 0


def test_names_are_found_by_their_neighbours() -> None:
    with pytest.raises(InputError, match="did you mean 'azure-2023-conv'"):
        describe("azure-2023-con")
    with pytest.raises(InputError, match="did you mean 'mooncake-conversation'"):
        data_file("traces", "mooncake-conversatio", TRACE_SUFFIXES)


def test_a_copy_that_is_not_the_file_is_refused(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    copy = source / "AzureLLMInferenceTrace_conv.csv"
    shutil.copy(shared(CONV), copy)
    copy.chmod(0o600)
    copy.write_bytes(copy.read_bytes().replace(b"2023-11-16", b"2023-11-17"))
    with pytest.raises(FetchError, match="its checksum is wrong"):
        fetch("azure-2023-conv", place=str(source))
    assert fetched_files("azure-2023-conv") == ()


# --- the command ----------------------------------------------------------------------------


def test_fetch_prints_the_path_and_how_to_cite(infsim: Command, cache: Path) -> None:
    ended = infsim("trace", "fetch", "azure-2023-conv", "--from", str(shared(CONV).parent))
    assert ended.code == 0
    assert ended.out == f"{cache}/traces/azure-2023-conv/AzureLLMInferenceTrace_conv.csv\n"
    assert "CC-BY-4.0" in ended.err
    assert "Patel et al." in ended.err
    scenario = Path("fetched.yaml")
    arrivals = "  arrivals: {rate: 5 /s}\n  lengths: {input: 512, output: 100}\n"
    scenario.write_text(SCENARIO.replace(arrivals, "  trace: azure-2023-conv\n"))
    assert infsim("validate", str(scenario)).code == 0
    assert "19,366 requests" in infsim("trace", "stats", "azure-2023-conv").out


def test_without_a_network_fetch_ends_with_4_and_leaves_nothing(
    infsim: Command, cache: Path
) -> None:
    ended = infsim("trace", "fetch", "azure-2023-conv")
    assert ended.code == 4
    assert ended.out == ""
    assert "refused" in ended.err
    assert "--from FOLDER" in ended.err
    assert not fetched_files("azure-2023-conv")


def test_fetch_lists_what_is_known_and_what_is_here(infsim: Command, cache: Path) -> None:
    fetch("azure-2023-conv", place=str(shared(CONV).parent))
    ended = infsim("trace", "fetch", "--list")
    lines = {line.split()[0]: line for line in ended.out.splitlines()}
    assert "fetched" in lines["azure-2023-conv"]
    assert "fetched" not in lines["azure-2023-code"]
    assert str(cache) in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which trace"),
        (["azure-2023-con"], "did you mean 'azure-2023-conv'"),
        (["azure-2023-conv", "nonsense"], "unknown public trace 'nonsense'"),
        (["azure-2023-conv", "--timeout", "3"], "--timeout: '3' has no unit"),
        (["azure-2023-conv", "--timeout", "0 s"], "must be more than 0"),
        (["azure-2023-conv", "--sha256", "0"], "--sha256 is for a URL"),
        (["http://h/a.csv", "--sha256", "12"], "is no sha256"),
        (["http://h/a.csv", "azure-2023-conv"], "a URL is fetched alone"),
    ],
)
def test_mistakes_end_with_2(infsim: Command, arguments: list[str], said: str) -> None:
    ended = infsim("trace", "fetch", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
