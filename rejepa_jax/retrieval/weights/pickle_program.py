"""What a pickle would build, found out without unpickling it.

A pickle is a program for a small stack machine, and to load it is to call whatever functions it
names. Here `pickletools` lists the program's operations, which runs none of them; they are followed
as far as plain values and containers go, and a function is called only if the caller gave it.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

LITERALS = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
REMEMBERED = {"BINPUT", "LONG_BINPUT", "MEMOIZE"}
ABOVE, ONTO = -1, -2  # operands: all above the mark; that, and the container below it


class UnknownNameError(ValueError):
    """The program asks for something that is not given; the message is its name."""


def follow(program: bytes, functions: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """Returns what the program builds from plain values and the given functions.

    `functions` are found by "module name"; `persistent` resolves what lies outside the pickle.

    Raises:
        UnknownNameError: it asks for another function, or for an operation that is not needed for
            plain values.
        AttributeError, IndexError, KeyError, TypeError, ValueError: it is no sound program.
    """

    def find(name: str) -> Any:
        if name not in functions:
            raise UnknownNameError(name.replace(" ", "."))
        return functions[name]

    stack: list[Any] = []
    marks: list[int] = []
    memory: dict[Any, Any] = {}
    pushed: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(LITERALS, lambda value: value),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), memory.__getitem__),
        "GLOBAL": find,
    }
    built = BUILT | {
        "BINPERSID": (1, persistent),
        "STACK_GLOBAL": (2, lambda module, name: find(f"{module} {name}")),
    }
    for operation, argument, _ in pickletools.genops(program):
        name = operation.name
        if name in pushed:
            stack.append(pushed[name](argument))
        elif name in built:
            count, build = built[name]
            start = len(stack) - count if count >= 0 else marks.pop() - (count == ONTO)
            stack[start:] = [build(*stack[start:])]
        elif name == "MARK":
            marks.append(len(stack))
        elif name in REMEMBERED:
            memory[len(memory) if argument is None else argument] = stack[-1]
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise UnknownNameError(name if argument is None else f"{name} {argument}")
    return stack[-1]


def _extend(items: list[Any], *more: Any) -> list[Any]:
    items.extend(more)
    return items


def _fill(content: dict[Any, Any], *pairs: Any) -> dict[Any, Any]:
    content.update(zip(pairs[::2], pairs[1::2], strict=True))
    return content


def _tuple(*items: Any) -> tuple[Any, ...]:
    return items


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


BUILT: dict[str, tuple[int, Callable[..., Any]]] = {
    "NONE": (0, lambda: None),
    "NEWTRUE": (0, lambda: True),
    "NEWFALSE": (0, lambda: False),
    "EMPTY_DICT": (0, dict),
    "EMPTY_LIST": (0, list),
    "EMPTY_TUPLE": (0, tuple),
    "TUPLE": (ABOVE, _tuple),
    "TUPLE1": (1, _tuple),
    "TUPLE2": (2, _tuple),
    "TUPLE3": (3, _tuple),
    "APPEND": (2, _extend),
    "APPENDS": (ONTO, _extend),
    "SETITEM": (3, _fill),
    "SETITEMS": (ONTO, _fill),
    "REDUCE": (2, _call),
    "NEWOBJ": (2, _call),
    "BUILD": (2, lambda thing, _: thing),  # an object's attributes are left out
}
