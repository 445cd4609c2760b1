"""What holds the repository together: dependencies, imports, the files around it."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

import helpers
from helpers.__main__ import find_licences
from helpers.labels import name_labeller

ROOT = Path(__file__).parents[1]
ROOMS = sorted(
    path.stem
    for path in (ROOT / "helpers").iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
)
CONDA_NAMES = {
    "dask": "dask-core",
    "jupyter-client": "jupyter_client",
    "matplotlib": "matplotlib-base",
    "playwright": "playwright-python",
    "psycopg": "psycopg",
}
IMPORT_NAMES = {
    "PIL": "pillow",
    "jscatter": "jupyter-scatter",
    "openTSNE": "opentsne",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "IPython": "ipykernel",
}
NOT_LOCKED = ("docs", "euxfel")  # extras for a few, beside the locked set
MOST_MODULES = 85
HEAVY = (
    *("tensorflow", "keras", "sklearn", "matplotlib.pyplot"),
    *("nbformat", "papermill", "scipy.stats", "scipy.optimize", "scipy.ndimage"),
)
NOT_THIS_MACHINE = re.compile(
    r"/work/(main|shared)\b|/root/\w|\.library\b|files\.pythonhosted|pypi\.org|/simple/?\b"
)


def read_project() -> dict:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def all_requirements(without: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what is needed with all extras but some: name, and which version."""
    project = read_project()
    extras = project["optional-dependencies"].items()
    chosen = [names for extra, names in extras if extra not in without]
    groups = [project["dependencies"], *chosen]
    found = {}
    for requirement in [each for group in groups for each in group]:
        name, version = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(.*)", requirement).groups()
        found[name] = version
    return found


def tracked_files() -> list[Path]:
    """Return what git has, or would get with `git add`; skip outside a repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git repository")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_helpers_is_the_repository_s() -> None:
    assert Path(helpers.__file__).parent == ROOT / "helpers"


def test_version_is_the_same_everywhere() -> None:
    version = read_project()["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert helpers.__version__ == version
    assert citation["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_conda_environment_has_the_same_dependencies() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    conda = [each for each in environment["dependencies"] if isinstance(each, str)]
    expected = [
        f"{CONDA_NAMES.get(name, name)}{version}"
        for name, version in all_requirements(without=NOT_LOCKED).items()
    ]
    python = read_project()["requires-python"]
    assert sorted(conda) == sorted([f"python{python}", "pip", *expected])


def test_lock_pins_every_dependency_and_names_no_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = set(re.findall(r"^([\w-]+)(?:\[[\w,]+\])?==", lock, re.MULTILINE))
    assert set(all_requirements(without=NOT_LOCKED)) <= pinned
    assert "://" not in lock
    assert "--index" not in lock


def test_nothing_under_the_gpl_is_locked_and_the_rest_can_be_installed_beside() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = set(re.findall(r"^([\w-]+)(?:\[[\w,]+\])?==", lock, re.MULTILINE))
    found = [each for each in find_licences() if each.is_copyleft]
    assert not {each.name for each in found if "LGPL" not in each.licence} & locked
    assert "cfel-fmt" not in locked
    beside = (ROOT / "requirements-euxfel.lock").read_text("utf-8")
    names = set(re.findall(r"^([\w-]+)==", beside, re.MULTILINE))
    assert {"extra-data", "extra-geom"} <= names
    assert not names & locked


def test_what_the_site_needs_is_locked_beside() -> None:
    lock = (ROOT / "requirements-docs.lock").read_text("utf-8")
    names = set(re.findall(r"^([\w-]+)==", lock, re.MULTILINE))
    needed = set(all_requirements()) - set(all_requirements(without=("docs",)))
    assert needed <= names


def third_party_imports(path: Path) -> set[str]:
    """Return the top-level names that a file imports, without Python's own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"helpers"}


def test_what_helpers_imports_is_a_declared_dependency() -> None:
    names = {
        name
        for path in (ROOT / "helpers").rglob("*.py")
        for name in third_party_imports(path)
    }
    distributions = {IMPORT_NAMES.get(each, each).replace("_", "-") for each in names}
    assert distributions - set(all_requirements()) == set()


