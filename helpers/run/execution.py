"""Execute notebooks, each in a kernel of its own, and show them all in one report.

The report is one HTML file that needs no network. The widgets of a notebook live only
beside a running kernel; in the report stand the pictures that they leave behind.
"""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast
from urllib.parse import unquote

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient.util import run_sync  # also where a loop runs, as in Jupyter

from helpers import errors
from helpers.errors import HelpersError, NotebookError
from helpers.made_from import digest
from helpers.outputs import atomic_write
from helpers.run.kernel_host import (
    FIGURES,
    FIRST,
    START_KERNEL,
    KernelHost,
    find_imports,
)
from helpers.run.stages import papermill_path

if TYPE_CHECKING:
    from nbformat import NotebookNode

FOLDER_PREFIX = "sh-kernel-"  # short: the path of a socket may be no longer than 100
LOCK_NAME = "in-use"
SECONDS_TO_LOCK = 60


class _ThisInterpreter(KernelSpecManager):
    """Answers every kernel name with the running interpreter."""

    def __init__(self, import_first: Sequence[str]) -> None:
        super().__init__()
        self._import_first = " ".join(import_first)

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=START_KERNEL,
            language="python",
            display_name=kernel_name,
            env=FIGURES | {FIRST: self._import_first},
        )


class ThisKernelManager(AsyncKernelManager):
    """Starts a kernel of the running interpreter, whatever kernelspecs there are.

    It talks to the kernel by sockets in a private folder: network ports are chosen
    first and opened later, and on a shared machine another program may be quicker.
    """

    def __init__(
        self, import_first: Sequence[str], host: KernelHost | None, **kwargs: Any
    ) -> None:
        sweep_kernel_folders()
        folder = tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX)
        self._lock = _lock(Path(folder.name))
        self._host = host
        super().__init__(
            kernel_spec_manager=_ThisInterpreter(import_first),
            transport="ipc",
            connection_file=str(Path(folder.name, "kernel.json")),
            **kwargs,
        )
        self._folder = folder

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        if self._host is None:
            await super()._async_launch_kernel(kernel_cmd, **kw)
            return
        process = self._host.fork(kernel_cmd, kw["cwd"], kw["env"])
        local = cast(LocalProvisioner, self.provisioner)
        local.process = cast(Any, process)
        local.pid = local.pgid = process.pid  # it leads a session of its own
        local.cwd = kw["cwd"]
        self._reconcile_connection_info(local.connection_info)

    async def cleanup_resources(  # type: ignore[override]  # ours is asynchronous
        self, restart: bool = False
    ) -> None:
        """Remove the private folder with everything else, not whenever it is noticed.

        Parameters
        ----------
        restart
            Whether the kernel is to be started again.
        """
        await super().cleanup_resources(restart=restart)
        if not restart:
            self._folder.cleanup()
            self._lock.close()


