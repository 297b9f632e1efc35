"""A form of a configuration's values that is the same in every process, for hashing. Nothing of it is ever sent."""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import json
import pathlib
import re
import sys
import threading
import types
import uuid
from collections.abc import Callable
from typing import Any

from . import code

DEEPEST = 40
# Of what a function reads, and what that reads: more would take longer than the fetch that it saves.
MOST_VALUES = 10_000
# What objects of Crawl4AI carry beside their options: tools, and what they count while they work.
TOOLS = frozenset({"logger", "verbose", "usages", "total_usage", "usage", "_logger", "log_level", "timer"})
# What Crawl4AI's own objects call the keys of language models, which change no page.
SECRETS = re.compile(
    r"^_?(api_?(token|key)|access_?token|auth_?token|password|passwd|secret|secret_?key|token)$", re.IGNORECASE
)
# Where the types of locks, tasks and loggers are from: how a program works, not what it fetches.
MACHINERY = frozenset({"asyncio", "_asyncio", "threading", "_thread", "logging"})
# Values that their text tells.
PLAIN = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    complex,
    range,
    slice,
    types.GenericAlias,
    types.UnionType,
    types.EllipsisType,
    types.NotImplementedType,
)
# What Python itself notes in a class, by which it does nothing.
NOTES = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__doc__",
        "__module__",
        "__abstractmethods__",
        "_abc_impl",
        "__firstlineno__",
        "__static_attributes__",
        "__slots__",
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__signature__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__match_args__",
        "__parameters__",
        "__orig_bases__",
        "__class_vars__",
        "__private_attributes__",
        "model_config",
        "model_fields",
        "model_computed_fields",
    }
)
_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)


class Unhashable(Exception):
    """A value has no form that would be the same in another process."""


def canonical(value: Any) -> Any:
    """The form of a value: nested lists, texts, numbers and None. Raises `Unhashable`."""
    return _Walk().form(value)


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


@functools.lru_cache(maxsize=1024)
def _is_installed(top: str) -> bool:
    """Whether a package is of the standard library, or installed beside the program."""
    if top in LIBRARIES or top in sys.stdlib_module_names:
        return True
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
    return not {"site-packages", "dist-packages"}.isdisjoint(pathlib.PurePath(file).parts)


