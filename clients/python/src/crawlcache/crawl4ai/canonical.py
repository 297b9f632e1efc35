"""A form of a configuration's values that is the same in every process, for hashing. Nothing of it is ever sent."""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import pathlib
import re
import types
from typing import Any

DEEPEST = 12
# Of a module's data that a function reads: more would take longer than the fetch that it saves.
MOST_ITEMS = 10_000
# What objects of Crawl4AI carry beside their options: tools, and what they count while they work.
TOOLS = frozenset({"logger", "verbose", "usages", "total_usage", "usage", "_logger", "log_level", "timer"})
SECRETS = re.compile(
    r"^_?(api_?(token|key)|access_?token|auth_?token|password|passwd|secret|secret_?key|token)$", re.IGNORECASE
)


class Unhashable(Exception):
    """A value has no form that would be the same in another process."""


def canonical(value: Any, depth: int = 0) -> Any:
    """The form of a value: nested lists, texts, numbers and None. Raises `Unhashable`."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if depth > DEEPEST:
        raise Unhashable("the configuration is nested too deeply")
    if isinstance(value, enum.Enum):
        return ["enum", _name(type(value)), value.name]
    if isinstance(value, (int, float)):
        # 1 and 1.0 are the same option.
        return int(value) if float(value).is_integer() else repr(float(value))
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, (list, tuple)):
        return ["list", *(canonical(item, depth + 1) for item in value)]
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted((canonical(item, depth + 1) for item in value), key=repr)]
    if isinstance(value, dict):
        return [
            "dict",
            *sorted(
                ([canonical(key, depth + 1), canonical(item, depth + 1)] for key, item in value.items()),
                key=lambda pair: repr(pair[0]),
            ),
        ]
    if isinstance(value, re.Pattern):
        return ["pattern", value.pattern if isinstance(value.pattern, str) else value.pattern.hex(), int(value.flags)]
    if isinstance(value, pathlib.PurePath):
        return ["path", str(value)]
    if isinstance(value, functools.partial):
        return [
            "partial",
            canonical(value.func, depth + 1),
            canonical(value.args, depth + 1),
            canonical(value.keywords, depth + 1),
        ]
    if isinstance(value, types.MethodType):
        return ["method", canonical(value.__func__, depth + 1), canonical(value.__self__, depth + 1)]
    if isinstance(value, types.FunctionType):
        return _function(value, depth)
    if isinstance(value, (types.BuiltinFunctionType, types.ModuleType)):
        return ["name", getattr(value, "__module__", None) or "", value.__name__]
    if isinstance(value, type):
        return _class(value, depth)
    return _object(value, depth)


def _name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


LIBRARIES = frozenset(
    {
        "crawl4ai",
        "builtins",
        "abc",
        "typing",
        "enum",
        "collections",
        "pydantic",
        "re",
        "datetime",
        "functools",
        "types",
        "dataclasses",
    }
)
# Set on every class that a `class` statement made: code run by `exec` may claim to be from `builtins`.
_MADE_BY_STATEMENT = 1 << 9


def is_library_class(kind: type) -> bool:
    """Whether a class is known by its name, as those of Crawl4AI and the standard library, and not by its code."""
    top = kind.__module__.partition(".")[0]
    return top in LIBRARIES and not (top == "builtins" and kind.__flags__ & _MADE_BY_STATEMENT)


def _function(function: types.FunctionType, depth: int) -> Any:
    if (function.__module__ or "").startswith("crawl4ai.") and "<" not in function.__qualname__:
        return ["function", _name(function)]
    cells = [cell.cell_contents if _filled(cell) else None for cell in function.__closure__ or ()]
    # A function that closes over itself would never end; its name stands for it.
    cells = [_name(function) if cell is function else cell for cell in cells]
    return [
        "function",
        _name(function),
        _code(function.__code__),
        *(canonical(part, depth + 1) for part in (function.__defaults__, function.__kwdefaults__, cells)),
        _module_data(function, depth),
    ]


def _module_data(function: types.FunctionType, depth: int) -> Any:
    """The data of its module that a function reads, by name: constants that were moved out of it are part of it."""
    found = []
    for name in _read_globals(function.__code__):
        value = function.__globals__.get(name)
        if value is not None and _is_data(value, [MOST_ITEMS]):
            found.append([name, canonical(value, depth + 1)])
    return found


@functools.lru_cache(maxsize=1024)
def _read_globals(code: types.CodeType) -> tuple[str, ...]:
    """The names of the module that code reads and does not set: what it sets is its memory, not an option."""
    read: set[str] = set()
    written: set[str] = set()
    parts = [code]
    while parts:
        part = parts.pop()
        parts.extend(item for item in part.co_consts if isinstance(item, types.CodeType))
        for step in dis.get_instructions(part):
            if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
                read.add(step.argval)
            elif step.opname == "STORE_GLOBAL":
                written.add(step.argval)
    return tuple(sorted(read - written))


def _is_data(value: Any, left: list[int]) -> bool:
    """Whether a value is data through and through, rather than an object, a function or a module."""
    left[0] -= 1
    if left[0] < 0:
        raise Unhashable("the data of a module that a function reads is too large to tell it by")
    if isinstance(value, dict):
        return all(_is_data(name, left) and _is_data(item, left) for name, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_data(item, left) for item in value)
    return value is None or isinstance(
        value, (bool, int, float, str, bytes, bytearray, enum.Enum, re.Pattern, pathlib.PurePath)
    )


def _code(code: types.CodeType) -> Any:
    constants = [_code(item) if isinstance(item, types.CodeType) else _constant(item) for item in code.co_consts]
    return ["code", code.co_code.hex(), constants, list(code.co_names), list(code.co_varnames), list(code.co_freevars)]


def _constant(item: Any) -> Any:
    if isinstance(item, frozenset):
        return ["set", *sorted(repr(part) for part in item)]
    return [type(item).__name__, repr(item)]


def _class(kind: type, depth: int) -> Any:
    """A class by its name, and, if it is somebody's own, by its code and that of its own bases."""
    if is_library_class(kind):
        return ["class", _name(kind)]
    members = []
    for base in kind.__mro__:
        if is_library_class(base):
            members.append([_name(base)])
            continue
        for name, member in sorted(vars(base).items()):
            if name in {
                "__dict__",
                "__weakref__",
                "__doc__",
                "__module__",
                "__abstractmethods__",
                "_abc_impl",
                "__firstlineno__",
                "__static_attributes__",
            }:
                continue
            if isinstance(member, (staticmethod, classmethod)):
                member = member.__func__
            if isinstance(member, property):
                member = [part for part in (member.fget, member.fset, member.fdel) if part]
            if isinstance(member, types.FunctionType) and any(
                cell.cell_contents is kind for cell in member.__closure__ or () if _filled(cell)
            ):
                # `super()` closes over the class itself.
                data = _module_data(member, depth)
                members.append([name, _code(member.__code__), canonical(member.__defaults__, depth + 1), data])
                continue
            members.append([name, canonical(member, depth + 1)])
    return ["class", _name(kind), members]


