"""The notebooks: their form, and whole runs on small files."""

import ast
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import nbformat
import numpy as np
import papermill
import pytest

from helpers.labels import LABELS, open_label_store
from helpers.outputs import sha256_of
from helpers.patterns import read_bad_pixels
from helpers.run import NOTEBOOKS_DIR, run_notebooks, summarise
from helpers.run.pipeline import find_notebooks
from helpers.run.stages import READERS, read_parameters
from helpers.simulate import pnccd_bad_pixels, write_example_labels, write_simulated

NAMES = [
    "01-inspect",
    "02-map",
    "03-label",
    "04-rank",
    "05-train",
    "06-review",
    "07-improve",
]
FORBIDDEN = ("@interact", "%matplotlib", "input(")
LOOPS = (ast.For, ast.While, ast.AsyncFor)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
QUICK = {"epochs": 2, "image_size": 64, "n_rotations": 12, "step_deg": 15}


# ---- form ------------------------------------------------------------------------


BEAMTIME = NOTEBOOKS_DIR / "beamtime.ipynb"  # stands beside the numbered ones
PATHS = [*find_notebooks(NOTEBOOKS_DIR), BEAMTIME]
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}


def prose_of(notebook: nbformat.NotebookNode) -> list[str]:
    """Return its Markdown cells."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def code_of(notebook: nbformat.NotebookNode) -> list[str]:
    """Return its code cells."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def parameters_cells(notebook: nbformat.NotebookNode) -> list[str]:
    """Return its cells tagged `parameters`."""
    return [
        cell.source
        for cell in notebook.cells
        if "parameters" in cell.metadata.get("tags", [])
    ]


def test_these_are_the_notebooks() -> None:
    assert list(NOTEBOOKS) == [*NAMES, "beamtime"]


def test_one_title_and_what_one_will_be_able_to_do() -> None:
    for name, notebook in NOTEBOOKS.items():
        first, *_ = prose_of(notebook)
        titles = re.findall(r"^# .+", "\n".join(prose_of(notebook)), re.MULTILINE)
        assert titles == [first.splitlines()[0]], name
        goals = first.split("**By the end you will**")[1].split("**Needs**")[0]
        assert 3 <= len(re.findall(r"^- ", goals, re.MULTILINE)) <= 5, name
        time = r"\*\*Makes\*\*.*\*\*Takes\*\*.*(minute|second)"
        assert re.search(time, first, re.DOTALL), name


def test_sections_then_summary_then_what_next() -> None:
    for name, notebook in NOTEBOOKS.items():
        prose = "\n".join(prose_of(notebook))
        sections = re.findall(r"^## (.+)", prose, re.MULTILINE)
        assert (sections[0], sections[-1]) == ("Parameters", "Summary"), name
        assert notebook.cells[-1].cell_type == "markdown", name
        assert "**Next:**" in notebook.cells[-1].source, name


def test_links_to_other_notebooks_lead_somewhere() -> None:
    lost = [
        (path.stem, link)
        for path in PATHS
        for link in re.findall(
            r"\]\(([\w./-]+)\)", "\n".join(prose_of(NOTEBOOKS[path.stem]))
        )
        if not (path.parent / link).exists()
    ]
    assert lost == []


def test_parameters_are_literals_of_their_type() -> None:
    for name, notebook in NOTEBOOKS.items():
        (cell,) = parameters_cells(notebook)
        for statement in ast.parse(cell).body:
            written = f"{name}: {ast.unparse(statement)}"
            assert isinstance(statement, ast.AnnAssign), written
            annotation = ast.unparse(statement.annotation)
            value = ast.literal_eval(statement.value)
            pattern = rf"(list\[)?({'|'.join(READERS)})\]?"
            assert re.fullmatch(pattern, annotation), written
            assert type(value).__name__ == annotation.split("[")[0], written


