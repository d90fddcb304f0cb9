"""Work shared out: all of it is done and counted; if one process ends, none goes on alone."""

import functools
import os

import export_works
import pytest

from rejepa_jax.retrieval.embeddings.processes import share_out
from rejepa_jax.types import DataError


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pids(folder):
    return [int(path.name.partition("-")[2]) for path in folder.iterdir()]


def test_every_share_is_done_in_a_process_of_its_own_and_counted(tmp_path):
    counted = []
    share_out(functools.partial(export_works.count_up, str(tmp_path)), 2, counted.append)
    assert sum(counted) == 20 + 30
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["0", "1"]
    assert len({os.getpid(), *pids(tmp_path)}) == 3


def test_a_killed_process_ends_the_work_with_a_clear_error_and_the_other_process(tmp_path):
    work = functools.partial(export_works.die_or_wait, str(tmp_path))
    with pytest.raises(DataError, match=r"ended from outside \(signal 9\).*finished is kept: run"):
        share_out(work, 2, lambda _: None)
    assert len(pids(tmp_path)) == 2
    assert not any(map(is_running, pids(tmp_path)))


def test_what_a_process_refuses_is_said_as_it_said_it():
    with pytest.raises(DataError, match=r"^part 1: got nothing, expected something; mend it$"):
        share_out(functools.partial(export_works.refuse, ""), 2, lambda _: None)
