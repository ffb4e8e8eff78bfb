"""Downloads against servers on this machine: good ones, broken ones, slow ones, none."""

from __future__ import annotations

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from infsim.errors import FetchError, InputError
from tests.servers import (
    CONTENT,
    HALF,
    asked_from,
    breaks_off,
    get,
    good,
    left_in,
    send,
    serving,
    status,
    unused_url,
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the servers on this machine directly, whatever the environment says."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


# --- good servers ---------------------------------------------------------------------------


def test_a_file_is_fetched_whole_and_once(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with serving(good) as server:
        path = get(tmp_path, server.url, progress=lambda *args: told.append(args))
        assert path.read_bytes() == CONTENT
        assert left_in(tmp_path) == {"trace.csv"}
        assert get(tmp_path, server.url) == path
        assert len(server.asked) == 1
    assert told[-1] == ("trace.csv", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_redirects_are_followed(tmp_path: Path) -> None:
    with serving(good) as there:

        def moved(handler: BaseHTTPRequestHandler, number: int) -> None:
            send(handler, b"", 302, Location=there.url)

        with serving(moved) as server:
            assert get(tmp_path, server.url).read_bytes() == CONTENT


def test_a_server_that_does_not_tell_the_length_is_read(tmp_path: Path) -> None:
    def silent(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT)

    with serving(silent) as server:
        assert get(tmp_path, server.url).read_bytes() == CONTENT


def test_a_folder_is_as_good_as_a_server(tmp_path: Path) -> None:
    source = tmp_path / "source" / "trace.csv"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    assert get(tmp_path / "cache", source.as_uri()).read_bytes() == CONTENT
    source.write_bytes(CONTENT[:-1])
    with pytest.raises(FetchError, match=f"has {len(CONTENT) - 1} bytes instead of {len(CONTENT)}"):
        get(tmp_path / "other", source.as_uri())


# --- mirrors --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [403, 404, 500, 503])
def test_a_mirror_stands_in_for_a_server_that_fails(tmp_path: Path, code: int) -> None:
    with serving(status(code)) as first, serving(good) as second:
        path = get(tmp_path, first.url, unused_url(), second.url)
        assert path.read_bytes() == CONTENT
        assert (len(first.asked), len(second.asked)) == (1, 1)


def test_when_all_fail_it_says_of_each_why(tmp_path: Path) -> None:
    gone = unused_url()
    with serving(status(404)) as first, pytest.raises(FetchError) as caught:
        get(tmp_path, first.url, gone)
    said = str(caught.value)
    assert f"{first.url}: 404 Not Found" in said
    assert f"{gone}: [Errno" in said
    assert "refused" in said
    assert "--from" in said
    assert caught.value.exit_code == 4
    assert left_in(tmp_path) == set()


def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_names(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    with pytest.raises(FetchError, match="Temporary failure in name resolution"):
        get(tmp_path, "https://example.org/trace.csv")
    assert left_in(tmp_path) == set()


# --- broken transfers -----------------------------------------------------------------------


def test_a_transfer_that_breaks_off_is_gone_on_with(tmp_path: Path) -> None:
    with serving(breaks_off) as server:
        assert get(tmp_path, server.url).read_bytes() == CONTENT
    assert server.asked[1]["Range"] == f"bytes={HALF}-"
    assert server.asked[1]["If-Range"] == '"v1"'
    assert left_in(tmp_path) == {"trace.csv"}


def test_a_later_call_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    def half(handler: BaseHTTPRequestHandler, number: int) -> None:
        if asked_from(handler):
            send(handler, b"", 503)
        else:
            send(handler, CONTENT[:HALF], length=len(CONTENT))

    with serving(half) as first, pytest.raises(FetchError, match="503"):
        get(tmp_path, first.url)
    assert not (tmp_path / "trace.csv").exists()
    assert (tmp_path / ".trace.csv.part").read_bytes() == CONTENT[:HALF]
    with serving(good) as second:
        assert get(tmp_path, second.url).read_bytes() == CONTENT
    # another server: its entity tag says nothing about the part, the checksum does
    assert second.asked[0]["Range"] == f"bytes={HALF}-"
    assert "If-Range" not in second.asked[0]


def test_a_server_without_ranges_begins_again(tmp_path: Path) -> None:
    (tmp_path / ".trace.csv.part").write_bytes(b"x" * HALF)
    with serving(lambda handler, number: send(handler, CONTENT)) as server:
        assert get(tmp_path, server.url).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_file_that_changed_in_between_is_read_anew(tmp_path: Path) -> None:
    """The entity tag of the part is not that of the file any more: the server sends all of it."""
    with serving(lambda handler, number: good(handler, number, '"v2"')) as server:
        (tmp_path / ".trace.csv.part").write_bytes(b"x" * HALF)
        (tmp_path / ".trace.csv.etag").write_text(f'{server.url}\n"v1"')
        assert get(tmp_path, server.url).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_part_of_something_else_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / ".trace.csv.part").write_bytes(b"x" * HALF)
    with serving(good) as server:
        assert get(tmp_path, server.url).read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == [f"bytes={HALF}-", None]


def test_a_part_that_is_too_long_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / ".trace.csv.part").write_bytes(CONTENT + b"x")
    with serving(good) as server:
        assert get(tmp_path, server.url).read_bytes() == CONTENT


def test_a_range_that_the_server_refuses_is_asked_for_from_the_start(tmp_path: Path) -> None:
    def fussy(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, b"", 416) if asked_from(handler) else send(handler, CONTENT)

    (tmp_path / ".trace.csv.part").write_bytes(CONTENT[:HALF])
    with serving(fussy) as server:
        assert get(tmp_path, server.url).read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_at_once_is_given_up(tmp_path: Path) -> None:
    def nothing(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, b"", length=len(CONTENT))

    with serving(nothing) as server, pytest.raises(FetchError, match="ended after 0 of 512000"):
        get(tmp_path, server.url)
    assert len(server.asked) == 1


# --- what is no file of ours ----------------------------------------------------------------


def test_a_corrupted_file_is_refused_and_removed(tmp_path: Path) -> None:
    bad = CONTENT[:HALF] + b"!" + CONTENT[HALF + 1 :]
    with serving(lambda handler, number: send(handler, bad)) as server:
        with pytest.raises(FetchError, match="its checksum is wrong"):
            get(tmp_path, server.url)
        assert left_in(tmp_path) == set()
        with serving(good) as mirror:
            assert get(tmp_path, server.url, mirror.url).read_bytes() == CONTENT


def test_a_part_from_a_bad_mirror_does_not_spoil_the_good_one(tmp_path: Path) -> None:
    def bad_half(handler: BaseHTTPRequestHandler, number: int) -> None:
        if asked_from(handler):
            send(handler, b"", 500)
        else:
            send(handler, b"x" * HALF, length=len(CONTENT))

    with serving(bad_half) as first, serving(good) as second:
        assert get(tmp_path, first.url, second.url).read_bytes() == CONTENT


@pytest.mark.parametrize("body", [CONTENT[:-1], CONTENT + b"x", b"<html>Sign in</html>"])
def test_a_file_of_another_length_is_refused_before_it_is_read(tmp_path: Path, body: bytes) -> None:
    with (
        serving(lambda handler, number: send(handler, body)) as server,
        pytest.raises(FetchError, match=f"its file has {len(body)} bytes instead of 512000"),
    ):
        get(tmp_path, server.url)
    assert left_in(tmp_path) == set()


def test_more_than_the_file_is_refused_even_if_it_was_not_announced(tmp_path: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(CONTENT)

    with serving(endless) as server, pytest.raises(FetchError, match="more than 512000 bytes"):
        get(tmp_path, server.url)
    assert left_in(tmp_path) == set()


def test_another_part_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    def wrong(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, CONTENT[7:], 206, Content_Range=f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}")

    (tmp_path / ".trace.csv.part").write_bytes(CONTENT[:HALF])
    with serving(wrong) as server, pytest.raises(FetchError, match="another part than asked for"):
        get(tmp_path, server.url)


def test_what_is_no_http_is_refused(tmp_path: Path) -> None:
    def noise(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.wfile.write(b"hello\r\n")

    with serving(noise) as server, pytest.raises(FetchError, match="hello"):
        get(tmp_path, server.url)
    with pytest.raises(FetchError, match="unknown url type"):
        get(tmp_path, "nonsense")


def test_a_cached_file_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(b"x" * len(CONTENT))
    with serving(good) as server:
        assert get(tmp_path, server.url).read_bytes() == CONTENT


# --- stalled servers ------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", CONTENT[:1000]])
def test_a_stalled_server_is_given_up_and_its_part_kept(tmp_path: Path, body: bytes) -> None:
    done = threading.Event()

    def stalled(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, body, length=len(CONTENT))
        done.wait(10)

    with serving(stalled) as first:
        started = time.monotonic()
        with pytest.raises(FetchError, match="does not answer"):
            get(tmp_path, first.url, timeout_s=0.3)
        assert time.monotonic() - started < 5
        with serving(good) as second:
            assert get(tmp_path, first.url, second.url, timeout_s=0.3).read_bytes() == CONTENT
        assert second.asked[0].get("Range") == (f"bytes={len(body)}-" if body else None)
        done.set()


def test_a_server_that_drips_is_given_up(tmp_path: Path) -> None:
    def drips(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, b"", length=len(CONTENT))
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    with serving(drips) as server, pytest.raises(FetchError, match=r"only \d+ bytes came in"):
        get(tmp_path, server.url, timeout_s=0.5)


# --- this machine ---------------------------------------------------------------------------


def test_two_that_want_the_same_file_fetch_it_once(tmp_path: Path) -> None:
    def slow(handler: BaseHTTPRequestHandler, number: int) -> None:
        time.sleep(0.3)
        good(handler, number)

    found: list[bytes] = []
    with serving(slow) as server:
        threads = [
            threading.Thread(target=lambda: found.append(get(tmp_path, server.url).read_bytes()))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [CONTENT] * 4
    assert len(server.asked) == 1
    assert left_in(tmp_path) == {"trace.csv"}


def test_a_cache_that_cannot_be_written_is_told_from_a_network_that_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with serving(good) as server:
        with pytest.raises(InputError, match=r"cannot write to the cache .*set INFSIM_CACHE"):
            get(tmp_path / "file" / "cache", server.url)
        (tmp_path / ".trace.csv.part").mkdir()
        with pytest.raises(InputError, match="cannot write to the cache"):
            get(tmp_path, server.url)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_cache_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with serving(good) as server, pytest.raises(InputError, match="Permission denied"):
            get(tmp_path, server.url)
    finally:
        tmp_path.chmod(0o700)
