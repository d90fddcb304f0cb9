"""Whether two processes of several CPU devices hang when steps with collectives queue up.

    python benchmarks/queued_collectives.py [--devices 4] [--steps 200] [--threads N] [--runs 3]

`--threads` is what XLA is told of the machine (PJRT_NPROC): without it, what joining tells it; 0
is what XLA takes by itself, the number of cores. A run that has not ended after `--patience`
seconds counts as hung. docs/processes.md says why.
"""

import argparse
import os
import socket
import subprocess
import sys
import time

WIDTH, LAYERS = 64, 6
PROCESSES = 2


def step_through(number: int, port: int, devices: int, steps: int) -> None:
    """Queues steps, each with sums over all devices of both processes; one of the two."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from rejepa_jax import joining

    joining.join(joining.Party(f"127.0.0.1:{port}", PROCESSES, number))
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("data",))
    split, whole = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in (("data",), ())
    )

    @jax.jit
    def step(weights: list[jax.Array], rows: jax.Array) -> list[jax.Array]:
        def loss(weights: list[jax.Array]) -> jax.Array:
            hidden = rows
            for weight in weights:
                hidden = jnp.tanh(hidden @ weight)
            return jnp.mean(hidden**2) + jnp.var(hidden.mean(0))

        return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights))

    weights = jax.device_put([np.full((WIDTH, WIDTH), 0.01, np.float32)] * LAYERS, whole)
    rng = np.random.default_rng(number)
    for _ in range(steps):
        rows = rng.normal(size=(8 * devices, WIDTH)).astype(np.float32)
        weights = step(weights, jax.make_array_from_process_local_data(split, rows))
    jax.block_until_ready(weights)


def run(arguments: argparse.Namespace) -> str:
    """Runs both processes once; says how it went."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    flags = f"--xla_force_host_platform_device_count={arguments.devices}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    if arguments.threads is not None:
        environment["PJRT_NPROC"] = str(arguments.threads or os.cpu_count())
    command = [sys.executable, __file__, f"--devices={arguments.devices}"]
    command += [f"--steps={arguments.steps}", f"--port={port}"]
    start = time.monotonic()
    running = [
        subprocess.Popen(
            [*command, f"--number={number}"], env=environment, stdout=subprocess.DEVNULL
        )
        for number in range(PROCESSES)
    ]
    try:
        codes = [process.wait(arguments.patience) for process in running]
    except subprocess.TimeoutExpired:
        return f"hung: not ended after {arguments.patience} s"
    finally:
        for process in running:
            process.kill()
            process.wait()
    return f"ended after {time.monotonic() - start:.0f} s with {codes}"


def main() -> None:
    """Runs them a few times, or is one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("devices", 4), ("steps", 200), ("runs", 3), ("patience", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("threads", "number", "port"):
        parser.add_argument(f"--{name}", type=int)
    arguments = parser.parse_args()
    if arguments.number is not None:
        step_through(arguments.number, arguments.port, arguments.devices, arguments.steps)
        return
    for _ in range(arguments.runs):
        sys.stdout.write(run(arguments) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
