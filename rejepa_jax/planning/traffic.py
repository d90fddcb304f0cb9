"""How many bytes a step moves to and from a device's main memory, from the compiled program.

Every instruction that is not inside a fusion reads its operands and writes its results once. What a
fusion only cuts a slice from, as it does of the stacked layers, costs the slice; what it changes in
place costs the change; and what the compiler keeps in the chip's own memory costs nothing.
"""

from collections import defaultdict

from rejepa_jax.planning.hlo import Computation, Instruction, Program

FREE = {  # names for what is there already, or counted where it is called
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"),
    *("while", "conditional", "call", "async-start", "opt-barrier", "partition-id", "replica-id"),
}
SLICES = {"slice", "dynamic-slice", "gather"}
SAME = {"bitcast", "reshape"}


def memory_traffic(program: Program) -> int:
    """Adds up the bytes read and written a step on one device."""
    return sum(
        times * _moved(instruction, computation, program)
        for name, computation in program.computations.items()
        if (times := program.times.get(name, 0)) and name not in program.fused
        for instruction in computation.values()
    )


def _moved(instruction: Instruction, computation: Computation, program: Program) -> int:
    opcode = instruction.opcode
    if opcode in FREE or opcode.endswith(("-done", "-update")):
        return 0
    if opcode == "fusion":
        (inner,) = instruction.called()["calls"]
        reads = _fusion_reads(instruction, computation, program.computations[inner], program)
        return reads + _fusion_writes(instruction, program.computations[inner])
    results = instruction.results
    if opcode.endswith("-start"):  # and done elsewhere: made is one of these, with what is read
        results = results[1:2] if opcode == "slice-start" else results[:1]
    written = sum(shape.bytes for shape in results if not shape.space)
    if opcode.removesuffix("-start") in SLICES:
        first = _main(instruction.operands[:1], computation)
        return written + min(first, sum(shape.bytes for shape in results))
    if opcode == "dynamic-update-slice":
        return 2 * _main(instruction.operands[1:2], computation)
    return written + _main(instruction.operands, computation)


def _main(names: tuple[str, ...], computation: Computation) -> int:
    """Returns the bytes that some instructions have in main memory."""
    found = (computation[name] for name in names if name in computation)
    return sum(shape.bytes for each in found for shape in each.results if not shape.space)


def _fusion_reads(
    fusion: Instruction, outside: Computation, inside: Computation, program: Program
) -> int:
    total = 0
    for place, name in enumerate(fusion.operands):
        if held := _main((name,), outside):
            parameter = _parameter(inside, place)
            total += held if parameter is None else _used(parameter, inside, program)
    return total


def _used(source: Instruction, computation: Computation, program: Program) -> int:
    """Returns the bytes of an array that a fused computation looks at."""
    whole, total = sum(shape.bytes for shape in source.results), 0
    for user in _users(computation)[source.name]:
        if user.opcode in SLICES and user.operands[0] == source.name:
            total += user.results[0].bytes
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == source.name:
            continue  # in place
        elif user.opcode in SAME:
            total += _used(user, computation, program)
        elif user.opcode == "fusion":
            inner = program.computations[user.called()["calls"][0]]
            places = [i for i, name in enumerate(user.operands) if name == source.name]
            parts = [_parameter(inner, place) for place in places]
            total += sum(_used(part, inner, program) for part in parts if part)
        else:
            return whole
    return min(total, whole)


def _users(computation: Computation) -> dict[str, list[Instruction]]:
    users: dict[str, list[Instruction]] = defaultdict(list)
    for instruction in computation.values():
        for name in dict.fromkeys(instruction.operands):
            users[name].append(instruction)
    return users


def _parameter(computation: Computation, place: int) -> Instruction | None:
    for instruction in computation.values():
        if instruction.opcode == "parameter" and instruction.attributes.split()[0] == str(place):
            return instruction
    return None


def _fusion_writes(fusion: Instruction, inside: Computation) -> int:
    root = next(each for each in inside.values() if each.is_root)
    parts = [inside[name] for name in root.operands] if root.opcode == "tuple" else [root]
    pairs = zip(fusion.results, parts, strict=False)
    return sum(_written(part, inside) for shape, part in pairs if not shape.space)


def _written(made: Instruction, inside: Computation) -> int:
    while made.opcode in SAME and made.operands[0] in inside:
        made = inside[made.operands[0]]
    if made.opcode == "parameter":
        return 0  # handed through
    if made.opcode == "dynamic-update-slice":
        made = inside[made.operands[1]]
    return sum(shape.bytes for shape in made.results)
