"""Be part of a Ray cluster."""

import logging
import socket
from typing import Any

from debiasdpo.config.cluster import RayConfig
from debiasdpo.errors import UserError

log = logging.getLogger(__name__)

_LOOK_S = 5.0  # to wait for a Ray cluster's answer


def join_ray(cluster: RayConfig) -> None:
    """Be part of the Ray cluster; may be called again."""
    import ray

    try:
        host, _, port = cluster.address.rpartition(":")
        if host and port.isdigit() and "/" not in host:  # Ray itself would try for ten minutes
            socket.create_connection((host, int(port)), _LOOK_S).close()
        found: Any = ray.init(
            address=cluster.address, ignore_reinit_error=True, log_to_driver=False
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(
            f"cluster.address: no Ray cluster answers at {cluster.address}"
            f" ({str(error).splitlines()[0]}). Start one with `ray start --head`, or give its address."
        ) from error
    log.info("Ray cluster: %s", found.address_info["address"])
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for key, name, wanted in (("GPU", "gpus", cluster.gpus), ("CPU", "cpus", cluster.cpus)):
        if wanted > there.get(key, 0):
            raise UserError(
                f"cluster.{name}: a job wants {wanted:g}, and the Ray cluster has {there.get(key, 0):g} in"
                f" all, so that it would wait for ever; set cluster.{name}"
            )
