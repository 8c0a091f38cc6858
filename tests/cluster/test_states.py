"""Whether a job is still at work, from what it wrote and the processes there are."""

import os
import platform

from debiasdpo.cluster.states import state_of
from tests.helpers.run_folders import dead_process


def test_a_process_that_got_the_id_later_is_not_the_jobs() -> None:
    dead = dead_process()
    here = {"state": "running", "host": platform.node()}
    assert state_of({**here, "pid": os.getpid()}) == "running"
    assert state_of({**here, "pid": os.getpid(), "pid_start": 1}) == "killed"
    assert state_of({**here, "pid": dead}) == "killed"
    assert state_of({**here, "pid": dead, "host": "elsewhere"}) == "running"  # nothing is known
