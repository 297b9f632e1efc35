"""What the code of a function reads that is not its own: names of modules, and the environment of the process."""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import os
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

# Names by which code reads what another process may have otherwise, and which no value here tells.
OUTSIDE = frozenset(
    {
        "open",
        "read_text",
        "read_bytes",
        "input",
        "globals",
        "exec",
        "eval",
        "__import__",
        "import_module",
        "expandvars",
        "expanduser",
    }
)
# Where the functions of these names are from that are not the caller's own.
_FROM = frozenset({"importlib", "posixpath", "ntpath", "io", "_io", "builtins"})
# Modules that give away what is stored elsewhere, secrets above all.
STORES = frozenset({"keyring", "hvac", "boto3", "botocore", "decouple", "environs", "dotenv", "dynaconf", "getpass"})
ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb"})
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"})
_BETWEEN = frozenset({"PUSH_NULL", "CACHE", "NOP", "PRECALL", "EXTENDED_ARG", "KW_NAMES"})
_BY_ANY_NAME = frozenset({"getattr", "vars", "__dict__", "attrgetter"})
_GETTERS = frozenset({"get", "__getitem__"})
_SUBSCRIPTS = frozenset({"BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR"})
_CALLS = frozenset({"CALL", "CALL_FUNCTION", "CALL_METHOD"})
_CALLS_BY_KEYWORD = frozenset({"CALL_KW", "CALL_FUNCTION_KW"})
# What puts one value on the stack.
_PLAIN_LOADS = frozenset(
    {"LOAD_CONST", "LOAD_SMALL_INT", "LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_CHECK", "LOAD_DEREF", *_LOADS}
)


class Unknowable(Exception):
    """Code reads what cannot be known before it runs."""


class Reads(NamedTuple):
    """What code reads, by name."""

    globals: tuple[str, ...]
    #: Those that the code sets as well.
    written: frozenset[str]
    attributes: frozenset[str]
    #: What is asked of a global itself, by its name.
    members: dict[str, frozenset[str]]
    imports: tuple[tuple[str, int], ...]

    def of_module(self, names: Iterable[str]) -> list[str]:
        """Which names of a module code may take out of it: all of them, if it can ask by any name."""
        every = not _BY_ANY_NAME.isdisjoint(self.attributes)
        return sorted(name for name in names if name in self.attributes or (every and not name.startswith("__")))


def _parts(code: types.CodeType) -> Iterator[types.CodeType]:
    """Code, and the code of the functions that are made in it."""
    parts = [code]
    while parts:
        part = parts.pop()
        parts.extend(item for item in part.co_consts if isinstance(item, types.CodeType))
        yield part


@functools.lru_cache(maxsize=4096)
def reads(code: types.CodeType) -> Reads:
    """The names that code reads."""
    read: set[str] = set()
    written: set[str] = set()
    attributes: set[str] = set()
    imports: set[tuple[str, int]] = set()
    members: dict[str, set[str]] = {}
    for part in _parts(code):
        attributes.update(part.co_names)
        level: Any = 0
        constants: list[Any] = []
        base: str | None = None
        for step in dis.get_instructions(part):
            if step.opname in _BETWEEN:
                continue
            if base is not None and step.opname in _ATTRIBUTES:
                members.setdefault(base, set()).add(step.argval)
            base = step.argval if step.opname in _LOADS else None
            if step.opname in _LOADS:
                read.add(step.argval)
            elif step.opname == "STORE_GLOBAL":
                written.add(step.argval)
            elif step.opname == "IMPORT_NAME":
                # The level and the names to import come before it.
                level = constants[-2] if len(constants) > 1 and isinstance(constants[-2], int) else 0
                imports.add((step.argval, level))
            if step.opname.startswith("LOAD_"):
                constants = [*constants[-1:], step.argval]
    return Reads(
        tuple(sorted(read)),
        frozenset(read & written),
        frozenset(attributes),
        {name: frozenset(found) for name, found in members.items()},
        tuple(sorted(imports)),
    )


@functools.lru_cache(maxsize=4096)
def digest(code: types.CodeType) -> str:
    """The digest of code: of what it does and with which constants, not of where it stands."""
    return hashlib.sha256(json.dumps(_form(code), separators=(",", ":")).encode()).hexdigest()


