"""A real SLURM cluster of one node, of this machine and this test alone.

munged, slurmctld and slurmd run in the foreground of processes that `stop` ends, with keys, sockets, ports and files of
their own: a cluster that the machine may belong to is not touched. Commands find it through `Cluster.environment`. It
keeps no accounts (`sacct` answers nothing), as small clusters do.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
_PATIENCE = 60.0


class ClusterError(RuntimeError):
    """A part of the cluster did not do what it should: which, and the end of its log."""


def missing() -> list[str]:
    """The programs that are not installed (Debian: `apt-get install slurmd slurmctld slurm-client munge`)."""
    return [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """A cluster of this machine.

    Args:
        folder: an empty folder with a short path: those of sockets have at most 108 bytes.
        cpus: that the node says it has: jobs of one CPU at a time.
    """

    folder: Path
    cpus: int = 2
    _parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What makes SLURM's commands talk to this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _PATH}

    def run(self, *command: str) -> str:
        """What a SLURM command prints.

        Raises:
            ClusterError: it failed.
        """
        whole = {**os.environ, **self.environment}
        done = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start(self) -> None:
        """Bring it up and wait until its node is idle.

        Raises:
            ClusterError: a part did not come up.
        """
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self._configure()
        self._start_munge()
        self._launch("slurmctld", "-D", "-i")
        self._until("slurmctld", lambda: "UP" in self.run("scontrol", "ping"))
        self._launch("slurmd", "-D")
        self._until("slurmd", lambda: self.run("sinfo", "--noheader", "--format=%T") == "idle")

    def stop(self) -> None:
        """Cancel what is in the queue and end every part, with everything below it."""
        if "slurmd" in self._parts:
            with contextlib.suppress(ClusterError, subprocess.TimeoutExpired):  # it is ended below all the same
                self.run("scancel", "--user", getpass.getuser())
                self._until("slurmctld", lambda: not self.run("squeue", "--noheader"))
        for process in reversed(self._parts.values()):
            if process.poll() is None:
                below = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGTERM)
                _, alive = psutil.wait_procs([psutil.Process(process.pid), *below], timeout=20)
                for each in alive:
                    each.kill()
                process.wait()

    @property
    def alive(self) -> list[str]:
        """The parts that run."""
        return [name for name, process in self._parts.items() if process.poll() is None]

    def _configure(self) -> None:
        host, user = socket.gethostname().split(".")[0], getpass.getuser()
        (self.folder / "slurm.conf").write_text(
            f"""ClusterName=hf_crosstask
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={_free_port()}
SlurmdPort={_free_port()}
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
KillWait=60
ReturnToService=2
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={self.cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""",
            encoding="utf-8",
        )

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        places = [f"--{option}={self.folder}/munge.{ending}" for option, ending in files.items()]
        self._launch("munged", "--foreground", "--force", *places)  # --force: a temporary folder is no safe place
        self._until("munged", (self.folder / "munge.socket").exists)

    def _launch(self, name: str, *arguments: str) -> None:
        program = shutil.which(name, path=_PATH)
        assert program is not None
        with open(self.folder / f"{name}.log", "wb") as log:
            self._parts[name] = subprocess.Popen(
                [program, *arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _until(self, part: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(ClusterError):
                if condition():
                    return
            ended = self._parts[part].poll()
            if ended is not None or time.monotonic() > deadline:
                log = (self.folder / f"{part}.log").read_text(encoding="utf-8", errors="replace").strip()
                state = f"ended with code {ended}" if ended is not None else f"is not ready after {_PATIENCE:.0f} s"
                raise ClusterError(f"{part} {state}: {_end(log.splitlines())}")
            time.sleep(0.2)


def _end(lines: Sequence[str]) -> str:
    return " | ".join(lines[-5:])
