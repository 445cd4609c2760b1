"""The HTML report: complete, offline, harmless."""

import base64
import re
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers.run.execution import make_anchor, write_report

PNG = base64.b64encode(b"\x89PNG picture").decode()
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_VIEW = {"model_id": "abc123", "version_major": 2, "version_minor": 0}
ATTACK = "<script>alert('from a file')</script><img src=x onerror=alert(1)>"
LOADING = ("src", "srcset", "poster", "data")


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    def of_tag(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def with_output(data: dict[str, object]) -> nbformat.NotebookNode:
    """Return a code cell with one output."""
    output = new_output("display_data", data=data)
    return new_code_cell("show()", outputs=[output], execution_count=1)


def make_page(folder: Path, *notebooks: list[nbformat.NotebookNode]) -> Page:
    """Write notebooks of these cells and their report; read the report."""
    names = ["01-look.ipynb", "02-label.ipynb"]
    paths = []
    for name, cells in zip(names, notebooks, strict=False):
        paths.append(folder / name)
        nbformat.write(new_notebook(cells=cells), paths[-1])
    return Page(write_report(paths, folder / "report.html").read_text("utf-8"))


def test_all_notebooks_appear_in_order_with_contents(tmp_path: Path) -> None:
    look = [new_markdown_cell("# Look"), new_markdown_cell("## 1 The `file`\n\ntext")]
    label = [new_markdown_cell("# Label"), new_markdown_cell("## 1 Keys")]
    page = make_page(tmp_path, look, label)
    headings = re.findall(r"^(Look|1 The file|Label|1 Keys)$", page.text, re.MULTILINE)
    contents = re.findall(r"01-look|1 The file|02-label|1 Keys", page.text)
    assert headings.index("Look") < headings.index("Label")
    assert contents[:4] == ["01-look", "1 The file", "02-label", "1 Keys"]


def test_every_link_inside_the_report_leads_somewhere(tmp_path: Path) -> None:
    look = [new_markdown_cell("# Look\n\n[next](02-label.ipynb), [web](https://x.org)")]
    label = [new_markdown_cell("# Label"), new_markdown_cell("## 1 Keys")]
    page = make_page(tmp_path, look, label)
    targets = set(page.attributes("id"))
    inside = [link[1:] for link in page.attributes("href") if link.startswith("#")]
    outside = [link for link in page.attributes("href") if not link.startswith("#")]
    assert inside.count("02-label") == 2
    assert set(inside) <= targets
    assert outside == ["https://x.org"]


def test_ids_of_cells_are_unique(tmp_path: Path) -> None:
    cell = new_markdown_cell("# Same")
    page = make_page(tmp_path, [cell], [cell])
    cells = [name for name in page.attributes("id") if name.startswith("cell-id")]
    assert len(cells) == len(set(cells)) == 2


def test_nothing_is_fetched(tmp_path: Path) -> None:
    cells = [
        new_markdown_cell("$x^2$"),
        with_output({"text/html": "<img src='https://x.org/a.png'><iframe src=b>"}),
        with_output({"text/vnd.mermaid": "graph TD"}),
    ]
    page = make_page(tmp_path, cells)
    loaded = [value for name in LOADING for value in page.attributes(name)]
    assert [value for value in loaded if not value.startswith("data:")] == []
    assert page.of_tag("link") == page.of_tag("iframe") == page.of_tag("script") == []


class Listener(BaseHTTPRequestHandler):
    """A server that remembers what it was asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.browser
def test_a_browser_opens_nothing_from_the_network(
    tmp_path: Path, chromium: Any
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    style = f"<style>body {{ background: url({at}/style) }}</style>"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{at}/svg"/></svg>'
    cells = [
        new_markdown_cell(f'![]({at}/image) <p style="background: url({at}/p)">'),
        new_markdown_cell(f'{style}<link rel="stylesheet" href="{at}/link">'),
        with_output({"image/svg+xml": svg}),
        with_output({"text/html": f"<video src={at}/video></video>{style}"}),
        with_output({"text/markdown": f"![]({at}/output)"}),
    ]
    make_page(tmp_path, cells)
    page = chromium.new_page()
    page.goto(at)  # the browser would tell
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_load_state("networkidle")
    page.close()
    server.shutdown()
    assert set(Listener.asked) <= {"/", "/favicon.ico"}
    assert "/" in Listener.asked


def test_widget_shows_its_picture_or_nothing(tmp_path: Path) -> None:
    previewed = {WIDGET: WIDGET_VIEW, "image/png": PNG, "text/plain": "Labeller()"}
    bar = {WIDGET: WIDGET_VIEW, "text/plain": "  0%|          | 0/50"}
    page = make_page(tmp_path, [with_output(previewed), with_output(bar)])
    assert page.of_tag("img")[0]["src"] == f"data:image/png;base64,{PNG}"
    assert len(page.of_tag("img")) == 1
    assert "abc123" not in page.text
    assert "0/50" not in page.text


def test_pictures_say_where_they_belong(tmp_path: Path) -> None:
    picture = with_output({"image/png": PNG})
    page = make_page(tmp_path, [new_markdown_cell('## 2 The "centre"'), picture])
    assert page.of_tag("img")[0]["alt"] == 'Figure under: 2 The "centre"'


@pytest.mark.parametrize("kind", ["text/html", "text/markdown", "text/plain"])
def test_text_from_a_file_cannot_act(tmp_path: Path, kind: str) -> None:
    page = make_page(tmp_path, [with_output({kind: f"**before** {ATTACK} after"})])
    assert "after" in page.text
    assert page.of_tag("script") == []
    assert page.attributes("onerror") == []


@pytest.mark.parametrize(
    "cell",
    [
        new_code_cell("x", outputs=[new_output("stream", text=ATTACK)]),
        new_code_cell(
            "x",
            outputs=[new_output("error", ename="E", evalue=ATTACK, traceback=[ATTACK])],
        ),
        new_code_cell(f"x = {ATTACK!r}"),
        with_output({"application/javascript": "alert(1)"}),
    ],
    ids=["printed", "raised", "code", "javascript"],
)
def test_other_text_cannot_act(tmp_path: Path, cell: nbformat.NotebookNode) -> None:
    page = make_page(tmp_path, [cell])
    assert page.of_tag("script") == []
    assert page.attributes("onerror") == []


def test_tables_survive(tmp_path: Path) -> None:
    table = "<style>td {color: red}</style><table><tr><th>n</th><td>3</td></tr></table>"
    page = make_page(tmp_path, [with_output({"text/html": table})])
    assert [tag for tag, _ in page.tags if tag in ("tr", "th", "td")] == [
        "tr",
        "th",
        "td",
    ]
    assert "color: red}</style>" not in page.text


def test_stop_is_shown_in_the_contents(tmp_path: Path) -> None:
    failed = new_code_cell("1 / 0", metadata={"papermill": {"exception": True}})
    fine = new_code_cell("1", metadata={"papermill": {"exception": False}})
    page = make_page(tmp_path, [fine], [fine, failed])
    stops = [link for link in page.of_tag("a") if "stopped" in link.get("class", "")]
    assert [link["href"] for link in stops] == ["#cell-id=02-label-1"]


@pytest.mark.browser
def test_code_but_for_parameters_is_hidden_until_asked_for(
    tmp_path: Path, chromium: Any
) -> None:
    values = new_code_cell("n: int = 3", metadata={"tags": ["parameters"]})
    make_page(tmp_path, [values, with_output({"text/plain": "42"})])
    page = chromium.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    code = page.get_by_text("show()")
    assert page.get_by_text("42").is_visible()
    assert page.get_by_text("n: int = 3").is_visible()
    assert not code.is_visible()
    page.get_by_text("show the code").click()
    assert code.is_visible()
    page.close()


@pytest.mark.parametrize("name", ["01-my copy", "01-prüfen", "01-" + "x" * 90, "01-а'"])
def test_notebook_of_any_name_is_in_the_report(name: str, tmp_path: Path) -> None:
    cells = [new_markdown_cell(f"# One\n[on](<{name}.ipynb>)"), new_code_cell("1")]
    path = tmp_path / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    html = write_report([path], tmp_path / "r.html").read_text("utf-8")
    anchor = make_anchor(name)
    assert re.fullmatch(r"[\w-]{4,60}", anchor, re.ASCII)
    assert f'href="#{anchor}"' in html
    assert f'id="{anchor}"' in html
    assert make_anchor("01-my copy") != make_anchor("01-my  copy")
    assert make_anchor("01-inspect") == "01-inspect"
