"""A real Slurm on this machine, for tests: one node, all its files in one folder, started as root.

    python tests/helpers/slurm.py up FOLDER     # prints the variable that Slurm's commands need
    python tests/helpers/slurm.py down FOLDER   # kills the daemons, and what is left of the jobs

It needs neither systemd nor cgroups nor a host name that resolves. There is no accounting, so
`sacct` knows nothing: `scontrol show job` and `squeue --states=all` do, for an hour.
"""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo")
DAEMONS = ("munged", "slurmctld", "slurmscriptd", "slurmd", "slurmstepd")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
START_LIMIT = 60.0  # seconds

# The node claims more than it has, so that several jobs run at once on few cores. Of AuthInfo,
# cred_expire is also what a requeued job waits for before it starts again, 120 s by default.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdLogFile={folder}/slurmd.log
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=1000000
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE
"""


@dataclass(frozen=True)
class Slurm:
    """One of these, for its commands."""

    folder: Path
    env: dict[str, str]

    def run(self, *command: str | Path) -> str:
        """What a command prints that talks to this Slurm."""
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=True
        ).stdout.strip()

    def sbatch(self, script: str, *options: str) -> str:
        """The id of a job of these shell commands."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}")

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of one job."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for(self, job: str, state: str) -> dict[str, str]:
        """The same, once the job is in this state."""
        while (known := self.job(job))["JobState"] != state:
            assert known["JobState"] not in ENDED, f"{job} is not {state} but {known['JobState']}"
            time.sleep(0.2)
        return known


def available() -> str | None:
    """Why Slurm cannot be had here, or None. It may still have to be installed."""
    if not sys.platform.startswith("linux"):
        return "Slurm runs on Linux only"
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root here, and this is another user"
    if _missing() and not shutil.which("apt-get", path=PATH):
        return f"Slurm is not installed ({', '.join(_missing())}), and there is no apt-get to do it"
    return None


def install() -> None:
    """Install Debian's packages, unless their commands are there."""
    if not _missing():
        return
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    get = [*apt, "install", "-y", "--no-install-recommends", *PACKAGES]
    done = subprocess.run(get, env=env, capture_output=True, text=True, check=False)
    if done.returncode:  # the lists of packages may be missing, or old
        subprocess.run([*apt, "update"], env=env, capture_output=True, check=False)
        done = subprocess.run(get, env=env, capture_output=True, text=True, check=False)
    if done.returncode or _missing():
        raise RuntimeError(f"apt-get could not install {' and '.join(PACKAGES)}:\n{done.stderr}")


def up(folder: Path) -> dict[str, str]:
    """Start an empty cluster in `folder`, wait for its node, and return the clients' variables."""
    folder = folder.resolve()
    down(folder)
    for name in ("state", "spool"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for log in folder.glob("*.log"):
        log.unlink()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    host = socket.gethostname().split(".")[0]
    conf = SLURM_CONF.format(folder=folder, host=host, ports=_free_ports())
    (folder / "slurm.conf").write_text(conf)
    cgroup = f"CgroupPlugin={_cgroup_plugin()}\nCgroupMountpoint={folder}/none\n"
    (folder / "cgroup.conf").write_text(cgroup)
    files = [f"--{kind}-file={folder}/munged.{kind}" for kind in ("log", "pid", "seed")]
    _start(
        folder, "munged", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}", *files
    )
    _start(folder, "slurmctld", "-c")
    _start(folder, "slurmd")
    _wait(folder, "idle", "sinfo", "--noheader", "--format=%T")
    return _client(folder)


def down(folder: Path) -> None:
    """Kill the daemons of the cluster in `folder`, its job steps and their processes."""
    deadline = time.monotonic() + 10
    while left := _belonging(folder.resolve()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"these processes of {folder} outlive SIGKILL: {left}")
        for pid in left:
            _kill(pid)
        time.sleep(0.05)


def restart_slurmd(folder: Path) -> None:
    """Kill the node's daemon, as a crash would, and start it again. Job steps live on."""
    folder = folder.resolve()
    pid = int((folder / "slurmd.pid").read_text())
    while _belongs(Path("/proc", str(pid)), folder):
        _kill(pid)
        time.sleep(0.01)
    _start(folder, "slurmd")
    _wait(folder, "Slurmd PID", "scontrol", "show", "slurmd")


def _missing() -> list[str]:
    return [name for name in COMMANDS if not shutil.which(name, path=PATH)]


def _cgroup_plugin() -> str:
    """Nothing here uses cgroups, yet slurmd loads a plugin for them: the one that touches nothing."""
    slurmd = shutil.which("slurmd", path=PATH) or "slurmd"
    name = subprocess.run([slurmd, "-V"], capture_output=True, text=True, check=True).stdout
    return "disabled" if int(name.split()[1].split(".")[0]) >= 24 else "cgroup/v1"


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("", 0))
        return [each.getsockname()[1] for each in (one, two)]


def _client(folder: Path) -> dict[str, str]:
    return {"SLURM_CONF": str(folder / "slurm.conf")}


def _start(folder: Path, *daemon: str) -> None:
    env = os.environ | _client(folder) | {"PATH": PATH}
    command = [shutil.which(daemon[0], path=PATH) or daemon[0], *daemon[1:]]
    with (folder / "start.log").open("a") as log:  # a file, for a daemon may hold on to it
        done = subprocess.run(command, env=env, cwd=folder, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise RuntimeError(f"{daemon[0]} did not start\n{_logs(folder)}")


def _wait(folder: Path, answer: str, *command: str) -> None:
    """Ask Slurm until it answers so."""
    env = os.environ | _client(folder)
    deadline = time.monotonic() + START_LIMIT
    while True:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if answer in done.stdout:
            return
        if time.monotonic() > deadline:
            said = done.stdout + done.stderr
            raise RuntimeError(f"{answer!r} is not what {command} says: {said}\n{_logs(folder)}")
        time.sleep(0.1)


def _logs(folder: Path) -> str:
    """The ends of the daemons' logs."""
    lines = []
    for log in sorted(folder.glob("*.log")):
        lines += [f"{log.name}:", *log.read_text(errors="replace").splitlines()[-15:]]
    return "\n".join(lines)


def _belonging(folder: Path) -> list[int]:
    return [
        int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal() and _belongs(p, folder)
    ]


def _belongs(process: Path, folder: Path) -> bool:
    """Whether it is a daemon with a file of `folder` open, or a process of a job sent there."""
    try:
        if (process / "comm").read_text().strip() in DAEMONS:
            files = (Path(os.readlink(fd)) for fd in (process / "fd").iterdir())
            return any(file.is_relative_to(folder) for file in files)
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return False
    sent_here = f"SLURM_CONF={folder}/slurm.conf".encode() in variables
    return sent_here and any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main(arguments: list[str]) -> None:
    if len(arguments) != 2 or arguments[0] not in ("up", "down"):
        sys.exit(__doc__)
    folder = Path(arguments[1])
    if arguments[0] == "down":
        down(folder)
        return
    if reason := available():
        sys.exit(reason)
    install()
    for name, value in up(folder).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
