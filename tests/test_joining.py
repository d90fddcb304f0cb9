"""Who belongs together, what waits for what, and how all of them end when one of them does."""

import logging
import signal
import socket

import jax
import many
import pytest

from rejepa_jax import joining, processes
from rejepa_jax.joining import Party
from rejepa_jax.types import ConfigError

HEARTBEAT = 5
JOINED = f"""
import logging, sys, time
from rejepa_jax import joining, processes
address, count, number, *rest = sys.argv[1:]
joining.join(joining.Party(address, int(count), int(number), patience=60, heartbeat={HEARTBEAT}))
"""
TOGETHER = """
import pathlib
folder, done = pathlib.Path(rest[0]), []

@processes.by_main
def work(name):
    time.sleep(1)
    (folder / name).touch()
    done.append(name)

with processes.ending_together():
    work("first")
    assert (folder / "first").exists()
    if processes.is_main():
        processes.tell("one"), processes.tell("two")
    else:
        done += [processes.hear(), processes.hear()]
    (folder / f"here{processes.index()}").touch()
    processes.wait_for_all("all")
    assert len(list(folder.glob("here*"))) == processes.count()
    print(processes.index(), "of", processes.count(), *done, flush=True)
    sys.exit(processes.give_up(f"{number} gives up", 3) if number == "1" else time.sleep(60))
"""
WAITING = """
with processes.ending_together():
    print("there", flush=True)
    time.sleep(600) if processes.is_main() else processes.hear()
"""


def wait_for(word, process):
    assert any(word in line for line in process.stdout)


def test_one_alone_waits_for_nobody(caplog):
    work = processes.by_main(lambda done, name: done.append(name))
    done = []
    work(done, name="mine")
    processes.wait_for_all("nobody")
    processes.tell("nobody")
    assert done == ["mine"]
    assert (processes.index(), processes.count(), processes.is_main()) == (0, 1, True)
    with caplog.at_level(logging.ERROR):
        assert processes.give_up("out of luck", 3) == 3
    assert caplog.messages == ["out of luck"]
    with pytest.raises(ZeroDivisionError), processes.ending_together():
        _ = 1 / 0


@pytest.mark.parametrize(
    ("party", "match"),
    [
        (Party("10.0.0.2:8476"), r"got only --coordinator_address, expected .*JAX_.*--distributed"),
        (Party(count=2, index=1), "got only --num_processes, --process_id, expected"),
        (Party("10.0.0.2", 2, 0), r"--coordinator_address = '10.0.0.2': expected HOST:PORT"),
        (Party("10.0.0.2:8476", 2, 2), "--process_id = 2: expected a number from 0 to 1"),
        (Party(is_cluster=True), "--distributed: JAX found no cluster here .* leave it out"),
    ],
)
def test_what_does_not_say_who_belongs_together_is_refused(party, match, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", jax._src.distributed.global_state.initialize)
    with pytest.raises(ConfigError, match=match):
        joining.join(party)


def test_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"{address}': process 0 cannot listen there .*use"):
            joining.join(Party(address, 2, 0))


def test_flags_come_before_variables_and_no_word_of_others_is_to_be_alone(monkeypatch):
    variables = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert joining.from_environment(Party(), variables) == Party("a:1", 4, 3)
    assert joining.from_environment(Party("b:2", 2, 0), variables) == Party("b:2", 2, 0)
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID = 'x': expected a number, as for --proc"):
        joining.from_environment(Party(), {"JAX_PROCESS_ID": "x"})
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    joining.join(Party())
    joining.join(Party("10.0.0.2:8476", 1, 0))  # of one there are no others
    assert not jax.distributed.is_initialized()


def test_processes_wait_for_one_another_and_all_end_with_the_code_of_the_one_that_fails(tmp_path):
    codes, said = many.ended(many.of_code(2, JOINED + TOGETHER, tmp_path), timeout=60)
    assert codes == [3, 3], said
    assert "0 of 2 first" in said[0]
    assert "1 of 2 one two" in said[1]
    assert "".join(said).count("1 gives up") == 1


def test_others_end_at_once_when_the_main_process_is_killed():
    with many.started(many.of_code(2, JOINED + WAITING)) as (main, other):
        wait_for("there", other)
        main.kill()
        said = other.communicate(timeout=60)[0]
    assert other.returncode in (processes.LOST, -signal.SIGABRT), said  # ours, or JAX's own end


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_others_end_when_a_process_gives_no_sign_of_life(number):
    with many.started(many.of_code(2, JOINED + WAITING)) as running:
        for process in running:
            wait_for("there", process)
        hung, other = running[number], running[1 - number]
        hung.send_signal(signal.SIGSTOP)
        said = other.communicate(timeout=HEARTBEAT + 60)[0]
    assert other.returncode in (processes.LOST, -signal.SIGABRT), said


@pytest.mark.slow
@pytest.mark.parametrize("number", ["0", "1"])
def test_who_waits_in_vain_says_where_and_what_may_be_wrong(number):
    code = JOINED.replace("patience=60", "patience=2")
    (command, _) = many.of_code(2, code)
    command[-1] = number
    (status,), (said,) = many.ended([command], timeout=60)
    assert status == processes.LOST
    assert f"met at {command[-3]} within 2 s" in said
    assert "--coordinator_port=8476" in said


@pytest.mark.slow
def test_error_that_nobody_expected_ends_all_and_is_shown_once():
    code = JOINED + "with processes.ending_together(): 1 / int(number), processes.hear()"
    codes, said = many.ended(many.of_code(2, code), timeout=60)
    assert codes == [1, 1], said
    assert ["ZeroDivisionError" in text for text in said] == [True, False]