def _lock(folder: Path) -> IO[str]:
    """Show that a folder is in use, for as long as this process lives."""
    file = (folder / LOCK_NAME).open("w", encoding="utf-8")
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def sweep_kernel_folders() -> None:
    """Remove the private folders of runs that were killed."""
    with suppress(ImportError):  # Windows has no such locks
        import fcntl

        for lock in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/{LOCK_NAME}"):
            with suppress(OSError), lock.open("r+", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - lock.stat().st_mtime > SECONDS_TO_LOCK:
                    shutil.rmtree(lock.parent, ignore_errors=True)


class WarmKernel:
    """A kernel that is started before its notebook runs, so that imports are done then.

    Parameters
    ----------
    notebook
        The notebook that it is for.
    host
        What forks it; without one it imports all for itself.
    """

    def __init__(self, notebook: Path, host: KernelHost | None = None) -> None:
        self.notebook = notebook
        self.manager = ThisKernelManager(
            find_imports(notebook), host, kernel_name="python3"
        )
        run_sync(self.manager.start_kernel)(cwd=str(notebook.parent))

    def close(self) -> None:
        """End the kernel, whatever it does."""
        run_sync(self.manager.shutdown_kernel)(now=True)
        run_sync(self.manager.cleanup_resources)()


class Kernels:
    """Starts the kernel of the next notebook while one works.

    Parameters
    ----------
    notebooks
        In the order in which they may run.
    host
        What forks the kernels, ended with them; None = each imports for itself.
    """

    def __init__(self, notebooks: Sequence[Path], host: KernelHost | None) -> None:
        self._notebooks = list(notebooks)
        self._host = host
        self._next: Future[WarmKernel] | None = None
        self._starter = ThreadPoolExecutor(1, "kernel")  # the host imports meanwhile

    def execute(
        self, notebook: Path, executed: Path, parameters: Mapping[str, Any]
    ) -> list[str]:
        """Run one of the notebooks as `execute_notebook` does, in its warm kernel."""
        return execute_notebook(notebook, executed, parameters, self.take(notebook))

    def take(self, notebook: Path) -> WarmKernel:
        """Return the kernel of a notebook, and start that of the one after it."""
        following, self._next = self._next, None
        kernel = following.result() if following else None
        if kernel is not None and kernel.notebook != notebook:
            kernel.close()
            kernel = None
        kernel = kernel or WarmKernel(notebook, self._host)
        later = self._notebooks[self._notebooks.index(notebook) + 1 :]
        if later:
            self._next = self._starter.submit(WarmKernel, later[0], self._host)
        return kernel

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the kernel that nobody took, and the host."""
        if self._next is not None and self._next.exception() is None:
            self._next.result().close()
        self._starter.shutdown()
        if self._host is not None:
            self._host.close()


SECONDS_TO_START = 300  # a busy shared machine may need minutes to start a kernel
LINES_SHOWN = 4

Part = dict[str, Any]  # of a notebook: a cell or an output; a NotebookNode is one too


def execute_notebook(
    notebook: Path,
    executed: Path,
    parameters: Mapping[str, Any],
    kernel: WarmKernel | None = None,
) -> list[str]:
    """Run a notebook in its own folder and keep the executed copy, even of a failure.

    Parameters
    ----------
    notebook
        The notebook.
    executed
        Where the executed copy goes.
    parameters
        Values for its parameters cell.
    kernel
        Where it shall run; closed in the end. Started here when not given.

    Returns
    -------
    list
        The first line of each warning that it showed.

    Raises
    ------
    NotebookError
        If a cell raises, or the kernel dies or does not start.
    """
    kernel = kernel or WarmKernel(notebook)
    with closing(kernel), atomic_write(executed, private=True) as temporary:
        reason = _run(notebook, temporary, parameters, kernel)
        cells = _finish(temporary, executed)
    if reason:
        message = (
            f"{notebook.stem} stopped {_where(cells)}\n\n{reason}\n\n"
            f"Executed copy with all that was shown: {executed}"
        )
        raise NotebookError(message)
    return find_warnings(cells)


def _run(
    notebook: Path, output: Path, parameters: Mapping[str, Any], kernel: WarmKernel
) -> str:
    """Run the notebook; return why it stopped, "" if it came to its end."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            papermill_path(notebook),
            papermill_path(output),
            dict(parameters),
            kernel_name="python3",
            language="python",
            cwd=notebook.parent,
            km=kernel.manager,
            start_timeout=SECONDS_TO_START,
            progress_bar={"desc": notebook.stem, "leave": False, "disable": None},
        )
    except PapermillExecutionError as error:
        return _reason(error.ename, error.evalue)
    except DeadKernelError:
        return (
            "Its Python process was ended from outside, most often for lack of memory. "
            "Close other programs, or run on a machine with more memory."
        )
    except RuntimeError as error:
        return f"Its Python process did not start: {error}"
    return ""


def _reason(error_name: str, message: str) -> str:
    """Return the message alone of an error that the user can put right."""
    family = getattr(errors, error_name, None)
    if isinstance(family, type) and issubclass(family, HelpersError):
        return message
    return (
        f"{error_name}: {message}\n"
        "This is no error that the notebooks foresee; the executed copy holds the "
        "traceback."
    )


def _finish(temporary: Path, executed: Path) -> list[Part]:
    """Write its final place into the executed copy; return its cells.

    Widgets leave their pictures: JupyterLab shows those at once, but widgets without
    their kernel not always.
    """
    content = json.loads(temporary.read_text(encoding="utf-8"))
    content["metadata"].pop("widgets", None)
    for cell in content["cells"]:
        if "outputs" in cell:
            cell["outputs"] = leave_pictures(cell["outputs"])
    content["metadata"]["papermill"]["output_path"] = str(executed)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    cells: list[Part] = content["cells"]
    return cells