def test_papermill_explains_every_parameter() -> None:
    for path in PATHS:
        (cell,) = parameters_cells(NOTEBOOKS[path.stem])
        written = [statement.target.id for statement in ast.parse(cell).body]
        explained = read_parameters(path)
        assert list(explained) == written, path.stem
        assert written[:2] == ["patterns_file", "work_dir"], path.stem
        assert [p.name for p in explained.values() if not p.comment] == [], path.stem


def test_parameters_of_one_name_mean_the_same_everywhere() -> None:
    everywhere: dict[str, set[str]] = {}
    for path in PATHS:
        for name, parameter in read_parameters(path).items():
            everywhere.setdefault(name, set()).add(parameter.annotation)
    assert [name for name, types in everywhere.items() if len(types) > 1] == []


def test_cells_are_short() -> None:
    lines = [
        (name, [line for line in code.splitlines() if line.strip()])
        for name, notebook in NOTEBOOKS.items()
        for code in code_of(notebook)
    ]
    for name, cell in lines:  # imports and parameters have a line each
        is_list = cell[0].startswith(("import ", "from ", "patterns_file: "))
        assert len(cell) <= (20 if is_list else 15), name
    with_comment = [
        (name, line) for name, cell in lines for line in cell if line.startswith("#")
    ]
    assert with_comment == []


def test_cells_define_nothing_and_nest_no_loops() -> None:
    cells = [code for notebook in NOTEBOOKS.values() for code in code_of(notebook)]
    for code in cells:
        for node in ast.walk(ast.parse(code)):
            assert not isinstance(node, DEFINITIONS), code
            inside = [each for each in ast.walk(node) if isinstance(each, LOOPS)]
            assert not (isinstance(node, LOOPS) and len(inside) > 1), code


def test_prose_stands_before_every_code_cell() -> None:
    alone = []
    for name, notebook in NOTEBOOKS.items():
        kinds = ["", *[cell.cell_type for cell in notebook.cells]]
        for before, cell in zip(kinds, notebook.cells, strict=False):
            if cell.cell_type == "code" and before != "markdown":
                alone.append((name, cell.source.splitlines()[0]))
    assert alone == []


def test_nothing_that_waits_or_needs_a_screen() -> None:
    found = [
        (name, text)
        for name, notebook in NOTEBOOKS.items()
        for text in FORBIDDEN
        if text in "\n".join(code_of(notebook))
    ]
    assert found == []


def test_the_work_is_done_in_helpers() -> None:
    for name, notebook in NOTEBOOKS.items():
        first = code_of(notebook)[0]
        assert re.search(r"^(from|import) helpers", first, re.MULTILINE), name


def test_stored_without_outputs_and_with_its_kernel() -> None:
    for name, notebook in NOTEBOOKS.items():
        for cell in notebook.cells:
            assert not cell.get("outputs"), name
            assert cell.get("execution_count") is None, name
        assert "widgets" not in notebook.metadata, name
        kernel = notebook.metadata.kernelspec
        assert (kernel.name, kernel.language) == ("python3", "python"), name


# ---- whole runs ------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all of them on two small simulated files as one stack; give the folder."""
    folder = tmp_path_factory.mktemp("simulated")
    bad_pixels = pnccd_bad_pixels((96, 95))
    files = [folder / "run1.h5", folder / "run2.h5"]
    for seed, file in enumerate(files):
        write_simulated(file, 80, seed, bad_pixels=bad_pixels)
    write_example_labels(files[0], folder / "labels.csv", n_labels=60)
    before = [sha256_of(file) for file in files]
    run_notebooks(files, folder / "work", folder / "labels.csv", QUICK)
    assert [sha256_of(file) for file in files] == before
    return folder


@pytest.fixture
def work_dir(simulated: Path) -> Path:
    """Give the work folder of the simulated run."""
    return simulated / "work"


@pytest.mark.notebooks
def test_run_writes_what_the_design_promises(work_dir: Path) -> None:
    files = ["experiment.json", "experiment.h5", "map.h5", "labels.sqlite"]
    files += ["clean_single_hits.h5", "ranking.h5", "predictions.h5"]
    files += ["selection/selection.txt"]
    files += ["model.keras", "model.weights.h5", "model.json", "reports/report.html"]
    files += [f"reports/{name}.ipynb" for name in NAMES]
    assert [name for name in files if not (work_dir / name).is_file()] == []
    assert [path.name for path in work_dir.rglob(".*")] == []


