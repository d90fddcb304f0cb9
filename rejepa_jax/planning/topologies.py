"""Devices by the name of a topology: TPUs that need not be there, or this machine's own.

`v5e:2x4` is a slice of eight TPU chips, for which the TPU compiler itself (extra `tpu`) compiles on
any Linux machine; `cpu:8` is eight simulated devices; `gpu`, or `gpu:4`, the GPUs of this machine.
"""

import dataclasses
import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from rejepa_jax.training.compute import datasheet_peak
from rejepa_jax.types import ConfigError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a device can hold and move; operations a second are in `training/compute.py`."""

    memory: float  # bytes that a program may have
    bandwidth: float  # bytes/s of main memory
    links: float  # bytes/s that it can send to others, over all its links at once


# TPU: memory is what the compiler of libtpu 0.0.42 says is available in refusing a program; the
# rest is from docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e}, where links of both directions together
# are given as 400 and 1200 GB/s, and of v6e as 3200 Gbit/s one way. NVIDIA: datasheets; NVLink.
CHIPS = {
    "TPU v5 lite": Chip(15.75 * GIB, 819e9, 200e9),
    "TPU v5": Chip(95.74 * GIB, 2765e9, 600e9),
    "TPU v6 lite": Chip(31.25 * GIB, 1600e9, 400e9),
    "A100": Chip(80e9, 2039e9, 300e9),
    "H100": Chip(80e9, 3350e9, 450e9),
    "H200": Chip(141e9, 4800e9, 450e9),
}
TPU = re.compile(r"(v5e|v5p|v6e):\d+(x\d+){1,2}")
LOCAL = re.compile(r"(cpu|gpu)(?::([1-9]\d*))?")
# libtpu reads these when it is loaded: no metadata server is asked, no chip looked for, and no lock
# taken, which is for the chips.
ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices to compile for, and what one of them can do; None where nobody has said."""

    name: str
    devices: tuple[jax.Device, ...]
    platform: str  # tpu | gpu | cpu
    kind: str  # as JAX names the device
    chip: Chip | None
    peak: float | None  # FLOP/s in bfloat16


def find_topology(name: str) -> Topology:
    """Returns the devices of a topology; the first call fixes what this process may compile for.

    Raises:
        ConfigError: no such topology, no TPU compiler, or not so many devices here.
    """
    if TPU.fullmatch(name):
        devices = _tpus(name)
    elif local := LOCAL.fullmatch(name):
        devices = _own(local[1], int(local[2] or 0))
    else:
        raise ConfigError(
            f"--topology {name!r}: expected a TPU slice such as v5e:2x4, v5p:4x4x4 or v6e:4x4, "
            "cpu:8, gpu or gpu:4; name one of these"
        )
    kind = devices[0].device_kind
    named = [chip for chip in CHIPS if re.search(rf"\b{chip}\b", kind)]
    chip = CHIPS[max(named, key=len)] if named else None
    return Topology(name, tuple(devices), devices[0].platform, kind, chip, datasheet_peak(kind))


def _tpus(name: str) -> list[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            f"--topology {name}: the TPU compiler is not installed (Linux on x86-64 only); "
            "run pip install 'rejepa_jax[tpu]'"
        )
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")  # or JAX would look for TPUs to run on
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise ConfigError(
            f"--topology {name}: {error}; TPU slices have whole hosts of 2x2 or 2x2x1 chips"
        ) from error


def _own(platform: str, count: int) -> list[jax.Device]:
    """Returns this machine's devices: all of them, or the first so many; of a CPU, simulated."""
    if platform == "cpu":
        try:
            jax.config.update("jax_platforms", "cpu")
            jax.config.update("jax_num_cpu_devices", count or 1)
        except RuntimeError:
            pass  # JAX has its devices already, perhaps enough of them
    try:
        devices = jax.devices(platform)
    except RuntimeError as error:
        raise ConfigError(f"--topology {platform}: {error}; plan on a machine with one") from error
    if len(devices) < count:
        raise ConfigError(
            f"--topology {platform}:{count}: there are {len(devices)} here; ask for fewer"
        )
    return devices[: count or None]
