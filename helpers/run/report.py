"""One HTML file that shows all executed notebooks, and needs no network to do so.

The widgets of a notebook live only beside a running kernel; in the report stand the
pictures that they leave behind.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from helpers.made_from import digest
from helpers.outputs import atomic_write

if TYPE_CHECKING:
    from nbformat import NotebookNode

Output = dict[str, Any]  # NotebookNode is one too

TEMPLATE = "report.html.j2"
WIDGET = "application/vnd.jupyter.widget-view+json"
SHOWN_WITHOUT_KERNEL = ("image/png", "image/jpeg", "image/svg+xml", "text/html")
SAFE_TAGS = {
    *("a", "abbr", "b", "code", "em", "i", "img", "kbd", "s", "small", "span"),
    *("strong", "sub", "sup", "u"),
    *("blockquote", "br", "div", "figcaption", "figure", "hr", "p", "pre"),
    *("h1", "h2", "h3", "h4", "h5", "h6"),
    *("dd", "dl", "dt", "li", "ol", "ul"),
    *("caption", "col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead"),
    "tr",
}
SAFE_ATTRIBUTES = ("alt", "class", "colspan", "height", "rowspan", "title", "width")
WARNING = re.compile(r"^\S.*:\d+: UserWarning: (.+)$", re.MULTILINE)
ERROR_MARK = "papermill-error-cell-tag"
LONGEST_ANCHOR = 40  # an id of a cell may have 64 characters


def write_report(
    executed_notebooks: Sequence[str | Path],
    path: str | Path,
    title: str = "Single hits: report",
) -> Path:
    """Write one HTML file with all executed notebooks, and return its path.

    Code is hidden until a reader asks for it. What a notebook shows as HTML is reduced
    to harmless tags, since it may quote text from a file.

    Parameters
    ----------
    executed_notebooks
        Paths of executed notebooks, in the order in which they shall appear.
    path
        The HTML file.
    title
        Title of the report.
    """
    import nbformat

    notebooks = {
        Path(notebook).stem: nbformat.read(notebook, as_version=4)
        for notebook in executed_notebooks
    }
    for name, notebook in notebooks.items():
        _prepare(name, notebook)
    html = _render(_merge(notebooks, title), _contents(notebooks))
    with atomic_write(path, private=True) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def find_warnings(cells: Sequence[Output]) -> list[str]:
    """Return the first line of each warning that was shown.

    Parameters
    ----------
    cells
        Of an executed notebook.
    """
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    streams = (o for o in outputs if o.get("name") == "stderr")
    text = "\n".join("".join(stream["text"]) for stream in streams)
    return list(dict.fromkeys(WARNING.findall(text)))


def leave_pictures(outputs: Sequence[Output]) -> list[Output]:
    """Leave the pictures of live widgets in their stead, and nothing of those without.

    Parameters
    ----------
    outputs
        Of a cell, as in the file of the notebook; changed in place.
    """
    for output in outputs:
        if output.get("data", {}).pop(WIDGET, None):
            output["metadata"]["still_of_widget"] = True
    return [output for output in outputs if _shows_something(output)]


def _shows_something(output: Output) -> bool:
    if not output.get("metadata", {}).get("still_of_widget"):
        return True
    return any(kind in output["data"] for kind in SHOWN_WITHOUT_KERNEL)


def _prepare(name: str, notebook: "NotebookNode") -> None:
    """Give the cells ids that are unique in the report, and outputs that show in it."""
    heading = name
    notebook.cells = [cell for cell in notebook.cells if not _is_error_mark(cell)]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{make_anchor(name)}-{number}"
        if cell.cell_type == "markdown":
            cell.source = _with_links_inside(cell.source)
            heading = (_headings(cell.source) or [heading])[-1]
        elif cell.cell_type == "code":
            cell.outputs = leave_pictures(cell.outputs)
        cell.metadata["heading"] = heading.lstrip("# ")


def _is_error_mark(cell: "NotebookNode") -> bool:
    """Whether papermill put the cell there to point at an error."""
    return ERROR_MARK in cell.metadata.get("tags", [])


def _with_links_inside(source: str) -> str:
    """Point links between notebooks to their places in the report."""
    link = r"\]\((?:\./)?(\d\d-[^)#/]+)\.ipynb(#[^)]*)?\)"
    return re.sub(link, lambda found: f"](#{make_anchor(unquote(found[1]))})", source)


def make_anchor(name: str) -> str:
    """Return what stands for the name of a notebook in ids: letters, digits, - and _.

    Parameters
    ----------
    name
        Any name; most are their own anchors.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:LONGEST_ANCHOR]
    return name if plain == name else f"{plain}-{digest(name.encode())}"


def _headings(source: str) -> list[str]:
    """Return the heading lines of a Markdown text, without those in code blocks."""
    prose = re.sub(r"^```.*?^```", "", source, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#{1,3} .+$", prose, flags=re.MULTILINE)


def _merge(notebooks: dict[str, "NotebookNode"], title: str) -> "NotebookNode":
    from nbformat.v4 import new_notebook

    cells = [cell for notebook in notebooks.values() for cell in notebook.cells]
    language = {"name": "python", "pygments_lexer": "ipython3"}
    return new_notebook(
        cells=cells, metadata={"title": title, "language_info": language}
    )


def _contents(notebooks: dict[str, "NotebookNode"]) -> list[dict[str, Any]]:
    """Return what the table of contents says of each notebook."""
    return [
        {
            "name": name,
            "anchor": make_anchor(name),
            "sections": _sections(notebook),
            "run": notebook.metadata.get("papermill", {}),
            "stopped_at": _stopped_at(notebook),
            "warnings": find_warnings(notebook.cells),
        }
        for name, notebook in notebooks.items()
    ]


def _stopped_at(notebook: "NotebookNode") -> str:
    """Return the id of the cell that raised, "" if none did."""
    for cell in notebook.cells:
        if cell.metadata.get("papermill", {}).get("exception"):
            return str(cell.id)
    return ""


def _sections(notebook: "NotebookNode") -> list[dict[str, str]]:
    return [
        {"title": re.sub(r"[#*`]", "", line).strip(), "cell": cell.id}
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in _headings(cell.source)
        if line.startswith("## ")
    ]


def _render(notebook: "NotebookNode", contents: list[dict[str, Any]]) -> str:
    from jinja2 import FileSystemLoader
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        extra_loaders=[FileSystemLoader(Path(__file__).parent)],
        template_file=TEMPLATE,
        filters={"safe_html": _safe_html},
        exclude_anchor_links=True,
    )
    html, _ = exporter.from_notebook_node(notebook, {"contents": contents})
    return str(html)


def _safe_html(html: str) -> str:
    """Reduce HTML to tags and attributes that cannot run or load anything."""
    import bleach

    text = re.sub(r"<(script|style)\b.*?</\1\s*>", "", html, flags=re.DOTALL | re.I)
    cleaner = bleach.Cleaner(
        tags=SAFE_TAGS,
        attributes=_is_safe_attribute,
        protocols=["data", "http", "https"],
        strip=True,
    )
    return str(cleaner.clean(text))


def _is_safe_attribute(tag: str, name: str, value: str) -> bool:
    if name == "src":
        return value.startswith("data:image/")
    return name in SAFE_ATTRIBUTES or (tag, name) == ("a", "href")
