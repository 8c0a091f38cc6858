"""Where the jobs of a sweep run (`cluster=`): on this machine, under Slurm, or on a Ray cluster."""

from collections.abc import Iterable
from importlib.util import find_spec

from debiasdpo.config.cluster import ClusterConfig, LocalConfig

# The package that each way needs, and the extra that installs it.
_NEEDS = {
    "slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "ray": ("ray", "ray"),
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
}


def missing_package(cluster: ClusterConfig) -> Iterable[str]:
    """What to install for this cluster, if it is not there."""
    kind: str = cluster.kind
    if isinstance(cluster, LocalConfig):
        if cluster.jobs == 1:
            return
        kind = "joblib"
    package, extra = _NEEDS[kind]
    if not _there(package):
        yield (
            f"cluster: {kind} needs a package that is not installed: pip install 'debiasdpo[{extra}]'"
        )


def _there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a parent of it is missing
        return False
