"""A process that imports what the notebooks need, and forks their kernels.

Importing takes longer than most cells do; a fork has at once what its parent has
imported. Where a process cannot be forked, each kernel imports for itself, while the
notebook before works.

This module is run in that process, and in kernels, so it imports no more than they do.
"""

import ast
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from helpers.errors import NotebookError

HOST = "--host"
FIRST = "IMPORT_FIRST"
FIGURES = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
# Nothing in the folder is imported so: an earlier notebook may still change it.
START = (
    *(sys.executable, "-c"),
    "import sys; sys.path = [*filter(None, sys.path)]; "
    "from helpers.run.kernel_host import main; main()",
)
START_KERNEL = [
    *START,
    "--quiet",  # its own log would stand between the lines about progress
    # to press figures harder takes half of the time that they take to draw
    "--InlineBackend.print_figure_kwargs="
    "{'bbox_inches': 'tight', 'pil_kwargs': {'compress_level': 1}}",
    *("-f", "{connection_file}"),
]
IMPORTED_FIRST = ("helpers", "h5py", "matplotlib", "numpy", "scipy")
FITS = ("sklearn.linear_model", "sklearn.model_selection")
IMPORTED_BY = {  # what these import when they are called, which takes seconds
    "make_map": ("openTSNE", "sklearn.cluster"),
    "show_map": ("jscatter",),
    "choose_metric": ("sklearn.metrics",),
    "rank_patterns": ("scipy.ndimage",),
    "train_model": (*FITS, "helpers.classifier:import_keras"),
    "substitute_out_of_fold": FITS,
    "choose_next_labels": (*FITS, "sklearn.cluster"),
}


def can_fork() -> bool:
    """Tell whether kernels can be forked and watched: by Linux since version 5.3."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def find_imports(notebook: Path) -> list[str]:
    """Return the modules that a notebook will import, also when it calls functions."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    code = (c["source"] for c in content["cells"] if c["cell_type"] == "code")
    found: dict[str, None] = {}
    called: dict[str, None] = {}
    for source in code:
        with suppress(SyntaxError):
            for node in ast.walk(ast.parse("".join(source))):
                found |= dict.fromkeys(_name_modules(node))
                called |= dict.fromkeys(IMPORTED_BY.get(_name_called(node), ()))
    named = [name for name in found if name.split(".")[0] in IMPORTED_FIRST]
    return [*named, *called]


def _name_called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return ast.unparse(node.func).rpartition(".")[2]


def _name_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        inside = [f"{node.module}.{alias.name}" for alias in node.names]
        return [node.module, *(inside if node.module == "helpers" else [])]
    return []


class ForkedKernel:
    """A kernel that the host forked, with what Jupyter uses of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)  # readable when it has ended
        weakref.finalize(self, os.close, self._handle)
        self._end = select.poll()
        self._end.register(self._handle, select.POLLIN)

    def poll(self) -> int | None:
        """Return 0 if it has ended, None if it works."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Return 0 as soon as it has ended, None after so many seconds."""
        return (
            0 if self._end.poll(None if timeout is None else 1000 * timeout) else None
        )

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class KernelHost:
    """The process that imports what notebooks need, and forks their kernels.

    Parameters
    ----------
    import_first
        What it begins to import, without being waited for.
    """

    def __init__(self, import_first: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*START, HOST],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | FIGURES,
            start_new_session=True,  # what is typed in the terminal is for the caller
        )
        with suppress(OSError):  # it has ended: who wants a kernel is told
            self._order({"env": {FIRST: " ".join(import_first)}})

    def _order(self, order: dict[str, Any]) -> None:
        print(json.dumps(order), file=cast(IO[str], self._process.stdin), flush=True)

    def fork(
        self, command: Sequence[str], cwd: str, env: dict[str, str]
    ) -> ForkedKernel:
        """Fork a kernel.

        Parameters
        ----------
        command
            Of a kernel, beginning with `START`.
        cwd, env
            The kernel's folder and environment.

        Raises
        ------
        NotebookError
            If the host, or the kernel at once, has ended.
        """
        order = {"arguments": command[len(START) :], "cwd": cwd, "env": env}
        try:
            self._order(order)
            return ForkedKernel(int(cast(IO[str], self._process.stdout).readline()))
        except (OSError, ValueError) as error:
            message = (
                "The process that starts kernels has ended, most often for lack of "
                "memory. Close other programs, or run on a machine with more memory."
            )
            raise NotebookError(message) from error

    def close(self) -> None:
        """End the host; kernels that are left notice it, and end too."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Be the host of kernels, or one kernel, as the arguments say."""
    if sys.argv[1:] == [HOST]:
        _serve()
    else:
        _become_kernel(sys.argv[1:])


def _serve() -> None:
    """Import and fork as each order says, a line of JSON; answer with process ids."""
    kernels: set[int] = set()
    signal.signal(signal.SIGCHLD, lambda *_: _reap(kernels))
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # whose end is that of kernels
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what modules say when they are imported is no answer
    importlib.import_module("ipykernel.kernelapp")
    for line in sys.stdin:
        order = json.loads(line)
        _import(name for name in order["env"][FIRST].split() if ":" not in name)
        if "arguments" not in order:
            continue
        if not (pid := os.fork()):
            answers.close()
            _detach(order["cwd"], order["env"])
            _become_kernel(order["arguments"])
        kernels.add(pid)
        answers.write(f"{pid}\n")
        answers.flush()


def _reap(kernels: set[int]) -> None:
    """Reap kernels that have ended; what they used then counts as the host's."""
    for pid in [*kernels]:
        if os.waitpid(pid, os.WNOHANG)[0]:
            kernels.discard(pid)


def _detach(cwd: str, env: dict[str, str]) -> None:
    """Become like a new process: own session, folder, environment and randomness."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # else all kernels draw the same numbers
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _become_kernel(arguments: Sequence[str]) -> NoReturn:
    _import(os.environ.pop(FIRST, "").split())
    sys.argv[1:] = arguments
    importlib.import_module("ipykernel.kernelapp").launch_new_instance()
    sys.exit()


def _import(names: Iterable[str]) -> None:
    """Import modules; call the function behind a colon."""
    for name in names:
        module, _, function = name.partition(":")
        with suppress(Exception):  # the notebook will say so
            found = importlib.import_module(module)
            if function:
                getattr(found, function)()
