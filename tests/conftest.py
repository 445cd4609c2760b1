"""Fixtures that every test file may use."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from chromium import give_up, launch
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

# A busy machine is no reason to fail, and nothing is written beside the tests.
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))
settings.register_profile("tests", deadline=None, database=None)
settings.load_profile("tests")

REAL = Path(__file__).parents[2] / "shared" / "real"

MOST_WORKERS = 8
WORKER_BYTES = 3 * 2**30  # of a process of tests and the kernels that it starts
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)
LONG_FILES = (  # the longest first
    *("test_notebooks.py", "test_labeller.py", "test_review.py", "test_training.py"),
    *("test_labels_durability.py", "test_gallery_and_browser.py", "test_cluster.py"),
    *("test_map.py", "test_pipeline.py", "test_full_disk.py", "test_beamtime.py"),
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Say how many processes `make test` shares the tests among."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(count_cores(), memory // WORKER_BYTES, MOST_WORKERS))


def pytest_configure(config: pytest.Config) -> None:
    """Leave each of several processes its share of the cores."""
    shared_by = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if shared_by > 1:
        share = str(max(1, count_cores() // shared_by))
        for name in THREADS:
            os.environ.setdefault(name, share)


def count_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: no process is left alone with one at the end."""
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture
def real_file() -> Callable[[str], Path]:
    """Give the path of a measured file, or skip the test where it is absent."""

    def find(name: str) -> Path:
        path = REAL / name
        if not path.exists():
            pytest.skip(f"measured file {name} is not at {REAL}")
        return path

    return find


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Give the one browser of all tests, or skip the test where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up("playwright is not installed; it comes with the extra 'test'")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        # One context for all pages: JupyterLab is loaded from its cache.
        yield browser.new_context(viewport={"width": 1280, "height": 800})
        browser.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[sa.Engine]:
    """Run a PostgreSQL server on a socket of its own."""
    pytest.importorskip("psycopg", reason="psycopg (extra: cluster) is not installed")
    found = [
        shutil.which("initdb"),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    ]
    if not any(found):
        pytest.skip("no PostgreSQL server (initdb) on this machine")
    programs = Path([each for each in found if each][-1]).parent
    with tempfile.TemporaryDirectory(prefix="labels-") as folder:
        user = _unprivileged_user(folder)
        data = f"{folder}/data"

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [programs / program, "-D", data, *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
                cwd=folder,
                **user,
            )

        run("initdb", "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", options)
        try:
            yield sa.create_engine(
                f"postgresql+psycopg://tester@/postgres?host={folder}"
            )
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")


def _unprivileged_user(folder: str) -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
