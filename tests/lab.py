"""A real JupyterLab, and a notebook that is open in it."""

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import pytest

TOKEN = "only-for-this-test"
PATIENCE_MS = 90_000  # a busy machine needs it
OPENED_AT_MOST = 4
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
FOLDERS = {
    "HOME": "home",
    "XDG_CONFIG_HOME": "settings-of-widgets",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
}

PANEL = "[...jupyterapp.shell.widgets('main')].find((each) => each.sessionContext)"
KERNEL = f"{PANEL}.sessionContext.session.kernel"
LAB_IS_UP = f"""() => window.jupyterapp?.shell && {PANEL}
    && !document.querySelector('#jupyterlab-splash')"""
LAB_HAS_STARTED = f"""async () => {{
    await jupyterapp.started;
    await jupyterapp.restored;
    await {PANEL}.sessionContext.ready;
}}"""
KERNEL_IS_IDLE = f"() => {PANEL}.sessionContext.session?.kernel?.status === 'idle'"
CELLS = f"() => {PANEL}.content.model.sharedModel.cells.map((cell) => cell.toJSON())"
RUN_CODE = f"""async (code) => {{
    const reply = await {KERNEL}.requestExecute({{ code }}).done;
    if (reply.content.status !== 'ok') throw new Error(reply.content.evalue);
}}"""


class LabServer:
    """JupyterLab with folders of its own, so that nobody's settings are touched."""

    def __init__(self, home: Path) -> None:
        self.notebooks = home / "notebooks"
        self._home = home
        self.notebooks.mkdir(parents=True)
        self._write_settings()
        self._log = (home / "server.log").open("wb")
        self._process = subprocess.Popen(
            self._command(),
            cwd=self.notebooks,
            env=self._environment(),
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.url = self._find_url()

    @property
    def log(self) -> str:
        return (self._home / "server.log").read_text(errors="replace")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def trust(self, path: Path) -> None:
        """Let JupyterLab show the widgets of a notebook that ran elsewhere."""
        command = [sys.executable, "-m", "jupyter", "trust", str(path)]
        subprocess.run(command, env=self._environment(), check=True)

    def _command(self) -> list[str]:
        is_root = hasattr(os, "geteuid") and os.geteuid() == 0
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser"),
            *(["--allow-root"] if is_root else []),
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",
            f"--IdentityProvider.token={TOKEN}",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
        ]

    def _environment(self) -> dict[str, str]:
        own = {name: self._home / folder for name, folder in FOLDERS.items()}
        for folder in own.values():
            folder.mkdir(exist_ok=True)
        return os.environ | {name: str(folder) for name, folder in own.items()}

    def _write_settings(self) -> None:
        folder = self._home / "settings" / "@jupyterlab"
        for name, content in SETTINGS.items():
            path = folder / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))

    def _find_url(self) -> str:
        facts = self._home / "runtime" / f"jpserver-{self._process.pid}.json"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError, ValueError):
                url = str(json.loads(facts.read_text())["url"])
                with urllib.request.urlopen(f"{url}api/status?token={TOKEN}"):
                    return url
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.1)
        self.stop()
        pytest.fail(f"JupyterLab did not start:\n{self.log}")


class LabPage:
    """A notebook that is open in the browser, and the widgets in it.

    `place` is where: "lab/tree" is JupyterLab, "doc/tree" its simple mode, "notebooks"
    Notebook 7.
    """

    def __init__(
        self, page: Any, server: LabServer, path: str, place: str = "lab/tree"
    ) -> None:
        self.page = page
        self.folder = (server.notebooks / path).parent
        self.labels = self.folder / "labels.sqlite"
        self.console: list[str] = []
        self._url = f"{server.url}{place}/{path}?token={TOKEN}&reset"
        page.set_default_timeout(PATIENCE_MS)
        # The file browser may say so of a folder that is there, on a busy machine.
        page.add_locator_handler(
            page.locator(".jp-Dialog", has_text="Directory not found"),
            lambda dialog: dialog.locator("button").last.click(),
        )
        page.on("console", lambda message: self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(f"ERROR {error}"))

    def open(self) -> None:
        self.page.goto(self._url)
        self.page.wait_for_function(LAB_IS_UP)
        self.page.evaluate(LAB_HAS_STARTED)
        self.page.wait_for_function(KERNEL_IS_IDLE)

    def open_with_widgets(self) -> None:
        """Open a notebook whose widgets are in the file alone, without their kernel.

        JupyterLab gives up on them when a busy machine needs more than two seconds to
        restore them; a person would then load the page again, and so does this.
        """
        widget = self.page.locator(".sh").first
        given_up = self.page.get_by_text("Error displaying widget").first
        for _ in range(OPENED_AT_MOST):
            self.open()
            widget.or_(given_up).wait_for()
            if widget.is_visible():
                return
        pytest.fail("JupyterLab did not restore the widgets of the notebook")

    def run_all(self) -> None:
        """Run every cell; a cell that fails, fails the test."""
        self.command("notebook:run-all-cells")
        for cell in self.cells():
            for output in cell.get("outputs", ()):
                assert output["output_type"] != "error", "\n".join(output["traceback"])

    def cells(self) -> list[dict[str, Any]]:
        return list(self.page.evaluate(CELLS))

    def command(self, name: str, **options: Any) -> None:
        script = "([name, options]) => jupyterapp.commands.execute(name, options)"
        self.page.evaluate(script, [name, options])

    def stored(self) -> dict[int, str]:
        """Return the current labels, {pattern: word}, from the database itself."""
        with sqlite3.connect(self.labels) as database:
            rows = database.execute("SELECT pattern, label FROM current_labels")
            return dict(rows.fetchall())

    def run_code(self, code: str) -> None:
        """Run code in the kernel, not in a cell."""
        self.page.evaluate(RUN_CODE, code)

    def widget(self, n: int = 0, state: str = "ready") -> Any:
        """Return the n-th widget once it is in this state."""
        self.page.locator(f".sh >> nth={n}").and_(
            self.page.locator(f"[data-state={state}]")
        ).wait_for()
        return self.page.locator(".sh").nth(n)

    def close(self) -> None:
        with suppress(Exception):  # the kernel may have been killed
            self.page.evaluate(f"() => {PANEL}.sessionContext.shutdown()")
        self.page.close()


def write_notebook(path: Path, cells: list[str]) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
