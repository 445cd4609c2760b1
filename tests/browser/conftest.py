"""A real JupyterLab in a real browser, one for all tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import LabPage, LabServer, write_notebook


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """Give a JupyterLab that serves an empty folder."""
    server = LabServer(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


class Notebooks:
    """Notebooks that are open in the browser, one for each list of cells.

    Opening one and starting its kernel takes far longer than most tests, so tests share
    them; after a failed test the next one gets a new page and a new kernel.
    """

    def __init__(self, browser: Any, server: LabServer) -> None:
        self._browser = browser
        self._server = server
        self._open: dict[tuple[str, ...], LabPage] = {}
        self._count = 0

    def run(self, cells: list[str], name: str) -> LabPage:
        """Run all cells; `labels_file` beside the notebook names where labels go."""
        lab = self._open.get(tuple(cells))
        if lab is None:
            lab = self.write(cells)
            lab.open()
        lab.labels = lab.folder / f"{name}.sqlite"
        (lab.folder / "labels_file").write_text(lab.labels.name)
        lab.run_all()
        return lab

    def write(self, cells: list[str]) -> LabPage:
        """Write a notebook, and make a page to open it in."""
        self._count += 1
        path = f"{id(self)}-{self._count}/notebook.ipynb"
        write_notebook(self._server.notebooks / path, cells)
        lab = LabPage(self._browser.new_page(), self._server, path)
        self._open[tuple(cells)] = lab
        return lab

    def close(self) -> None:
        for lab in self._open.values():
            lab.close()
        self._open.clear()

    def keep_evidence(self, folder: Path) -> None:
        """Keep what helps to understand a failure."""
        for i, lab in enumerate(self._open.values()):
            lab.page.screenshot(path=folder / f"screenshot-{i}.png")
            (folder / f"console-{i}.txt").write_text("\n".join(lab.console))
        (folder / "server.txt").write_text(self._server.log)


@pytest.fixture(scope="module")
def shared_notebooks(chromium: Any, lab_server: LabServer) -> Iterator[Notebooks]:
    """Give the notebooks that the tests of a file share."""
    notebooks = Notebooks(chromium, lab_server)
    yield notebooks
    notebooks.close()


@pytest.fixture
def run_notebook(
    shared_notebooks: Notebooks, request: pytest.FixtureRequest
) -> Callable[[list[str]], LabPage]:
    """Give a function that runs a notebook of these cells, with labels of its own."""
    return lambda cells: shared_notebooks.run(cells, request.node.name)


@pytest.fixture(autouse=True)
def evidence(
    shared_notebooks: Notebooks, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[None]:
    """Keep what a failed test leaves, and nothing of it for the next one."""
    yield
    if request.node.stash.get(HAS_FAILED, False):
        shared_notebooks.keep_evidence(tmp_path)
        shared_notebooks.close()


HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        item.stash[HAS_FAILED] = True
    return report
