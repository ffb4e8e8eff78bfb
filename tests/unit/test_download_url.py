"""Files of the web that infsim does not know."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from infsim.errors import FetchError, InputError
from infsim.workload.fetch import fetch_url
from tests.servers import (
    CONTENT,
    FILE,
    HALF,
    breaks_off,
    good,
    send,
    serving,
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the servers on this machine directly, whatever the environment says."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INFSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
def test_a_url_is_fetched_with_and_without_a_checksum() -> None:
    with serving(good) as server:
        path = fetch_url(server.url)
        assert (path.name, path.read_bytes()) == ("trace.csv", CONTENT)
        assert fetch_url(server.url, sha256=str(FILE.sha256).upper()) == path
        assert len(server.asked) == 1
        with pytest.raises(FetchError, match="checksum is wrong"):
            fetch_url(server.url, sha256=64 * "0")
        assert not path.exists()
        assert fetch_url(f"{server.url}?again") != path


@pytest.mark.usefixtures("cache")
def test_a_broken_download_of_an_unknown_file_is_gone_on_with() -> None:
    with serving(breaks_off) as server:
        assert fetch_url(server.url).read_bytes() == CONTENT
        assert server.asked[1]["Range"] == f"bytes={HALF}-"


def test_parts_that_may_be_of_two_files_are_not_joined(cache: Path) -> None:
    """Without a checksum and an entity tag, what an earlier call has left is worth nothing."""

    def no_tag(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, CONTENT[:HALF], length=len(CONTENT))

    with serving(no_tag) as server:
        with pytest.raises(FetchError, match=f"ended after {HALF} of {len(CONTENT)} bytes"):
            fetch_url(server.url, timeout_s=2)
        asked = len(server.asked)
        with pytest.raises(FetchError):
            fetch_url(server.url, timeout_s=2)
        assert "Range" not in server.asked[asked]
    assert not list(cache.rglob("trace.csv"))


@pytest.mark.usefixtures("cache")
def test_a_server_that_does_not_say_how_much_comes() -> None:
    def chunks(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT)

    with serving(chunks) as server:
        told: list[tuple[str, int, int]] = []
        path = fetch_url(server.url, progress=lambda *args: told.append(args))
        assert path.read_bytes() == CONTENT
        assert {total for _, _, total in told} == {0}


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://127.0.0.1", "http://h/a/..%2fb"])
def test_urls_that_name_no_file(url: str) -> None:
    with pytest.raises(InputError, match="does not end in the name of a file"):
        fetch_url(url)