def loaded_by(*rooms: str) -> set[str]:
    """Return the modules that a fresh Python has after importing rooms."""
    imports = "".join(f"import helpers.{room}\n" for room in rooms)
    code = f"import sys\nimport helpers\n{imports}print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())


def test_rooms_are_light_to_import() -> None:
    rooms = [room for room in ROOMS if not room.startswith("__")]
    assert {"patterns", "classifier", "run", "plots"} <= set(rooms)
    assert loaded_by(*rooms) & set(HEAVY) == set()


def module_of(path: Path) -> str:
    """Return the name by which a file of the package is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in (ROOT / "helpers").rglob("*.py")}


def imports_of(module: str) -> set[str]:
    """Return the modules of the package that a module imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            names = {f"{node.module}.{name.name}" for name in node.names}
            found |= (names & MODULES.keys()) or {node.module}
    return found - {module}


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_no_two_modules_have_the_same_name() -> None:
    names = [m.rsplit(".", 1)[-1] for m, p in MODULES.items() if p.stem != "__init__"]
    assert sorted(names) == sorted(set(names))
    assert len(MODULES) <= MOST_MODULES


def test_imports_between_rooms_go_through_their_faces() -> None:
    past_a_face = {
        f"{module} imports {other}"
        for module in MODULES
        for other in imports_of(module)
        if room_of(module) != room_of(other) and other != room_of(other)
    }
    assert past_a_face == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    # a room's face imports all of it, so inside a room modules name each other
    within = {m: imports_of(m) for m, p in MODULES.items() if p.stem != "__init__"}
    rooms: dict[str, set[str]] = {}
    for module, others in within.items():
        beyond = {room_of(other) for other in others} - {room_of(module), "helpers"}
        rooms.setdefault(room_of(module), set()).update(beyond)
    for graph in (within, rooms):
        list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_texts_are_utf_8_and_terminals_may_lack_letters(tmp_path: Path) -> None:
    code = f"""
import sys
from datetime import datetime, UTC
from pathlib import Path
from helpers.labels.label_csv import GivenLabel, read_labels_csv, write_labels_csv
from helpers.labels import write_queue
path = Path({str(tmp_path)!r})
given = [GivenLabel(0, "single", "Jörg Ана", datetime(2025, 1, 1, tzinfo=UTC))]
write_labels_csv(path / "labels.csv", given)
assert read_labels_csv(path / "labels.csv", 5) == given
write_queue(path, [1], ["größer"])
from helpers.__main__ import main
sys.exit(main(["handoff", "--help"]))
"""
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    without = {k: v for k, v in os.environ.items() if k not in ("LANG", "PYTHONUTF8")}
    (tmp_path / "code.py").write_text(code, "utf-8")
    ran = subprocess.run(
        [sys.executable, tmp_path / "code.py"],
        cwd=ROOT,
        env=without | poor | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")
    assert "Jörg Ана" in (tmp_path / "labels.csv").read_text("utf-8")
    assert "größer" in (tmp_path / "to_label.csv").read_text("utf-8")


def test_whoever_has_no_name_still_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError

    monkeypatch.setattr("getpass.getuser", nobody)
    assert name_labeller("anna") == "anna"
    assert name_labeller() == f"user {os.getuid()}"


def test_commands_in_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    mentioned = set(re.findall(r"\bmake ([a-z]+)\b", readme))
    assert {"run", "lab", "test"} <= mentioned
    assert mentioned <= targets


def test_no_file_names_this_machine_or_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()[:100]}"
        for path in tracked_files()
        if path != Path(__file__) and b"\0" not in path.read_bytes()
        for line in path.read_text("utf-8").splitlines()
        if NOT_THIS_MACHINE.search(line)
    ]
    assert found == []


def test_no_large_file_is_tracked() -> None:
    large = [path for path in tracked_files() if path.stat().st_size > 500_000]
    assert large == []


def test_set_up_for_continuous_integration_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    checked = subprocess.run(["bash", "-n", script], check=False)
    assert checked.returncode == 0


def test_hooks_run_what_make_check_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    checks = makefile.split("check: $(READY)\n")[1].split("\n\n")[0]
    tools = {re.search(r"\.venv/bin/(\w+)", entry).group(1) for entry in entries}
    assert tools == set(re.findall(r"\$\(BIN\)/(\w+)", checks))
