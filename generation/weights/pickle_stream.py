"""A pickle as data: an interpreter of the few instructions that weights need, over values that cannot be called.

`pickletools.genops` of the standard library takes the stream apart; its instructions are carried out here. A global is
never looked up: it becomes a `Name`, if it is on the reader's list, and "calling" it builds one of the reader's own
values. Everything else is refused with its name and position (pickle protocols 2 to 5; `pickletools` has their
reference).
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

from generation.errors import WeightsError
from generation.weights.mapped import ByteReader, printable

MAX_INSTRUCTIONS = 1_000_000  # the largest published checkpoints have some 100,000
MAX_DEPTH = 100
DAMAGED = (
    *(TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError),
    *(OverflowError, RuntimeError, MemoryError, EOFError, struct.error),
)
KEY_TYPES = (str, int, float, bool, bytes, type(None))


class Refused(Exception):  # noqa: N818  (becomes a WeightsError that says where)
    """Raised by the rules of a reader: the refused value, as the end of the sentence "contains ..."."""


@dataclass(frozen=True)
class Name:
    """A global that a stream refers to, "module.name"; nothing is imported for it."""

    full: str


@dataclass(eq=False)
class Bag:
    """An object of a class that the caller allowed: its attributes, none of its behaviour.

    Attributes:
        kind: "module.Name" of its class.
        state: its attributes.
    """

    kind: str
    state: dict[str, Any] = field(default_factory=dict)

    def build(self, state: Any) -> None:
        """Takes what pickle would pass to the object's __setstate__ or put into its __dict__."""
        parts = state if type(state) is tuple and len(state) == 2 else (state,)
        for part in parts:
            if type(part) is dict and all(type(key) is str for key in part):
                self.state.update(part)
            elif part is not None:
                raise Refused(f"a state of {self.kind} that is not a dict")


@dataclass(frozen=True)
class Rules:
    """What a stream may contain besides plain values.

    Attributes:
        calls: what "calling" a name builds, from the arguments in the stream.
        names: names that may stand as values, and the value that they become.
        bags: classes whose objects become a `Bag`.
        builds: for a type of value, the function that applies its state in the stream.
        persistent: makes a value of a persistent id; None refuses them.
        has_views: whether bytes become views of the file, not copies.
    """

    calls: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    bags: frozenset[str] = frozenset()
    builds: Mapping[type, Callable[[Any, Any], None]] = field(default_factory=dict)
    persistent: Callable[[Any], Any] | None = None
    has_views: bool = False


def read_stream(source: ByteReader, rules: Rules) -> Any:
    """Reads one pickle and leaves the reader behind its end.

    Returns:
        dicts, lists, tuples, sets, strings, bytes and numbers, and what the rules make.

    Raises:
        WeightsError: names the instruction, global or object that is refused, or says where the stream is damaged.
    """
    machine = _Machine(source, rules)
    instruction, at = "", source.position
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(cast(IO[bytes], source))):
            instruction, at = opcode.name, position or 0
            if count > MAX_INSTRUCTIONS:
                raise Refused(f"more than {MAX_INSTRUCTIONS:,} pickle instructions")
            if count and instruction == "PROTO":
                raise Refused("a pickle inside of another one")
            machine.step(instruction, argument)
            instruction, at = "", source.position
        if not machine.protocol_number:
            raise Refused("a pickle of a protocol before 2")
        _refuse_cycles(machine.result)
    except Refused as error:
        raise WeightsError(
            f"{source.place}: contains {error} (byte {at:,}), which no weights need; nothing of it was run, "
            "do not use this file"
        ) from error
    except DAMAGED as error:
        reason = printable(str(error)) or type(error).__name__
        where = f"byte {at:,} {instruction}".rstrip()
        raise WeightsError(f"{source.place}: damaged at {where} ({reason}); fetch it again") from error
    return machine.result


def find_global(source: ByteReader) -> str:
    """The first global that a pickle of any protocol names; "" without one, or if it is not a pickle."""
    try:
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], source)):
            if opcode.name in ("GLOBAL", "INST"):
                return printable(str(argument).replace(" ", ".", 1))
    except DAMAGED:
        pass
    return ""