def _where(cells: Sequence[Part]) -> str:
    """Say which cell was the last that started."""
    started = [
        number
        for number, cell in enumerate(cells)
        if cell["metadata"].get("papermill", {}).get("start_time")
    ]
    if not started:
        return "before its first cell."
    before = cells[: started[-1] + 1]
    number = sum(cell["cell_type"] == "code" for cell in before)
    prose = ["".join(cell["source"]) for cell in before if _is_prose(cell)]
    headings = _find_headings("\n".join(prose))
    under = f", under «{headings[-1].lstrip('# ')}»" if headings else ""
    lines = "".join(before[-1]["source"]).strip().splitlines()
    excerpt = lines[:LINES_SHOWN] + ["…"] * (len(lines) > LINES_SHOWN)
    shown = "\n".join(f"    {line}" for line in excerpt)
    return f"at its code cell {number}{under}:\n{shown}"


def _is_prose(cell: Part) -> bool:
    return bool(cell["cell_type"] == "markdown")


def _find_headings(source: str) -> list[str]:
    """Return the heading lines of a Markdown text, without those in code blocks."""
    prose = re.sub(r"^```.*?^```", "", source, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#{1,3} .+$", prose, flags=re.MULTILINE)


TEMPLATE = "report.html.j2"
TITLE = "Single hits: report"
WIDGET = "application/vnd.jupyter.widget-view+json"
SHOWN_WITHOUT_KERNEL = ("image/png", "image/jpeg", "image/svg+xml", "text/html")
# nbconvert's own `sanitize_html` shows headings, table heads and pictures as text.
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
ERROR_MARK = "papermill-error-cell-tag"  # of cells that papermill adds
LONGEST_ANCHOR = 40  # an id of a cell may have 64 characters


def write_report(executed_notebooks: Sequence[str | Path], path: str | Path) -> Path:
    """Write one HTML file with all executed notebooks, and return its path.

    Code is hidden until a reader asks for it. What a notebook shows as HTML is reduced
    to harmless tags, since it may quote text from a file.

    Parameters
    ----------
    executed_notebooks
        Paths of executed notebooks, in the order in which they shall appear.
    path
        The HTML file.
    """
    import nbformat

    notebooks = {
        Path(notebook).stem: nbformat.read(notebook, as_version=4)
        for notebook in executed_notebooks
    }
    for name, notebook in notebooks.items():
        _prepare(name, notebook)
    html = _render(notebooks)
    with atomic_write(path, private=True) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def find_warnings(cells: Sequence[Part]) -> list[str]:
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


def leave_pictures(outputs: Sequence[Part]) -> list[Part]:
    """Replace live widgets by the pictures that they leave; drop widgets without one.

    Parameters
    ----------
    outputs
        Of a cell, as in the file of the notebook; changed in place.
    """
    for output in outputs:
        if output.get("data", {}).pop(WIDGET, None):
            output["metadata"]["still_of_widget"] = True
    return [output for output in outputs if _shows_something(output)]


def _shows_something(output: Part) -> bool:
    if not output.get("metadata", {}).get("still_of_widget"):
        return True
    return any(kind in output["data"] for kind in SHOWN_WITHOUT_KERNEL)


def _prepare(name: str, notebook: "NotebookNode") -> None:
    """Give the cells ids that are unique in the report, and outputs that show in it."""
    heading = name
    notebook.cells = [
        cell
        for cell in notebook.cells
        if ERROR_MARK not in cell.metadata.get("tags", [])
    ]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{make_anchor(name)}-{number}"
        if _is_prose(cell):
            cell.source = _with_links_inside(cell.source)
            heading = (_find_headings(cell.source) or [heading])[-1]
        elif cell.cell_type == "code":
            cell.outputs = leave_pictures(cell.outputs)
        cell.metadata["heading"] = heading.lstrip("# ")


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
        if _is_prose(cell)
        for line in _find_headings(cell.source)
        if line.startswith("## ")
    ]


def _render(notebooks: dict[str, "NotebookNode"]) -> str:
    from jinja2 import FileSystemLoader
    from nbconvert import HTMLExporter
    from nbformat.v4 import new_notebook

    language = {"name": "python", "pygments_lexer": "ipython3"}
    page = new_notebook(
        cells=[cell for notebook in notebooks.values() for cell in notebook.cells],
        metadata={"title": TITLE, "language_info": language},
    )
    exporter = HTMLExporter(
        extra_loaders=[FileSystemLoader(Path(__file__).parent)],
        template_file=TEMPLATE,
        filters={"safe_html": _safe_html},
        exclude_anchor_links=True,
    )
    resources = {"contents": _contents(notebooks)}
    html, _ = exporter.from_notebook_node(page, resources)
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