@pytest.mark.notebooks
def test_experiment_describes_both_files(simulated: Path, work_dir: Path) -> None:
    metadata = json.loads((work_dir / "experiment.json").read_text("utf-8"))
    files = [str(simulated / "run1.h5"), str(simulated / "run2.h5")]
    assert metadata["patterns_files"] == files
    assert metadata["shape"] == [160, 96, 95]
    assert metadata["unit"] == "photons"


@pytest.mark.notebooks
def test_labels_are_those_of_the_csv_file(simulated: Path, work_dir: Path) -> None:
    metadata = json.loads((work_dir / "experiment.json").read_text("utf-8"))
    with (simulated / "labels.csv").open(newline="", encoding="utf-8") as file:
        given = {int(row["pattern"]): row["label"] for row in csv.DictReader(file)}
    path = work_dir / "labels.sqlite"
    with open_label_store(path, metadata["fingerprint"], 160) as store:
        words = store.current_labels()
    assert {i: words[i] for i in np.flatnonzero(words != "").tolist()} == given


@pytest.mark.notebooks
def test_ranking_and_templates_have_their_formats(work_dir: Path) -> None:
    with h5py.File(work_dir / "clean_single_hits.h5") as file:
        hits = file["index"][()]
        assert file["clean_single_hits"].dtype == np.float32
        assert file["clean_single_hits"].shape == (hits.size, 96, 95)
    with h5py.File(work_dir / "ranking.h5") as file:
        index, distance = file["index"][()], file["distance"][()]
        assert (index.dtype, distance.dtype) == (np.int64, np.float32)
        assert np.isin(file["template"], hits).all()
        angle_deg = file["angle_deg"][()]
        assert ((angle_deg >= 0) & (angle_deg < 360) | np.isnan(angle_deg)).all()
        assert file.attrs["metric"] in ("encoder", "rotation")
    assert (np.diff(distance) >= 0).all()
    assert np.union1d(index, hits).size == index.size + hits.size


@pytest.mark.notebooks
def test_predictions_have_their_format(simulated: Path, work_dir: Path) -> None:
    with h5py.File(work_dir / "predictions.h5") as file:
        predictions, raw = file["predictions"][()], file["raw"][()]
        metadata = dict(file.attrs)
    assert predictions.dtype == raw.dtype == np.float32
    assert predictions.shape == raw.shape == (160,)
    assert predictions.min() >= 0
    assert predictions.max() <= 1
    assert metadata["model_sha256"] == sha256_of(work_dir / "model.keras")
    assert 0 <= metadata["threshold"] <= 1
    assert {"classes", "model_file", "patterns_files", "package_versions"} <= set(
        metadata
    )
    assert str(simulated / "run2.h5") in metadata["patterns_files"]


@pytest.mark.notebooks
def test_selection_follows_labels_then_predictions(work_dir: Path) -> None:
    metadata = json.loads((work_dir / "experiment.json").read_text("utf-8"))
    text = (work_dir / "selection" / "selection.txt").read_text("ascii")
    selected = {int(line) for line in text.split()}
    with h5py.File(work_dir / "predictions.h5") as file:
        taken = file["predictions"][()] >= file.attrs["threshold"]
    path = work_dir / "labels.sqlite"
    with open_label_store(path, metadata["fingerprint"], 160) as store:
        words = store.current_labels()
    chosen = np.where(words == "", taken, words == "single")
    assert selected == set(np.flatnonzero(chosen).tolist())


@pytest.mark.notebooks
def test_executed_copies_hold_the_given_parameters(work_dir: Path) -> None:
    executed = nbformat.read(work_dir / "reports" / "05-train.ipynb", as_version=4)
    assert executed.metadata.papermill.parameters.epochs == 2
    assert not executed.metadata.papermill.exception


