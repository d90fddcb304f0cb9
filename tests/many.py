"""Several processes of the command, or of a piece of code, that are one run over loopback."""

import contextlib
import socket
import subprocess
import sys

import compiling
import road


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def environment(devices=1):
    """That of a run, with so many devices a process."""
    flags = f"{compiling.FLAGS} --xla_force_host_platform_device_count={devices}"
    return road.environment() | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


@contextlib.contextmanager
def started(commands, devices=1):
    """Starts processes, each with its output in a pipe; kills at the end what still runs."""
    processes = [
        subprocess.Popen(
            command,
            cwd=road.ROOT,
            env=environment(devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()  # JAX catches SIGTERM
            process.wait()
            process.stdout.close()


def of_the_road(count, *argv):
    """The commands of `count` processes that walk the road together."""
    flags = [f"--coordinator_address=127.0.0.1:{free_port()}", f"--num_processes={count}"]
    return [
        road.command("main", *argv, *flags, f"--process_id={number}") for number in range(count)
    ]


def of_code(count, code, *argv):
    """The commands of processes that run some code, given address, count, number and `argv`."""
    first = [sys.executable, "-c", code, f"127.0.0.1:{free_port()}", str(count)]
    return [[*first, str(number), *map(str, argv)] for number in range(count)]


def ended(commands, devices=1, timeout=300):
    """Runs processes to their end; returns their exit codes and what they said."""
    with started(commands, devices) as processes:
        said = [process.communicate(timeout=timeout)[0] for process in processes]
        return [process.returncode for process in processes], said