class _Walk:
    """One way through a value and all that it is made of."""

    def __init__(self) -> None:
        self._left = MOST_VALUES
        self._path: list[int] = []
        self._known: dict[int, tuple[Any, Any]] = {}
        # The packages of the caller's own code, which may be installed like a library.
        self._own: set[str] = set()

    def form(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, str)):
            return value
        self._left -= 1
        if self._left < 0:
            raise Unhashable("it is too large to be told by: a function and what it reads count together")
        if isinstance(value, enum.Enum):
            known = is_library_class(type(value)) or self._is_library(type(value).__module__)
            return ["enum", _name(type(value)), value.name, *([] if known else [self.form(value.value)])]
        if isinstance(value, (int, float)):
            # 1 and 1.0 are the same option.
            return int(value) if float(value).is_integer() else repr(float(value))
        if isinstance(value, (bytes, bytearray)):
            return ["bytes", bytes(value).hex()]
        if isinstance(value, re.Pattern):
            pattern = value.pattern if isinstance(value.pattern, str) else value.pattern.hex()
            return ["pattern", pattern, int(value.flags)]
        if isinstance(value, pathlib.PurePath):
            return ["path", str(value)]
        if isinstance(value, PLAIN):
            return ["value", _name(type(value)), repr(value)]
        if type(value) is object:
            return ["sentinel"]
        if id(value) in self._path:
            return ["again", len(self._path) - self._path.index(id(value))]
        if len(self._path) > DEEPEST:
            raise Unhashable("the configuration is nested too deeply")
        self._path.append(id(value))
        try:
            return self._inner(value)
        finally:
            self._path.pop()

    def _inner(self, value: Any) -> Any:
        if isinstance(value, (list, tuple, collections.deque)):
            return ["list", *(self.form(item) for item in value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted((self.form(item) for item in value), key=repr)]
        if isinstance(value, (dict, types.MappingProxyType)):
            items = ([self.form(key), self.form(item)] for key, item in value.items())
            return ["dict", *sorted(items, key=lambda pair: repr(pair[0]))]
        if isinstance(value, functools.partial):
            return ["partial", self.form(value.func), self.form(value.args), self.form(value.keywords)]
        if isinstance(value, types.MethodType):
            return ["method", self.form(value.__func__), self.form(value.__self__)]
        if isinstance(value, types.FunctionType):
            return self._once(value, self._function)
        if isinstance(value, types.ModuleType):
            if not self._is_library(value.__name__):
                raise Unhashable(f"what is used of the module {value.__name__} is not known where it is passed on")
            return ["name", "", value.__name__]
        if isinstance(value, types.BuiltinFunctionType):
            bound = value.__self__
            bound = None if bound is None or isinstance(bound, types.ModuleType) else self.form(bound)
            return ["name", value.__module__ or "", value.__qualname__, bound]
        if isinstance(value, _DESCRIPTORS):
            return ["name", _name(value.__objclass__), value.__name__]
        if isinstance(value, type):
            if not is_library_class(value) and "pydantic_settings" in {_top(base) for base in value.__mro__}:
                raise Unhashable(f"{_name(value)} reads the environment when one is made: make it in the module")
            return self._once(value, self._class)
        if isinstance(value, contextvars.ContextVar):
            return ["context", value.name, self.form(value.get(None))]
        if hasattr(value, "__wrapped__") and type(value).__module__ == "functools":
            return ["wrapped", self.form(value.__wrapped__)]
        if type(value).__module__ == "typing" or type(value).__name__ == "_tuplegetter":
            return ["value", type(value).__name__, repr(value)]
        return self._object(value)

    def _once(self, value: Any, make: Callable[[Any], Any]) -> Any:
        """The digest of the form of a function or a class, which many may refer to."""
        if id(value) not in self._known:
            text = json.dumps(make(value), separators=(",", ":"))
            # The value is kept, lest another one be given its id.
            self._known[id(value)] = (value, hashlib.sha256(text.encode()).hexdigest())
        return ["code", _name(value), self._known[id(value)][1]]

    # Functions.

    def _function(self, function: types.FunctionType) -> Any:
        module = function.__module__ or ""
        if module.startswith("crawl4ai.") and "<" not in function.__qualname__:
            return ["function", _name(function)]
        # Code run by `exec` may claim to be from `builtins`.
        if module.partition(".")[0] != "builtins" and self._is_library(module):
            return ["function", _name(function)]
        cells = [cell.cell_contents if _filled(cell) else None for cell in function.__closure__ or ()]
        attributes = {name: item for name, item in vars(function).items() if name != "__wrapped__"}
        parts = (function.__defaults__, function.__kwdefaults__, attributes or None, cells)
        return [
            "function",
            _name(function),
            code.digest(function.__code__),
            *(self.form(part) for part in parts),
            self._reads(function),
        ]

    def _reads(self, function: types.FunctionType) -> Any:
        """What a function reads that is not its own: values of its module, of other modules, of the environment."""
        read = code.reads(function.__code__)
        found: list[Any] = []
        for name in read.globals:
            if name in function.__globals__:
                value = function.__globals__[name]
                if name in read.written and (value is None or isinstance(value, (bool, int, float))):
                    # What code counts or remembers is no option.
                    continue
                found.append([name, self._read(function, name, value, read.members.get(name, frozenset()))])
        for name, level in read.imports:
            module = self._imported(function, name, level)
            if module is not None:
                found.append([name, self._module(function, module, read.attributes)])
        try:
            found.extend(["environment", name, value] for name, value in code.environment(function))
            code.refuse_outside(function)
        except code.Unknowable as error:
            raise Unhashable(f"{_name(function)} {error}") from None
        return found

    def _read(self, function: types.FunctionType, name: str, value: Any, members: frozenset[str]) -> Any:
        if code.is_environment(value):
            return ["environment"]
        if isinstance(value, types.ModuleType):
            return self._module(function, value, members)
        try:
            return self.form(value)
        except Unhashable as error:
            raise Unhashable(f"{_name(function)} reads {name}: {error}") from None

    def _module(self, function: types.FunctionType, module: types.ModuleType, members: frozenset[str]) -> Any:
        """What code takes out of a module: of a library only its data, of the caller's own all of it."""
        known = vars(module)
        if self._is_library(module.__name__):
            data = [[name, self.form(known[name])] for name in sorted(members & known.keys()) if _is_data(known[name])]
            return [module.__name__, data]
        found: list[Any] = [module.__name__]
        for name in code.reads(function.__code__).of_module(known):
            value = known[name]
            if not isinstance(value, types.ModuleType):
                found.append([name, self._read(function, f"{module.__name__}.{name}", value, frozenset())])
            elif id(value) not in self._path and not self._is_library(value.__name__):
                self._path.append(id(value))
                try:
                    found.append(self._module(function, value, frozenset()))
                finally:
                    self._path.pop()
        return found

    def _imported(self, function: types.FunctionType, name: str, level: int) -> Any:
        """A module that a function imports when it is called."""
        if level:
            package = (function.__globals__.get("__package__") or "").rsplit(".", level - 1)[0]
            name = f"{package}.{name}" if name else package
        if name not in sys.modules and not self._is_library(name):
            # What it will say is not known before.
            raise Unhashable(f"{_name(function)} imports {name}, which is not imported yet")
        return sys.modules.get(name)

    def _is_library(self, module: str) -> bool:
        top = module.partition(".")[0]
        if not self._own and top not in LIBRARIES and top not in sys.stdlib_module_names:
            self._own.add(top)
        return top not in self._own and _is_installed(top)

    # Classes and objects.

    def _class(self, kind: type) -> Any:
        """A class by its name, and, if it is the caller's own, by its code and that of its own bases."""
        if is_library_class(kind) or self._is_library(kind.__module__):
            return ["class", _name(kind)]
        members = []
        for base in kind.__mro__:
            if is_library_class(base) or self._is_library(base.__module__):
                members.append([_name(base)])
                continue
            for name, member in sorted(vars(base).items()):
                if name in NOTES or name.startswith("__pydantic"):
                    continue
                if isinstance(member, (staticmethod, classmethod)):
                    member = member.__func__
                if isinstance(member, property):
                    member = [part for part in (member.fget, member.fset, member.fdel) if part]
                members.append([name, self.form(member)])
        return ["class", _name(kind), members]

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if _top(kind) in MACHINERY and not isinstance(value, threading.local):
            return ["machinery", _name(kind)]
        state = self._state(value)
        if _top(kind) == "crawl4ai":
            # Stemmers and models of Crawl4AI's own objects follow from their options; of others' we cannot know.
            options = _parameters(kind)  # type: ignore[arg-type]
            state = {name: item for name, item in state.items() if name in options or not _is_tool(item)}
        bases = [base for base in kind.__mro__ if _top(base) == "crawl4ai"]
        if bases:
            keys = {name for name in state if SECRETS.match(name)}
            left_out = TOOLS | (keys if kind in bases else keys & _set_by(bases))
            state = {name: item for name, item in state.items() if name not in left_out}
        made = [[name, self.form(state[name])] for name in sorted(state)]
        self._path.append(id(kind))
        try:
            return ["object", self._once(kind, self._class), made]
        finally:
            self._path.pop()

    def _state(self, value: Any) -> dict[str, Any]:
        kind = type(value)
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
            return {**state_of(value), **fields}
        state = state_of(value)
        if hasattr(kind, "model_fields"):
            for extra in ("__pydantic_extra__", "__pydantic_private__"):
                state.pop(extra, None)
                state.update(getattr(value, extra, None) or {})
            state.pop("__pydantic_fields_set__", None)
        if not state and not hasattr(value, "__dict__"):
            raise Unhashable(f"a {kind.__module__}.{kind.__qualname__} has no attributes to tell it by")
        return state


def _is_data(value: Any) -> bool:
    """Whether a value of a library is data rather than an object, a function or a module."""
    if isinstance(value, dict):
        return len(value) <= MOST_VALUES and all(_is_data(name) and _is_data(item) for name, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return len(value) <= MOST_VALUES and all(_is_data(item) for item in value)
    return value is None or isinstance(
        value, (bool, int, float, str, bytes, bytearray, enum.Enum, re.Pattern, pathlib.PurePath)
    )


def _filled(cell: Any) -> bool:
    """Whether a variable of a closure has a value by now."""
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def state_of(value: Any) -> dict[str, Any]:
    """The attributes of an object by their names, those in slots included."""
    state = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"} and hasattr(value, name):
                state[name] = getattr(value, name)
    return state


def _top(kind: type) -> str:
    """The package that a class is from."""
    return kind.__module__.partition(".")[0]


def _set_by(bases: list[type]) -> set[str]:
    """The names of the attributes that the constructors of these classes set, and others."""
    made_by = (vars(base).get("__init__") for base in bases)
    return {name for made in made_by if isinstance(made, types.FunctionType) for name in made.__code__.co_names}


@functools.lru_cache(maxsize=256)
def _parameters(kind: type) -> frozenset[str]:
    """The names of what an object is made with."""
    names: set[str] = set()
    for base in kind.__mro__:
        made_by = vars(base).get("__init__")
        if isinstance(made_by, types.FunctionType):
            made = made_by.__code__
            names.update(made.co_varnames[1 : made.co_argcount + made.co_kwonlyargcount])
    return frozenset(names)


def _is_tool(value: Any) -> bool:
    """Whether a value is an object of some other library or not made yet, rather than data or one of Crawl4AI's."""
    if value is None:
        return True
    return not isinstance(value, (type, types.FunctionType, types.MethodType)) and not is_library_class(type(value))
