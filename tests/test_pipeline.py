"""The runner: parameters, kernels, failures; on tiny notebooks made here."""

import csv
import errno
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import nbformat
import numpy as np
import pytest
from default_signals import default_signals
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers.__main__ import main
from helpers.errors import (
    LabelsError,
    NotebookError,
    ParameterError,
    PatternsFileError,
    WorkFolderError,
)
from helpers.run import kernel_host, run_notebooks, summarise
from helpers.run.kernel_host import can_fork
from helpers.run.stages import (
    Parameter,
    assign_parameters,
    is_called,
    lock_folder,
    read_parameters,
    read_value,
)

PARAMETERS = """\
patterns_file: str = "../data/example.h5"  # one file or several
work_dir: str = "../data/work"  # where results go
"""
WRITE_SEEN = """\
import json, pathlib, sys, ipykernel, matplotlib
seen = {
    "connection": json.loads(ipykernel.get_connection_info()),
    "patterns_file": patterns_file,
    "python": sys.executable,
    "folder": str(pathlib.Path.cwd()),
    "backend": matplotlib.get_backend(),
}
pathlib.Path(work_dir, "seen.json").write_text(json.dumps(seen))
"""


def write_notebook(path: Path, cells: list[str], parameters: str = "") -> None:
    """Write a notebook: lines that begin with # are prose, others code."""
    tagged = new_code_cell(PARAMETERS + parameters, metadata={"tags": ["parameters"]})
    made = [
        new_markdown_cell(text) if text.startswith("#") else new_code_cell(text)
        for text in cells
    ]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = new_notebook(cells=[tagged, *made], metadata={"kernelspec": kernel})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    """Give a folder of two notebooks that are never executed."""
    folder = tmp_path / "notebooks"
    write_notebook(folder / "01-look.ipynb", [], "n_shown: int = 36  # patterns drawn")
    write_notebook(
        folder / "02-label.ipynb",
        [],
        'labels_file: str = ""  # labels to start from\nspread: float = 0.5  # of it',
    )
    return folder