class _Machine:
    """Stack, marks and memo of a pickle, and one small method or entry for each allowed instruction."""

    def __init__(self, source: ByteReader, rules: Rules) -> None:
        self.source, self.rules = source, rules
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None
        self.protocol_number = 0

    def step(self, instruction: str, argument: Any) -> None:
        if instruction in _CONSTANTS:
            self.stack.append(_CONSTANTS[instruction]())
        elif instruction in _LITERALS:
            self.stack.append(argument)
        elif instruction in _STEPS:
            _STEPS[instruction](self, argument)
        else:
            shown = f" ({printable(str(argument))})" if isinstance(argument, str | int) else ""
            raise Refused(f"the pickle instruction {instruction}{shown}")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def protocol(self, version: int) -> None:
        if not 2 <= version <= 5:
            raise Refused(f"pickle protocol {version}")
        self.protocol_number = version

    def stop(self, _: Any) -> None:
        self.result = self.stack.pop()
        if self.stack or self.marked:
            raise ValueError("values are left over")

    def bytes_literal(self, argument: bytes) -> None:
        end = self.source.position
        self.stack.append(self.source.view[end - len(argument) : end] if self.rules.has_views else argument)

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def tuple_of(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError("too few values for a tuple")
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def extend(self, items: Iterable[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(plain_keys(items))
        else:
            raise Refused(f"items for {kind_of(target)}")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise Refused(f"items for {kind_of(target)}")
        target.update(zip(plain_keys(items[::2]), items[1::2], strict=True))

    def remember(self, number: int | None) -> None:
        self.memo[len(self.memo) if number is None else number] = self.stack[-1]

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise Refused("a global whose name is not text")
        full, rules = f"{module}.{name}", self.rules
        if "." in name or not (full in rules.calls or full in rules.names or full in rules.bags):
            raise Refused(f"the global {printable(full)}")
        self.stack.append(rules.names.get(full, Name(full)))

    def name_from_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def call(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if type(called) is not Name or type(arguments) is not tuple:
            raise Refused(f"a call of {kind_of(called)}")
        if called.full in self.rules.calls:
            self.stack.append(self.rules.calls[called.full](*arguments))
        elif called.full in self.rules.bags:
            self.stack.append(Bag(called.full))
        else:
            raise Refused(f"a call of {called.full}")

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is Bag:
            target.build(state)
        elif type(target) in self.rules.builds:
            self.rules.builds[type(target)](target, state)
        else:
            raise Refused(f"a state for {kind_of(target)}")

    def persistent(self, _: Any) -> None:
        number = self.stack.pop()
        if self.rules.persistent is None:
            raise Refused("a persistent id")
        self.stack.append(self.rules.persistent(number))


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"),
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": lambda machine, argument: None,  # only groups bytes
    "STOP": _Machine.stop,
    "SHORT_BINBYTES": _Machine.bytes_literal,
    "BINBYTES": _Machine.bytes_literal,
    "BINBYTES8": _Machine.bytes_literal,
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "FROZENSET": lambda machine, _: machine.push(frozenset(plain_keys(machine.pop_mark()))),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.pop_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "BINGET": lambda machine, number: machine.push(machine.memo[number]),
    "LONG_BINGET": lambda machine, number: machine.push(machine.memo[number]),
    "GLOBAL": lambda machine, argument: machine.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": _Machine.name_from_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


def plain_keys(keys: Iterable[Any]) -> list[Any]:
    """Keys of a dict or members of a set: plain values only, since hashing nested ones can take forever.

    Raises:
        Refused: one is another value.
    """
    keys = list(keys)
    for key in keys:
        if type(key) not in KEY_TYPES:
            raise Refused(f"{kind_of(key)} as a key")
    return keys


def kind_of(value: Any) -> str:
    """The type of a value, for an error line; its content is never shown."""
    if type(value) is Name:
        return f"the global {printable(value.full)}"
    if type(value) is Bag:
        return f"an object of {printable(value.kind)}"
    return f"a value of type {type(value).__name__}"


def _children(value: Any) -> list[Any]:
    items = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    return [item for item in items if type(item) in (dict, list, tuple)]


def _refuse_cycles(value: Any) -> None:
    """Callers walk through the value: it must be finite, and not nested too deep."""
    depth: dict[int, int] = {}
    above: set[int] = set()
    todo = [(value, False)]
    while todo:
        item, is_left = todo.pop()
        key = id(item)
        if is_left:
            above.discard(key)
            depth[key] = 1 + max((depth[id(child)] for child in _children(item)), default=0)
            if depth[key] > MAX_DEPTH:
                raise Refused(f"values nested more than {MAX_DEPTH} deep")
        elif key in above:
            raise Refused("a value that contains itself")
        elif key not in depth:
            above.add(key)
            todo.append((item, True))
            todo.extend((child, False) for child in _children(item))
