"""The kernel in which notebooks run: this very interpreter, with inline figures.

A user's own kernelspec may be called `python3` too and belong to another environment,
and a virtual environment need not have registered one; so none is looked up.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

START_KERNEL = [
    *("-m", "ipykernel_launcher"),
    "--quiet",  # its own log would stand between the lines about progress
    *("-f", "{connection_file}"),
]


class _ThisInterpreter(KernelSpecManager):
    """Answers every kernel name with the running interpreter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=[sys.executable, *START_KERNEL],
            language="python",
            display_name=kernel_name,
            env={"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        )


class ThisKernelManager(AsyncKernelManager):
    """Starts a kernel of the running interpreter, whatever kernelspecs there are.

    It talks to the kernel by sockets in a private folder: network ports are chosen
    first and opened later, and on a shared machine another program may be quicker.
    """

    def __init__(self, **kwargs: Any) -> None:
        folder = tempfile.TemporaryDirectory(prefix="kernel-")
        super().__init__(
            kernel_spec_manager=_ThisInterpreter(),
            transport="ipc",
            connection_file=str(Path(folder.name, "kernel.json")),
            **kwargs,
        )
        self._folder = folder

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
