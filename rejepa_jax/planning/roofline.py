"""How long a step takes at least: products at the peak, bytes at the bandwidths, nothing else."""

import dataclasses

from rejepa_jax.planning.collectives import Collective
from rejepa_jax.planning.matmuls import PASSES, Matmul
from rejepa_jax.planning.topologies import Topology


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds that a step takes at least, by what limits it."""

    compute: float  # matrix products at the peak of the units that multiply
    memory: float  # bytes moved at the bandwidth of main memory
    collectives: float  # bytes sent over all links at once

    @property
    def bound(self) -> str:
        """Names what takes longest."""
        return max(dataclasses.asdict(self), key=lambda name: getattr(self, name))

    @property
    def overlapped(self) -> float:
        """Seconds a step if all of it goes on at the same time."""
        return max(dataclasses.astuple(self))

    @property
    def in_turn(self) -> float:
        """Seconds a step if nothing overlaps."""
        return sum(dataclasses.astuple(self))


def find_roofline(
    topology: Topology, products: list[Matmul], sent: list[Collective], traffic: int
) -> Roofline | None:
    """Returns the least times of a step; None where the device's figures are not known.

    A TPU multiplies in bfloat16; higher precisions are several passes.
    """
    if topology.chip is None or topology.peak is None:
        return None
    is_tpu = topology.platform == "tpu"
    work = sum(m.flops * (PASSES[m.precision] if is_tpu else 1) for m in products)
    return Roofline(
        compute=work / topology.peak,
        memory=traffic / topology.chip.bandwidth,
        collectives=sum(collective.sent for collective in sent) / topology.chip.links,
    )
