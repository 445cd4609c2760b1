"""A SLURM of one controller and two nodes on this machine, for tests."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
SBIN = "/usr/sbin:/sbin"
FIRST_PORT = 17100
KEY = Path("/etc/munge/munge.key")
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
PartitionName=main Nodes=t1,t2 Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName=t{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 "
    "RealMemory=4000 State=UNKNOWN\n"
)


def why_not() -> str:
    """Say why SLURM cannot be started here; "" if it can."""
    search = f"{os.environ.get('PATH', '')}:{SBIN}"
    missing = [each for each in PROGRAMS if not shutil.which(each, path=search)]
    if missing:
        return f"{', '.join(missing)} missing; .ci/run installs SLURM"
    return "" if os.geteuid() == 0 else "SLURM is started for tests by root only"


@contextmanager
def start(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; give what a process needs in its environment to use it."""
    host = socket.gethostname().split(".")[0]
    text = CONFIGURATION.format(host=host, port=FIRST_PORT, folder=folder)
    for n in (1, 2):
        text += NODE.format(n=n, host=host, port=FIRST_PORT + n)
        (folder / f"spool-t{n}").mkdir(parents=True)
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(text)
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    there = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    environment = os.environ | there
    try:
        _start_munge(environment)
        subprocess.run(["slurmctld", "-c"], env=environment, check=True)
        for n in (1, 2):
            subprocess.run(["slurmd", "-N", f"t{n}"], env=environment, check=True)
        _wait_for_nodes(environment)
        yield there
    finally:
        _end_jobs(environment)
        for pid in folder.glob("*.pid"):
            subprocess.run(["kill", pid.read_text().strip()], check=False)


def _end_jobs(environment: dict[str, str]) -> None:
    """Cancel what is left, and wait: without its controller a job would go on."""
    subprocess.run(["scancel", "--user", "root"], env=environment, check=False)
    for _ in range(50):
        asked = ["squeue", "--noheader"]
        found = subprocess.run(asked, env=environment, capture_output=True, check=False)
        if found.returncode or not found.stdout:
            return
        time.sleep(0.2)


def _wait_for_nodes(environment: dict[str, str]) -> None:
    for _ in range(150):
        asked = ["sinfo", "-h", "-N", "-t", "idle"]
        found = subprocess.run(
            asked, env=environment, capture_output=True, text=True, check=False
        )
        if len(found.stdout.splitlines()) == 2:
            return
        time.sleep(0.2)
    message = f"the nodes did not come up: {found.stdout}{found.stderr}"
    raise RuntimeError(message)


def _start_munge(environment: dict[str, str]) -> None:
    tried = subprocess.run(
        ["munge", "-n"], env=environment, capture_output=True, check=False
    )
    if tried.returncode == 0:
        return
    for name in ("/run/munge", "/var/lib/munge", "/var/log/munge"):
        Path(name).mkdir(parents=True, exist_ok=True)
        shutil.chown(name, "munge", "munge")
    if not KEY.exists():
        KEY.write_bytes(os.urandom(1024))
        KEY.chmod(0o400)
        shutil.chown(KEY, "munge", "munge")
    command = ["su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged"]
    subprocess.run(command, env=environment, check=True)
