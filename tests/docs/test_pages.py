"""What the documentation says is so: its commands, its links, its lists."""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from infsim import registry
from infsim.results.export import LAYOUTS
from infsim.results.metrics import METRICS
from infsim.results.recorder import INCIDENT_KINDS, STATUS_NAMES
from tests.docs.pages import PAGES, ROOT, played, prepare, runnable

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies that a page registers are forgotten afterwards."""
    known = {
        kind: {name: registry.lookup(kind, name) for name in registry.names(kind)}
        for kind in registry.KINDS
    }
    monkeypatch.setattr(registry, "_classes", known)


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("page", [*filter(runnable, PAGES)], ids=named)
def test_what_can_be_run_does_what_is_said(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    modules = set(sys.modules)
    _, wrong = played(page)
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]  # another page may have a file of the same name
    assert not wrong, "\n".join([*wrong, "to update outputs: python -m tests.docs.pages"])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{link}: there is no such heading"


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "index.md"
    linked = {(DOCS / link).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))}
    missing = [named(page) for page in PAGES if page.parent != ROOT and page not in linked]
    assert missing == [named(index)]


def test_generated_pages_are_current() -> None:
    spec = spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, page in generate.PAGES.items():
        stored = (DOCS / name).read_text(encoding="utf-8")
        assert stored == generate.content(page), "run: python docs/generate.py"


def test_all_results_are_explained() -> None:
    text = (DOCS / "reference" / "results.md").read_text(encoding="utf-8")
    columns = {column for layout in LAYOUTS.values() for column in layout}
    for name in {*METRICS, *columns, *STATUS_NAMES, *INCIDENT_KINDS}:
        assert f"`{name}`" in text, f"results.md does not explain {name}"


def test_a_wrong_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    good = "```console\n$ infsim list accuracy\nname\nfashion-mnist\n```\n"
    page.write_text(good)
    assert played(page) == (good, [])
    page.write_text(good.replace("fashion", "fusion"))
    text, wrong = played(page)
    assert text == good
    assert len(wrong) == 1
    page.write_text("```pycon\n>>> 1 + 1\n3\n\n```\n")
    assert len(played(page)[1]) == 1
