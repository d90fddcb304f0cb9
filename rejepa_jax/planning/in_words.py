"""A plan for people to read."""

import dataclasses

from rejepa_jax.console import table
from rejepa_jax.planning.matmuls import Matmul
from rejepa_jax.planning.plan import Plan, Program, Roofline

GIB, MIB = 2**30, 2**20
NOTED = 8  # lines of float32 products at most


def to_text(plan: Plan) -> str:
    """Says whether it fits, and then everything else."""
    parts = [_heading(plan), _verdict(plan)]
    if plan.program:
        parts += [_memory(plan, plan.program), _collectives(plan.program)]
        parts += [_flops(plan, plan.program), _float32(plan, plan.program)]
        parts.append(_speed(plan, plan.program.roofline))
    return "\n\n".join(parts)


def _heading(plan: Plan) -> str:
    mesh = " x ".join(f"{name} {size}" for name, size in plan.mesh.items())
    accumulated = f", in {plan.accumulate} parts" if plan.accumulate > 1 else ""
    return (
        f"{plan.method} on {plan.topology}: {plan.devices} x {plan.kind}, mesh {mesh}\n"
        f"{plan.images_per_chip} images a chip, batch {plan.batch_size}{accumulated}; activations "
        f"{plan.dtype}, re-computation {plan.remat}; records {plan.record}"
    )


def _verdict(plan: Plan) -> str:
    left = "" if plan.left is None else f"{abs(plan.left) / GIB:.2f} GiB a chip"
    if plan.refused:
        first = f"DOES NOT FIT: {left or 'memory'} missing\n{plan.refused.message}"
    elif plan.available is None:
        first = "compiled; what this device can hold is not known here"
    elif plan.is_fitting:
        first = f"fits: {left} left, of {plan.available / GIB:.2f}"
    else:
        first = f"DOES NOT FIT: {left} missing beside the step, for the batches that wait"
    if plan.largest is None:
        return first
    return f"{first}\nthe largest batch that fits: {plan.largest} images a chip"


def _memory(plan: Plan, program: Program) -> str:
    kinds = {**dataclasses.asdict(program.memory), "batches that wait": plan.waiting}
    rows = [[name, f"{size / MIB:,.1f}"] for name, size in kinds.items()]
    rows.append(["together", f"{(program.memory.total + plan.waiting) / MIB:,.1f}"])
    return table([["memory of a chip", "MiB"], *rows])


def _collectives(program: Program) -> str:
    if not program.collectives:
        return "no collectives"
    rows = [
        [c.kind, str(c.group), str(c.count), " ".join(c.dtypes), *_mib(c.payload, c.sent)]
        for c in program.collectives
    ]
    heading = ["collectives a step", "devices", "count", "dtypes", "MiB", "MiB sent by a chip"]
    return table([heading, *rows])


def _flops(plan: Plan, program: Program) -> str:
    images = plan.images_per_chip
    rows = [
        ["the method's own count", f"{plan.model_flops / 1e9:.2f}"],
        [
            "products of the compiled step",
            f"{program.flops * plan.devices / plan.batch_size / 1e9:.2f}",
        ],
        ["XLA's count, loops once", f"{program.xla_flops / images / 1e9:.2f}"],
    ]
    return table([["operations", "GFLOP an image"], *rows])


def _float32(plan: Plan, program: Program) -> str:
    if plan.dtype == "float32":
        return "activations are float32, and so are all matrix products"
    wide = [matmul for matmul in program.matmuls if matmul.is_float32]
    if not wide:
        return "no float32 matrix products"
    rows = [_product(matmul, program.flops) for matmul in wide[:NOTED]]
    heading = ["float32 matrix products", "a step", "dtypes", "precision", "% of all"]
    more = f"\nand {len(wide) - NOTED} more" if len(wide) > NOTED else ""
    return table([heading, *rows]) + more


def _product(matmul: Matmul, flops: float) -> list[str]:
    kinds = f"{' x '.join(matmul.operands)} -> {matmul.result}"
    share = f"{100 * matmul.flops / flops:.3f}"
    return [matmul.source, str(matmul.count), kinds, matmul.precision, share]


def _speed(plan: Plan, roofline: Roofline | None) -> str:
    if roofline is None:
        return "no roofline: what this device can do a second is not known here"
    rows = [[name, f"{1e3 * value:.2f}"] for name, value in dataclasses.asdict(roofline).items()]
    best, worst = (plan.batch_size / seconds for seconds in (roofline.overlapped, roofline.in_turn))
    share = best * plan.model_flops / ((plan.peak or 1) * plan.devices)
    return (
        table([["a step at least", "ms"], *rows])
        + f"\n\nat most {best:,.0f} images/s on {plan.devices} chips, bound by {roofline.bound}"
        f" ({100 * share:.0f} % of the peak); {worst:,.0f} if nothing overlaps\n"
        f"records to be read for that: {best * plan.record_bytes / 1e9:.2f} GB/s in all, "
        f"{best * plan.record_bytes / 1e6 / plan.devices:.1f} MB/s a chip"
    )


def _mib(*sizes: int | float) -> list[str]:
    return [f"{size / MIB:,.1f}" for size in sizes]
