"""Config dataclasses as plain dictionaries for ``config.json``, and back with keys checked."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

Config = TypeVar("Config")


def config_to_dict(config: Any) -> dict[str, Any]:
    """Nested dictionaries and lists of numbers, strings and booleans; tuples become lists."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def config_from_dict(cls: type[Config], data: Mapping[str, Any]) -> Config:
    """Build ``cls`` from what :func:`config_to_dict` gave.

    Raises:
        ValueError: an unknown or a missing key, or a value that the config refuses.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(fields)):
        known = ", ".join(fields)
        raise ValueError(f"{cls.__name__} has no key {unknown[0]!r}; its keys are {known}")
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(data)):
        raise ValueError(f"{cls.__name__} needs the key {missing[0]!r}")
    return cls(**{key: _typed(hints[key], value, key=key) for key, value in data.items()})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return config_to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _typed(hint: Any, value: Any, *, key: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{hint.__name__} must be a mapping, not {value!r}")
        return config_from_dict(hint, value)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, list | tuple):
            raise ValueError(f"{key} must be a list, not {value!r}")
        return tuple(_typed(item, entry, key=key) for entry in value)
    accepted = {int: int, float: int | float, bool: bool, str: str}.get(hint, object)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint in (int, float)):
        raise ValueError(f"{key} must be of type {hint.__name__}, not {value!r}")
    return value