@pytest.mark.notebooks
def test_report_shows_all_of_them_with_their_figures(work_dir: Path) -> None:
    html = (work_dir / "reports" / "report.html").read_text("utf-8")
    for name in NAMES:
        executed = nbformat.read(work_dir / "reports" / f"{name}.ipynb", as_version=4)
        assert executed.cells[0].source.splitlines()[0].strip("# ") in html
        assert f'id="{name}"' in html
    assert html.count("data:image/png") > 15
    assert "<script" not in html


@pytest.mark.notebooks
def test_the_notebook_of_many_runs_runs_by_papermill(
    work_dir: Path, tmp_path: Path
) -> None:
    bad_pixels = pnccd_bad_pixels((96, 95))
    write_simulated(tmp_path / "run3.h5", 60, 3, bad_pixels=bad_pixels)
    write_simulated(tmp_path / "run4.h5", 60, 4, bad_pixels=bad_pixels)
    (tmp_path / "run5.h5").write_bytes((tmp_path / "run4.h5").read_bytes()[:3000])
    given = {
        "patterns_file": str(tmp_path / "run*.h5"),
        "work_dir": str(tmp_path / "beamtime"),
        "model_dir": str(work_dir),
    }
    done = papermill.execute_notebook(
        BEAMTIME, tmp_path / "done.ipynb", given, cwd=NOTEBOOKS_DIR, progress_bar=False
    )
    printed = "".join(
        output.get("text", "")
        for cell in done.cells
        for output in cell.get("outputs", ())
    )
    assert "2 of 3 runs could be used: 120 patterns" in printed
    assert "run5" in printed
    assert "Nobody has labelled patterns of these runs yet." in printed
    for name in ("report.html", "beamtime.csv", "predictions.h5", "ranking.h5"):
        assert (tmp_path / "beamtime" / name).is_file()
    with h5py.File(tmp_path / "beamtime" / "runs" / "run3" / "predictions.h5") as file:
        assert np.isfinite(file["predictions"][()]).all()


@pytest.mark.notebooks
def test_summary_says_what_was_found(work_dir: Path) -> None:
    lines = summarise(work_dir)
    about = ["patterns", "labels", "hits", "model", "scores"]
    about += ["predictions", "selection"]
    assert [line.split()[0] for line in lines] == about
    assert "160 of 96 × 95 pixels, photons" in lines[0]
    assert "60:" in lines[1]
    assert any(word in lines[1] for word in LABELS)


@pytest.mark.slow
@pytest.mark.notebooks
def test_measured_patterns_with_their_own_labels_and_mask(
    tmp_path: Path, real_file: Callable[[str], Path]
) -> None:
    file = real_file("pr772_30.h5")
    run_notebooks(file, tmp_path, parameters=QUICK)
    metadata = json.loads((tmp_path / "experiment.json").read_text("utf-8"))
    assert (metadata["shape"], metadata["unit"]) == ([30, 128, 128], "photons")
    assert (
        metadata["n_bad_pixels"]
        >= read_bad_pixels(f"{file}:/mask", (128, 128)).pixels.sum()
    )
    assert "11 single, 19 other" in summarise(tmp_path)[1]
    with h5py.File(tmp_path / "predictions.h5") as predicted:
        assert predicted["predictions"].shape == (30,)


@pytest.mark.notebooks
def test_measured_adu_without_labels_can_be_inspected_and_labelled(
    tmp_path: Path, real_file: Callable[[str], Path]
) -> None:
    run_notebooks(real_file("pnccd_adu_10.h5"), tmp_path, only=["inspect", "label"])
    metadata = json.loads((tmp_path / "experiment.json").read_text("utf-8"))
    assert (metadata["shape"], metadata["unit"]) == ([10, 260, 257], "ADU")
    row, column = metadata["centre"]
    assert 115 < row < 145
    assert 115 < column < 145
    assert "labels       0: none yet" in summarise(tmp_path)