def _filled(cell: Any) -> bool:
    """Whether a variable of a closure has a value by now."""
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _object(value: Any, depth: int) -> Any:
    kind = type(value)
    if dataclasses.is_dataclass(value):
        state = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    elif hasattr(value, "model_fields"):
        state = dict(value.__dict__)
    elif hasattr(value, "__dict__"):
        state = state_of(value)
    else:
        raise Unhashable(f"a {kind.__module__}.{kind.__qualname__} has no attributes to tell it by")
    if is_library_class(kind):
        # Stemmers and models of Crawl4AI's own objects follow from their options; of anybody else's we cannot know.
        options = _parameters(kind)  # type: ignore[arg-type]
        state = {name: item for name, item in state.items() if name in options or not _is_tool(item)}
    made = [
        [name, canonical(state[name], depth + 1)]
        for name in sorted(state)
        if name not in TOOLS and not SECRETS.match(name)
    ]
    return ["object", _class(kind, depth), made]


def state_of(value: Any) -> dict[str, Any]:
    """The attributes of an object by their names, those in slots included."""
    state = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                state[name] = getattr(value, name)
    return state


@functools.lru_cache(maxsize=256)
def _parameters(kind: type) -> frozenset[str]:
    """The names of what an object is made with."""
    names: set[str] = set()
    for base in kind.__mro__:
        made_by = vars(base).get("__init__")
        if isinstance(made_by, types.FunctionType):
            code = made_by.__code__
            names.update(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])
    return frozenset(names)


def _is_tool(value: Any) -> bool:
    """Whether a value is an object of some other library or not made yet, rather than data or one of Crawl4AI's."""
    if value is None:
        return True
    return not isinstance(value, (type, types.FunctionType, types.MethodType)) and not is_library_class(type(value))