def _form(code: types.CodeType) -> Any:
    constants = [_form(item) if isinstance(item, types.CodeType) else _constant(item) for item in code.co_consts]
    return ["code", code.co_code.hex(), constants, list(code.co_names), list(code.co_varnames), list(code.co_freevars)]


def _constant(item: Any) -> Any:
    if isinstance(item, frozenset):
        return ["set", *sorted(repr(part) for part in item)]
    return [type(item).__name__, repr(item)]


def is_environment(value: Any) -> bool:
    """Whether a value is the environment of the process, or a way to it."""
    return value is os.environ or value is os.getenv or (os.supports_bytes_environ and value is os.environb)


def environment(function: types.FunctionType) -> list[tuple[str, str | None]]:
    """The variables of the environment that a function reads, with their values. Raises `Unknowable`."""
    found: dict[str, str | None] = {}
    for part in _parts(function.__code__):
        steps = [step for step in dis.get_instructions(part) if step.opname not in _BETWEEN]
        for place, step in enumerate(steps):
            if _asks_environment(step, function):
                name = _operand(steps, place + 1, function)
                if not isinstance(name, str):
                    raise Unknowable("reads variables of the environment that are not named in the code")
                found[name] = os.environ.get(name)
    return sorted(found.items())


def _asks_environment(step: dis.Instruction, function: types.FunctionType) -> bool:
    if step.opname in _ATTRIBUTES:
        return step.argval in ENVIRONMENT
    return step.opname in _LOADS and is_environment(function.__globals__.get(step.argval))


def _operand(steps: list[dis.Instruction], place: int, function: types.FunctionType) -> Any:
    """The name that the environment is asked for, where it is a constant or a value of the module."""
    asked = steps[place - 1].argval in {"getenv", "getenvb"} or (
        steps[place - 1].opname in _LOADS and function.__globals__.get(steps[place - 1].argval) is os.getenv
    )
    if place < len(steps) and steps[place].opname in _ATTRIBUTES and steps[place].argval in _GETTERS:
        place += 1
        asked = True
    if place >= len(steps) or not (_is_called(steps, place + 1) if asked else _is_subscript(steps, place + 1)):
        return None
    step = steps[place]
    if step.opname in _LOADS:
        return function.__globals__.get(step.argval)
    return step.argval if step.opname.startswith("LOAD_CONST") else None


def _is_subscript(steps: list[dis.Instruction], place: int) -> bool:
    """Whether the value before is asked for as it is, and not made into another name first."""
    if place >= len(steps):
        return False
    step = steps[place]
    return step.opname in _SUBSCRIPTS or (step.opname == "BINARY_OP" and step.argrepr.startswith("["))


def _is_called(steps: list[dis.Instruction], place: int) -> bool:
    """Whether the value before is the first argument as it is, with at most one plain value behind it."""
    loads = 0
    while place < len(steps) and steps[place].opname in _PLAIN_LOADS:
        loads += 1
        place += 1
    if place >= len(steps) or loads > 2:
        return False
    step = steps[place]
    # Else they are arguments of another function, which is given the environment itself.
    return (step.opname in _CALLS and step.argval == 1 + loads) or (
        step.opname in _CALLS_BY_KEYWORD and step.argval == loads
    )


def refuse_outside(function: types.FunctionType) -> None:
    """Raises `Unknowable` where a function reads files or a store of secrets."""
    read = reads(function.__code__)
    for name in sorted(OUTSIDE & read.attributes):
        if name not in function.__globals__:
            raise Unknowable(f"calls {name}(), and what it reads there is not known")
    for name in read.globals:
        # Under any name that the caller has given it.
        value = function.__globals__.get(name)
        if getattr(value, "__name__", None) in OUTSIDE and getattr(value, "__module__", None) in _FROM:
            raise Unknowable(f"calls {name}(), and what it reads there is not known")
    modules = {name.partition(".")[0] for name, _ in read.imports}
    for name in read.globals:
        value = function.__globals__.get(name)
        origin = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        modules.add(str(origin).partition(".")[0])
    for name in sorted(STORES & modules):
        raise Unknowable(f"asks {name}, and what that answers is not known")
