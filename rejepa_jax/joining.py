"""How the processes of one run find one another, before JAX is asked for its devices."""

import contextlib
import dataclasses
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from absl import flags, logging
from jax._src import distributed  # has the address that JAX found out by itself

from rejepa_jax import processes
from rejepa_jax.types import ConfigError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# XLA makes as many threads for CPU devices as there are cores. Each device holds one while it waits
# for other processes in a collective: with several devices a process, all of them, for ever.
THREADS, OF_XLA = 64, "PJRT_NPROC"

ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where all processes of a run meet."
)
COUNT = flags.DEFINE_integer("num_processes", None, "Processes that are one run.")
INDEX = flags.DEFINE_integer("process_id", None, "Number of this one, from 0.")
IN_CLUSTER = flags.DEFINE_bool("distributed", False, "Learn all three from TPU pod, GKE or SLURM.")
PORT = flags.DEFINE_integer("coordinator_port", None, "With --distributed: another port.")
PATIENCE = flags.DEFINE_integer("join_timeout", 300, "Seconds in which all processes must come.")
HEARTBEAT = flags.DEFINE_integer(
    "heartbeat_timeout", 100, "Seconds without a sign of life after which a process is dead."
)
NAMES = {  # field -> flag and variable
    "address": ("--coordinator_address", "JAX_COORDINATOR_ADDRESS"),
    "count": ("--num_processes", "JAX_NUM_PROCESSES"),
    "index": ("--process_id", "JAX_PROCESS_ID"),
}


@dataclasses.dataclass(frozen=True)
class Party:
    """Which processes are to be one run; all of these the same in each, but for the index."""

    address: str | None = None  # HOST:PORT at which the process of index 0 is found
    count: int | None = None
    index: int | None = None
    is_cluster: bool = False  # JAX asks TPU pod, GKE or SLURM for what is not given
    port: int | None = None  # instead of the one JAX takes in a cluster
    patience: int = 300  # seconds to wait for the others at first
    heartbeat: int = 100  # seconds without a sign of life after which a process counts as dead


def asked() -> Party:
    """Returns what the command line asks for."""
    return Party(
        ADDRESS.value,
        COUNT.value,
        INDEX.value,
        is_cluster=IN_CLUSTER.value,
        port=PORT.value,
        patience=PATIENCE.value,
        heartbeat=HEARTBEAT.value,
    )


def from_environment(party: Party, environment: Mapping[str, str]) -> Party:
    """Fills what is not given from the variables that JAX has for it.

    Raises:
        ConfigError: a variable is not a number.
    """
    found: dict[str, Any] = {}
    for field, (flag, variable) in NAMES.items():
        value = environment.get(variable)
        if getattr(party, field) is None and value:
            if field != "address" and not value.isdecimal():
                raise ConfigError(f"{variable} = {value!r}: expected a number, as for {flag}")
            found[field] = value if field == "address" else int(value)
    return dataclasses.replace(party, **found)


def join(party: Party) -> None:
    """Makes this process one of many if it is asked to be; before any device is asked for.

    A machine with one TPU host, or with many devices, needs none of it: one process drives them.

    Raises:
        ConfigError: what is given does not say who belongs together, or no cluster is found.
    """
    party = from_environment(party, os.environ)
    if not party.is_cluster and not _is_one_of_many(party):
        return
    if party.port:
        os.environ["JAX_COORDINATOR_PORT"] = str(party.port)
    os.environ.setdefault(OF_XLA, str(max(THREADS, os.cpu_count() or 1)))
    with _patient(party):
        _initialize(party)
        jax.devices()  # now, while all are here: the processes tell one another of theirs
    where = distributed.global_state.coordinator_address
    logging.info("%d processes have met at %s", processes.count(), where)


def _is_one_of_many(party: Party) -> bool:
    """Whether there are others; what is given must say who they are."""
    address, count, index = party.address, party.count, party.index
    if address is None or count is None or index is None:
        given = [flag for field, (flag, _) in NAMES.items() if getattr(party, field) is not None]
        if not given:
            return False
        raise ConfigError(
            f"got only {', '.join(given)}, expected {', '.join(_flags())} together (or their "
            "variables JAX_...), or --distributed to find them out in a cluster"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(
            f"--coordinator_address = {address!r}: expected HOST:PORT of the process with "
            "--process_id 0, such as 10.0.0.2:8476"
        )
    if not 0 <= index < count:
        raise ConfigError(
            f"--process_id = {index}: expected a number from 0 to {count - 1}, below "
            "--num_processes"
        )
    if index == 0 and count > 1:
        _check_port(address, "" if host not in LOOPBACK else host.strip("[]"), int(port))
    return count > 1


def _check_port(address: str, host: str, port: int) -> None:
    """Refuses a port that process 0 cannot listen on, where JAX may end with a broken memory."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ConfigError(
            f"--coordinator_address = {address!r}: process 0 cannot listen there ({error}); give "
            "a port that is free on its machine"
        ) from error


def _flags() -> list[str]:
    return [flag for flag, _ in NAMES.values()]


def _initialize(party: Party) -> None:
    host = (party.address or "").rpartition(":")[0]
    if party.address:
        logging.info("process %s of %s at %s", party.index, party.count, party.address)
    try:
        jax.distributed.initialize(
            party.address,
            party.count,
            party.index,
            cluster_detection_method=None if party.is_cluster else "deactivate",
            # Anyone who reaches the port may speak: on loopback nobody else is to.
            coordinator_bind_address=party.address if host in LOOPBACK else None,
            initialization_timeout=2 * party.patience,  # JAX then aborts; we have ended before
            heartbeat_timeout_seconds=party.heartbeat,
            shutdown_timeout_seconds=party.patience,
        )
    except (ValueError, RuntimeError, OSError) as error:
        if not party.is_cluster:
            raise
        raise ConfigError(
            f"--distributed: JAX found no cluster here ({error}); expected a TPU pod, GKE or "
            f"SLURM. Give {', '.join(_flags())}, or leave it out on a single machine"
        ) from error


@contextlib.contextmanager
def _patient(party: Party) -> Iterator[None]:
    """Ends this process if the others do not come: JAX itself would abort, and say little."""

    def end() -> None:
        where = distributed.global_state.coordinator_address or party.address or "its address"
        logging.error(
            "not all of the processes met at %s within %d s. Is the process with index 0 running, "
            "and was every other started? Does a firewall close the port? (JAX's own for TPU pods "
            "moved from 8476 to 8482, which automatic rules do not open: give "
            "--coordinator_port=8476.) Do proxy variables divert the connection?",
            where,
            party.patience,
        )
        os._exit(processes.LOST)

    timer = threading.Timer(party.patience, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
