"""The pages and the site that is made of them: links, pictures, nothing fetched."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
LINK = re.compile(r"\]\(([^()\s]+(?:\([^()]*\))?)\)")
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src"}
TALLEST = 62  # lines of the README: two screens


def read_prose(path: Path) -> str:
    """Return the Markdown of a page, without its code."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        prose = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
        text = "\n\n".join(prose)
    return re.sub(
        r"^ *```.*?^ *```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE
    )


def make_anchors(path: Path) -> set[str]:
    """Return what links may point to in a page: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", read_prose(path), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", each.lower()) for each in headings)
    return {each.strip().replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(read_prose(page)):
        target, anchor = urldefrag(link)
        if "://" in target:
            continue
        path = page.parent / unquote(target) if target else page
        assert path.exists(), link
        assert path.resolve().is_relative_to(ROOT), link
        assert not anchor or anchor in make_anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_this_repository_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:helpers|tests|notebooks)/[\w/.-]+)`", page.read_text("utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_is_two_screens() -> None:
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= TALLEST


class Addresses(HTMLParser):
    """Every address in a page that a browser opens by itself, and every link."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif address := given.get(FETCHED.get(tag, "")):
            self.fetched.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, but of notebooks that did not run."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    shutil.copytree(ROOT / "docs", source / "docs")
    shutil.copytree(ROOT / "notebooks", source / "notebooks")
    shutil.copy(ROOT / "CHANGELOG.md", source)
    command = [
        *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"),
        *("-c", str(ROOT / "docs"), str(source), str(folder / "html")),
    ]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert ran.returncode == 0, ran.stderr
    return folder / "html"


def read_pages(site: Path) -> Iterator[tuple[Path, Addresses]]:
    for path in sorted(site.rglob("*.html")):
        if "_static" in path.parts:  # templates of the theme
            continue
        yield path, Addresses(path.read_text("utf-8"))


def test_every_page_is_in_the_site_and_in_its_contents(site: Path) -> None:
    pages = [*sorted(ROOT.glob("docs/*.md")), *NOTEBOOKS, ROOT / "CHANGELOG.md"]
    contents = Addresses((site / "docs" / "index.html").read_text("utf-8")).links
    listed = {(site / "docs" / urldefrag(link)[0]).resolve() for link in contents}
    for page in pages:
        made = site / page.relative_to(ROOT).with_suffix(".html")
        assert made.is_file()
        assert made.resolve() in listed or page.stem == "index", page.name


def test_the_site_opens_nothing_from_the_network(site: Path) -> None:
    for path, page in read_pages(site):
        found = [e for e in page.fetched if e != "#" and not e.startswith("data:")]
        assert [each for each in found if re.match(r"(\w+:)?//", each)] == []
        missing = [e for e in found if not (path.parent / e.split("?")[0]).exists()]
        assert missing == [], path.name


def test_links_inside_the_site_lead_somewhere(site: Path) -> None:
    pages = {path.resolve(): page for path, page in read_pages(site)}
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(unquote(link))
            if "://" in target or target.startswith("mailto:"):
                continue
            other = (path.parent / target).resolve() if target else path
            assert other.exists(), f"{path.name}: {link}"
            if anchor and other in pages:
                assert anchor in pages[other].ids, f"{path.name}: {link}"


def test_formulas_need_no_script(site: Path) -> None:
    page = (site / "docs" / "how-it-works.html").read_text("utf-8")
    assert page.count("<math") > 20
    assert "$$" not in page