@pytest.fixture
def patterns_file(tmp_path: Path) -> Path:
    """Give a file that no test opens."""
    path = tmp_path / "run 7 (é).h5"
    path.touch()
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run two notebooks in a folder with awkward names; give that folder.

    The user's own Jupyter has a kernel `python3` that does not start, and figures go
    nowhere by default; neither may matter.
    """
    folder = tmp_path_factory.mktemp("a {b} é")
    (folder / "a.h5").touch()
    (folder / "b.h5").touch()
    write_notebook(folder / "nb/01-look.ipynb", ["# Look", WRITE_SEEN])
    warn = 'import warnings\nwarnings.warn("run 7 is dark\\nsecond line")'
    cells = [warn, "n_shown"]
    write_notebook(folder / "nb/02-count.ipynb", cells, "n_shown: int = 1  # x")
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["false"], "language": "python", "display_name": "broken"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("MPLBACKEND", "agg")
        patch.chdir(folder)
        run_notebooks(
            ["a.h5", "b.h5"],
            "work",
            parameters={"n_shown": "7"},
            notebooks_dir="nb",
            log=lines.append,
        )
    (folder / "said").write_text("\n".join(lines))
    return folder


def test_notebooks_run_in_their_folder_with_absolute_paths(finished: Path) -> None:
    seen = json.loads((finished / "work" / "seen.json").read_text())
    assert seen["folder"] == str(finished / "nb")
    assert seen["patterns_file"] == [str(finished / "a.h5"), str(finished / "b.h5")]


def test_kernel_is_this_interpreter_with_inline_figures(finished: Path) -> None:
    seen = json.loads((finished / "work" / "seen.json").read_text())
    assert seen["python"] == sys.executable
    assert "inline" in seen["backend"]


def test_kernel_opens_no_network_port(finished: Path) -> None:
    seen = json.loads((finished / "work" / "seen.json").read_text())
    assert seen["connection"]["transport"] == "ipc"
    assert not Path(seen["connection"]["ip"]).parent.exists()


def test_executed_copies_and_report_are_kept(finished: Path) -> None:
    reports = finished / "work" / "reports"
    names = {path.name for path in reports.iterdir()}
    assert names == {"01-look.ipynb", "02-count.ipynb", "report.html"}
    executed = nbformat.read(reports / "02-count.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].data["text/plain"] == "7"
    written = executed.metadata.papermill.output_path
    assert written == str(reports / "02-count.ipynb")


def test_each_notebook_is_reported_with_its_time(finished: Path) -> None:
    said = (finished / "said").read_text().splitlines()
    assert [line.split(":")[0] for line in said[:2]] == ["01-look", "02-count"]
    assert all(re.search(r"\d s$", line) for line in said[:2])


def test_what_a_notebook_warns_of_is_said(finished: Path) -> None:
    said = (finished / "said").read_text().splitlines()
    assert said[2:] == ["  Warning: run 7 is dark"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a notebook that fails as a user's mistake makes it; give folder, message."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "a.h5").touch()
    write_notebook(folder / "nb/01-fine.ipynb", ["1"])
    fails = (
        "from helpers.errors import LabelsError\nx = 1\nx = 2\nx = 3\n"
        'raise LabelsError("my.csv: line 3 says <tripel>.\\nWrite single.")'
    )
    cells = ["# Title", "1 + 1", "## 2 The `labels`", fails, "never"]
    write_notebook(folder / "nb/02-fails.ipynb", cells)
    write_notebook(folder / "nb/03-later.ipynb", ["1"])
    reports = folder / "work" / "reports"
    reports.mkdir(parents=True)
    (reports / "03-later.ipynb").touch()
    with pytest.raises(NotebookError) as caught:
        run_notebooks(folder / "a.h5", folder / "work", notebooks_dir=folder / "nb")
    return reports, str(caught.value)


def test_failure_names_notebook_cell_and_reason(stopped: tuple[Path, str]) -> None:
    reports, message = stopped
    where, reason, copy = message.split("\n\n")
    assert where.startswith("02-fails stopped at its code cell 4, under «2 The `lab")
    assert "from helpers.errors import LabelsError" in where
    assert where.endswith("…")
    assert reason == "my.csv: line 3 says <tripel>.\nWrite single."
    assert copy.endswith(str(reports / "02-fails.ipynb"))


def test_failure_leaves_its_copy_and_the_report(stopped: tuple[Path, str]) -> None:
    reports, _ = stopped
    executed = nbformat.read(reports / "02-fails.ipynb", as_version=4)
    assert any(
        output.output_type == "error"
        for cell in executed.cells
        for output in cell.get("outputs", [])
    )
    html = (reports / "report.html").read_text()
    assert "stopped with an error" in html
    assert "&lt;tripel&gt;" in html


def test_copies_of_later_notebooks_are_out_of_date(stopped: tuple[Path, str]) -> None:
    reports, _ = stopped
    assert not (reports / "03-later.ipynb").exists()


def test_unforeseen_error_and_dead_kernel_are_named(
    tmp_path: Path, patterns_file: Path
) -> None:
    write_notebook(tmp_path / "nb/01-zero.ipynb", ["1 / 0"])
    write_notebook(
        tmp_path / "nb/02-dead.ipynb", ["import os\nos.kill(os.getpid(), 9)"]
    )
    expected = {"01": "ZeroDivisionError: division by zero", "02": "lack of memory"}
    for start, reason in expected.items():
        with pytest.raises(NotebookError, match=reason):
            run_notebooks(
                patterns_file,
                tmp_path / "work",
                only=[start],
                notebooks_dir=tmp_path / "nb",
            )


def test_unknown_and_wrong_parameters_are_refused_in_one_message(
    notebooks: Path, patterns_file: Path, tmp_path: Path
) -> None:
    given = {"n_show": 3, "spread": "wide", "work_dir": "elsewhere"}
    with pytest.raises(ParameterError) as caught:
        run_notebooks(
            patterns_file, tmp_path / "w", parameters=given, notebooks_dir=notebooks
        )
    message = str(caught.value)
    assert "has a parameter n_show. Did you mean n_shown?" in message
    assert "n_shown (int, 36 by default, in 01-look): patterns drawn" in message
    assert "spread = 'wide': expected float, such as 0.5 (02-label: of it)" in message
    assert "work_dir is set by --work-dir" in message
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("name", ["label", "02", "2", "02-label"])
def test_a_notebook_is_meant_by_its_name_or_its_number(
    notebooks: Path, name: str
) -> None:
    first, second = notebooks / "01-look.ipynb", notebooks / "02-label.ipynb"
    assert is_called(second, name)
    assert not is_called(first, name)
    given = {f"{name}.spread": 0.2, "spread": 0.1}
    assert assign_parameters([first, second], {}, given) == [{}, {"spread": 0.2}]


def test_a_value_for_one_notebook_needs_that_notebook_and_its_parameter(
    notebooks: Path,
) -> None:
    given = {"label.n_shown": 3, "lab.spread": 0.5, "look.work_dir": "x"}
    given |= {"label.x.spread": 0.5}
    with pytest.raises(ParameterError) as caught:
        assign_parameters(sorted(notebooks.iterdir()), {}, given)
    message = str(caught.value)
    assert "02-label has no parameter n_shown." in message
    assert "lab.spread: no notebook that runs is called lab." in message
    assert "label.x.spread: no notebook that runs is called label.x." in message
    assert "look.work_dir is set by --work-dir" in message


def test_labels_need_a_notebook_that_takes_them(
    notebooks: Path, patterns_file: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("pattern,label\n")
    with pytest.raises(ParameterError, match="--labels was given"):
        run_notebooks(
            patterns_file, tmp_path, labels, only=["01"], notebooks_dir=notebooks
        )


def test_absent_files_are_named_before_anything_runs(
    notebooks: Path, patterns_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(PatternsFileError, match=r"none\.h5: "):
        run_notebooks(tmp_path / "none.h5", tmp_path, notebooks_dir=notebooks)
    with pytest.raises(PatternsFileError, match=r"none\*\.h5: there is no such file"):
        run_notebooks(tmp_path / "none*.h5", tmp_path, notebooks_dir=notebooks)
    with pytest.raises(LabelsError, match=r"none\.csv: "):
        run_notebooks(patterns_file, tmp_path, "none.csv", notebooks_dir=notebooks)


def test_name_in_another_encoding_is_told_before_anything_runs(
    notebooks: Path, patterns_file: Path, tmp_path: Path
) -> None:
    strange = tmp_path / os.fsdecode(b"gr\xf6sse")
    with pytest.raises(ParameterError, match=r"gr.*LC_ALL=C.UTF-8"):
        run_notebooks(patterns_file, strange, notebooks_dir=notebooks)
    shutil.copytree(notebooks, strange)
    with pytest.raises(ParameterError, match=r"gr.*LC_ALL=C.UTF-8"):
        run_notebooks(patterns_file, tmp_path / "work", notebooks_dir=strange)


def test_folder_that_cannot_be_made_is_named_before_anything_runs(
    notebooks: Path, patterns_file: Path
) -> None:
    work_dir = patterns_file / "work"
    with pytest.raises(WorkFolderError, match=r"work/reports cannot be made .*\(Not a"):
        run_notebooks(patterns_file, work_dir, notebooks_dir=notebooks)


def test_unknown_notebook_and_empty_folder_are_named(
    notebooks: Path, patterns_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=r"called 07\. There are 01-look, 02-"):
        run_notebooks(patterns_file, tmp_path, only=["07"], notebooks_dir=notebooks)
    with pytest.raises(ParameterError, match="holds no notebooks"):
        run_notebooks(patterns_file, tmp_path, notebooks_dir=tmp_path / "none")


def test_parameters_cell_is_read_with_types_defaults_and_comments(
    notebooks: Path,
) -> None:
    found = read_parameters(notebooks / "01-look.ipynb")
    assert list(found) == ["patterns_file", "work_dir", "n_shown"]
    assert found["n_shown"] == Parameter(
        "01-look", "n_shown", "int", "36", "patterns drawn"
    )


def test_parameter_without_annotation_has_the_type_of_its_default(
    tmp_path: Path,
) -> None:
    write_notebook(tmp_path / "01-x.ipynb", [], "q = 0.5  # inv nm")
    assert read_parameters(tmp_path / "01-x.ipynb")["q"].annotation == "float"


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        ("int", "5", 5),
        ("int", 5, 5),
        ("float", "5", 5.0),
        ("float", "1e-3", 0.001),
        ("bool", "yes", True),
        ("bool", "False", False),
        ("str", "5", "5"),
        ("list[int]", "[1, 2]", [1, 2]),
        ("list[str]", ("a", "b"), ["a", "b"]),
    ],
)
def test_values_are_read_as_their_type(
    annotation: str, given: object, expected: object
) -> None:
    value = read_value(given, Parameter("01-x", "x", annotation, "0", ""))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        ("int", "5.5"),
        ("int", 5.5),
        ("int", True),
        ("int", None),
        ("float", "wide"),
        ("float", False),
        ("bool", "maybe"),
        ("bool", 2),
        ("str", 5),
        ("list[int]", "5"),
        ("list[int]", "[1, 'a']"),
        ("list[int]", "[1,"),
        ("of unknown type", "5"),
    ],
)
def test_values_of_another_type_are_refused(annotation: str, given: object) -> None:
    with pytest.raises(ParameterError, match="expected " + re.escape(annotation)):
        read_value(given, Parameter("01-x", "x", annotation, "0", ""))


def test_paths_in_parameters_are_seen_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def read(value: str) -> object:
        return read_value(value, Parameter("01-x", "mask_file", "str", '""', ""))

    assert read("mask.h5") == str(tmp_path / "mask.h5")
    assert read("") == ""
    assert read("postgresql://host/labels") == "postgresql://host/labels"


def test_summary_passes_over_what_is_absent_or_broken(tmp_path: Path) -> None:
    assert summarise(tmp_path) == []
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "experiment.json").write_text("no JSON")
    (tmp_path / "predictions.h5").write_text("no HDF5")
    assert summarise(tmp_path) == []
    assert not (tmp_path / "labels.sqlite").exists()


def test_command_line_prints_the_message_alone(
    notebooks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["run", "--patterns", "none.h5", "--work-dir", str(tmp_path)]
    assert main([*typed, "--notebooks", str(notebooks)]) == 1
    told = capsys.readouterr().err
    assert "none.h5: " in told
    assert "Traceback" not in told


def test_command_line_demands_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run"])
    assert caught.value.code == 2
    assert "--patterns" in capsys.readouterr().err


@pytest.fixture
def unread_pipe() -> Iterator[int]:
    """Give the end to write to of a pipe that nobody reads, as after `| head -1`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    yield write_end
    os.close(write_end)


@pytest.mark.parametrize("typed", ["licences", "--help"])
def test_reader_that_has_enough_ends_it_quietly(typed: str, unread_pipe: int) -> None:
    command = [sys.executable, "-m", "helpers", typed]
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    ran = subprocess.run(
        command,
        check=False,
        env=environment,
        stdout=unread_pipe,
        stderr=subprocess.PIPE,
    )
    assert ran.returncode == 128 + signal.SIGPIPE
    assert ran.stderr == b""


def test_message_that_nobody_reads_ends_it_quietly(unread_pipe: int) -> None:
    command = [sys.executable, "-m", "helpers", "simulate", "--out", "/", "--seed", "1"]
    command += ["--patterns", "-1"]
    ran = subprocess.run(command, check=False, stdout=unread_pipe, stderr=unread_pipe)
    assert ran.returncode == 128 + signal.SIGPIPE


def test_broken_pipe_of_another_kind_is_no_silent_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("helpers.__main__._list_licences", fail)
    read_end, write_end = os.pipe()
    with os.fdopen(read_end), os.fdopen(write_end, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", out)
        with pytest.raises(BrokenPipeError):
            main(["licences"])


def test_simulate_writes_patterns_on_ones_own_mask_with_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_pixels = np.zeros((20, 24), bool)
    bad_pixels[3] = True
    np.save(tmp_path / "mask.npy", bad_pixels)
    out, labels = tmp_path / "out.h5", tmp_path / "labels.csv"
    command = ["simulate", "--out", str(out), "--patterns", "12", "--seed", "3"]
    mask = ["--mask", str(tmp_path / "mask.npy"), "--shape", "20", "24"]
    assert main([*command, *mask, "--labels", str(labels)]) == 0
    with h5py.File(out) as file:
        assert file["patterns"].shape == (12, 20, 24)
        assert (file["mask"][()] == bad_pixels).all()
        truth = file["truth"].asstr()[()].tolist()
    with labels.open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == truth
    assert str(out) in capsys.readouterr().out


def test_mask_of_another_shape_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "mask.npy", np.zeros((20, 24), bool))
    command = ["simulate", "--out", str(tmp_path / "x.h5"), "--patterns", "1"]
    command += ["--seed", "0", "--shape", "260", "257"]
    assert main([*command, "--mask", str(tmp_path / "mask.npy")]) == 1
    assert "shape (20, 24); expected (260, 257)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sent", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_interrupted_run_leaves_no_kernel_and_no_half_file(
    tmp_path: Path, patterns_file: Path, sent: signal.Signals, status: int
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    holds = f"pipe = open({str(pipe)!r}, 'w', buffering=1)\npipe.write('here\\n')"
    cells = [holds, "import signal\nsignal.pause()"]
    write_notebook(tmp_path / "nb/01-waits.ipynb", cells)
    work_dir = tmp_path / "work"
    command = [sys.executable, "-m", "helpers", "run", "--patterns", patterns_file]
    options = ["--work-dir", work_dir, "--notebooks", tmp_path / "nb"]
    from_kernel = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with default_signals():
        process = subprocess.Popen(
            [*command, *options], stderr=subprocess.PIPE, text=True
        )
    assert read_when_ready(from_kernel) == b"here\n"
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status
    assert "Traceback" not in errors
    assert list((work_dir / "reports").iterdir()) == []
    assert read_when_ready(from_kernel) == b"", "the kernel still holds the pipe"
    os.close(from_kernel)


@pytest.mark.skipif(not can_fork(), reason="this system forks no kernels")
def test_kernels_are_forked_from_one_process_that_ends_with_the_run(
    tmp_path: Path, patterns_file: Path
) -> None:
    metadata = (
        "os.getppid(), os.getcwd(), os.environ.get('IMPORT_FIRST'), '' in sys.path"
    )
    drawn = "import numpy\nopen(f'{name}-drawn', 'w').write(f'{numpy.random.rand()}')"
    for name in ("01-a", "02-b"):
        told = (
            f"import os, sys\nwith open({name!r}, 'w') as f: print({metadata}, file=f)"
        )
        ends = "import subprocess\nsubprocess.run(['false']).returncode"
        named = f"name = {name!r}"
        write_notebook(tmp_path / f"nb/{name}.ipynb", [told, ends, named, drawn])
    run_notebooks(patterns_file, tmp_path / "work", notebooks_dir=tmp_path / "nb")
    told, other = ((tmp_path / "nb" / name).read_text() for name in ("01-a", "02-b"))
    assert told == other
    host, *rest = told.split()
    assert rest == [str(tmp_path / "nb"), "None", "True"]
    assert int(host) != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(int(host), 0)
    one, two = ((tmp_path / f"nb/{n}-drawn").read_text() for n in ("01-a", "02-b"))
    assert one != two


def test_where_nothing_can_be_forked_each_kernel_starts_by_itself(
    tmp_path: Path, patterns_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_unknown(_: int) -> int:
        raise OSError(errno.ENOSYS, "as on Linux 4")

    monkeypatch.setattr(os, "pidfd_open", is_unknown, raising=False)
    told = "import os\nopen('parent', 'w').write(f'{os.getppid()}')"
    write_notebook(tmp_path / "nb/01-a.ipynb", [told])
    write_notebook(tmp_path / "nb/02-b.ipynb", ["pass"])
    run_notebooks(patterns_file, tmp_path / "work", notebooks_dir=tmp_path / "nb")
    assert (tmp_path / "nb/parent").read_text() == str(os.getpid())


@pytest.mark.skipif(not can_fork(), reason="this system forks no kernels")
def test_a_host_of_kernels_that_has_ended_is_told(
    tmp_path: Path, patterns_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notebook(tmp_path / "nb/01-a.ipynb", ["pass"])
    monkeypatch.setattr(kernel_host, "HOST", "--no-such-option")
    with pytest.raises(NotebookError, match="for lack of memory"):
        run_notebooks(patterns_file, tmp_path / "work", notebooks_dir=tmp_path / "nb")
    left = [path.name for path in (tmp_path / "work" / "reports").iterdir()]
    assert left == ["report.html"]


def test_what_a_killed_run_left_is_swept_by_the_next(
    tmp_path: Path, patterns_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    holds = f"pipe = open({str(pipe)!r}, 'w', buffering=1)\npipe.write('here\\n')"
    cells = [holds, "import signal\nsignal.pause()"]
    write_notebook(tmp_path / "nb/01-waits.ipynb", cells)
    reports = tmp_path / "work" / "reports"
    command = [sys.executable, "-m", "helpers", "run", "--patterns", patterns_file]
    options = ["--work-dir", reports.parent, "--notebooks", tmp_path / "nb"]
    from_kernel = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    process = subprocess.Popen([*command, *options])
    assert read_when_ready(from_kernel) == b"here\n"
    process.kill()
    process.wait()
    os.close(from_kernel)
    (left,) = tmp_path.glob("sh-kernel-*")
    assert len(list(reports.glob(".01-waits-*.ipynb"))) == 1
    os.utime(left / "in-use", (0, 0))
    (reports / ".mine.ipynb").write_text("{}")
    write_notebook(tmp_path / "nb/01-waits.ipynb", ["pass"])
    run_notebooks(patterns_file, reports.parent, notebooks_dir=tmp_path / "nb")
    assert list(tmp_path.glob("sh-kernel-*")) == []
    found = {path.name for path in reports.iterdir()}
    assert found == {".mine.ipynb", "01-waits.ipynb", "report.html"}


def test_password_of_a_store_is_in_nothing_that_is_left(
    tmp_path: Path, patterns_file: Path
) -> None:
    seen = "import os\nprint(os.environ['SINGLE_HITS_STORE_PASSWORD'][-2:], store_url)"
    parameter = 'store_url: str = ""  # of the labels'
    write_notebook(tmp_path / "nb/01-reads.ipynb", [seen], parameter)
    given = {"store_url": "postgresql://anna:s3cr%40t@127.0.0.1:1/labels"}
    run = run_notebooks(
        patterns_file, tmp_path / "work", None, given, notebooks_dir=tmp_path / "nb"
    )
    assert "@t postgresql://anna@127.0.0.1:1/labels" in run.report.read_text("utf-8")
    assert "SINGLE_HITS_STORE_PASSWORD" not in os.environ
    for path in (tmp_path / "work").rglob("*"):
        if path.is_file():
            assert b"s3cr" not in path.read_bytes()
    for path in (*run.notebooks, run.report):
        assert not path.stat().st_mode & 0o007


def read_when_ready(file: int) -> bytes:
    """Return what is in a pipe once something is, or "" once its writer has gone."""
    ready, _, _ = select.select([file], [], [], 120)
    assert ready, "nothing has come"
    return os.read(file, 100)


def test_a_detector_file_named_as_dataset_is_seen_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "det.h5").write_bytes(b"")
    (tmp_path / "260x257").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def read(name: str, value: str) -> str:
        return read_value(value, Parameter("01-x", name, "str", '""', ""))

    assert read("dataset", "det.h5") == str(tmp_path / "det.h5")
    assert read("dataset", "gone.h5") == "gone.h5"
    assert read("dataset", "/entry/data") == "/entry/data"
    assert read("dataset", "260x257") == "260x257"
    assert read("geometry_file", "~/a.geom") == str(tmp_path / "a.geom")


# Skipped where nothing has changed


COUNT_RUNS = """\
import pathlib
path = pathlib.Path(work_dir, "{0}.txt")
path.write_text(str(int(path.read_text()) + 1 if path.exists() else 1))
"""


@pytest.fixture
def two_stages(tmp_path: Path) -> Callable[..., list[str]]:
    """Give what runs two notebooks that count their runs, and what was said then."""
    folder = tmp_path / "nb"
    for name, line in (
        ("01-a", 'ask_file: str = ""  # x'),
        ("02-b", "n: int = 1  # x"),
    ):
        write_notebook(folder / f"{name}.ipynb", [COUNT_RUNS.format(name)], line)
    (tmp_path / "p.h5").touch()

    def run(**options: Any) -> list[str]:
        said: list[str] = []
        patterns = options.pop("patterns", tmp_path / "p.h5")
        options = {"notebooks_dir": folder, "log": said.append} | options
        run_notebooks(patterns, tmp_path / "w", **options)
        counts = [(tmp_path / "w" / f"{n}.txt").read_text() for n in ("01-a", "02-b")]
        return [*counts, *said]

    return run


def test_second_run_skips_and_says_so(
    two_stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert two_stages()[:2] == ["1", "1"]
    report = tmp_path / "w" / "reports" / "report.html"
    written = report.stat().st_mtime_ns
    first, second, *said = two_stages()
    assert report.stat().st_mtime_ns == written
    assert (first, second) == ("1", "1")
    assert all("skipped, since nothing" in line for line in said)
    assert len(said) == 2
    assert two_stages(force=True)[:2] == ["2", "2"]


class NoKernel:
    """Stands in for a kernel, which takes seconds to start."""

    manager = None

    def __init__(self, notebook: Path, _: object = None) -> None:
        self.notebook = notebook

    def close(self) -> None:
        pass


def run_here(
    notebook: Path, output: Path, parameters: dict[str, Any], _: NoKernel
) -> str:
    """Run a notebook in this process, as papermill would."""
    content = nbformat.read(notebook, as_version=4)
    names: dict[str, Any] = {}
    for cell in content.cells:
        exec(cell.source, names)
        if "parameters" in cell.metadata.get("tags", ()):
            names |= parameters
    content.metadata["papermill"] = {}
    nbformat.write(content, output)
    return ""


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.run.execution.WarmKernel", NoKernel)
    monkeypatch.setattr("helpers.run.execution._run", run_here)


@pytest.mark.usefixtures("without_kernels")
def test_what_has_changed_runs_again_and_so_does_what_follows(
    two_stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    two_stages()
    counts = two_stages(parameters={"n": "2"})
    assert counts[:2] == ["1", "2"]
    assert "02-b: runs again, since this has changed: n" in counts
    (tmp_path / "w" / "02-b.txt").write_text("7")  # as a later program might
    assert two_stages(parameters={"n": "2"})[:2] == ["1", "8"]
    ask = tmp_path / "mask.npy"
    ask.write_text("one")
    options = {"n": "2", "ask_file": str(ask)}
    assert two_stages(parameters=options)[:2] == ["2", "9"]
    ask.write_text("another")
    assert two_stages(parameters=options)[:2] == ["3", "10"]
    assert two_stages(parameters=options)[:2] == ["3", "10"]
    (tmp_path / "p.h5").write_text("more")
    assert two_stages(parameters=options)[:2] == ["4", "11"]
    copy = tmp_path / "w" / "reports" / "02-b.ipynb"
    copy.unlink()
    assert two_stages(parameters=options)[:2] == ["4", "12"]


@pytest.mark.usefixtures("without_kernels")
def test_files_in_folders_that_a_wildcard_matches_are_watched(
    two_stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    patterns = tmp_path / "run*" / "p.h5"
    one, two = tmp_path / "run1" / "p.h5", tmp_path / "run2" / "p.h5"
    one.parent.mkdir()
    one.touch()
    assert two_stages(patterns=patterns)[:2] == ["1", "1"]
    assert two_stages(patterns=patterns)[:2] == ["1", "1"]
    one.write_text("more")
    assert two_stages(patterns=patterns)[:2] == ["2", "2"]
    two.parent.mkdir()
    two.touch()
    assert two_stages(patterns=patterns)[:2] == ["3", "3"]


@pytest.mark.usefixtures("without_kernels")
def test_record_of_runs_holds_no_values(
    two_stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    two_stages(parameters={"ask_file": "postgresql://me:geheim@host/db"})
    assert "geheim" not in (tmp_path / "w" / "stages.json").read_text("utf-8")


@pytest.mark.usefixtures("without_kernels")
@pytest.mark.parametrize(
    "content",
    [
        *("[1, 2]", "[" * 100_000, '{"01-a.ipynb": 7}'),
        '{"01-a.ipynb": {"depends_on": 3, "wrote": [], "warnings": 7}}',
        None,  # larger than memory, and takes no room
    ],
)
def test_damaged_record_of_runs_makes_all_run_again(
    content: str | None, two_stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    two_stages()
    book = tmp_path / "w" / "stages.json"
    if content is None:
        os.truncate(book, 2**40)
    else:
        book.write_text(content, encoding="utf-8")
    assert two_stages()[:2] == ["2", "2"]


@pytest.mark.usefixtures("without_kernels")
def test_second_run_in_the_same_folder_is_refused(
    two_stages: Callable[..., list[str]], tmp_path: Path
) -> None:
    two_stages()
    with (
        lock_folder(tmp_path / "w", print),
        pytest.raises(WorkFolderError, match="in use by another run"),
    ):
        two_stages(force=True)
    assert two_stages(force=True)[:2] == ["2", "2"]


@pytest.mark.parametrize("backend", ["jaxx", "numpy"])
def test_absent_keras_backend_is_reported_before_anything_runs(
    notebooks: Path,
    patterns_file: Path,
    tmp_path: Path,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with pytest.raises(ParameterError, match=f"KERAS_BACKEND is '{backend}', which"):
        run_notebooks(patterns_file, tmp_path / "w", notebooks_dir=notebooks)
    assert not (tmp_path / "w").exists()
