"""Configs: frozen dataclasses hold the defaults, YAML files override them, `key=value` overrides both."""

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast

from editkit.errors import EditkitError, first_sentence

if TYPE_CHECKING:
    from omegaconf import DictConfig

T = TypeVar("T")
REPHRASED = {
    "is not a ListConfig": "give a list, such as [a, b]",
    "incompatible container types": "a list stands where a mapping of keys to values is wanted",
    "type hint 'typing.Dict": "give a mapping of keys to values",
    "to Dict[": "give a mapping of keys to values",
}
"""Sentences in place of OmegaConf's messages, by a part of these."""


class Options(Protocol):
    """A frozen dataclass of options that `build` made, of a method or a training run."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        EditkitError: where the file is missing, is not YAML, or holds something other than a mapping.
    """
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        loaded = OmegaConf.load(path)
    except OSError as error:
        raise EditkitError(f"The config {path} cannot be read: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise EditkitError(f"The config {path} is not YAML ({_place(error)}).") from error
    if not isinstance(loaded, DictConfig):
        raise EditkitError(f"The config {path} must be a mapping of keys to values.")
    try:
        return cast(dict[str, Any], OmegaConf.to_container(loaded, resolve=True))
    except OmegaConfBaseException as error:
        raise EditkitError(f"The config {path} does not resolve: {first_sentence(error)}.") from error


def _place(error: Exception) -> str:
    """What is wrong with YAML, and in which line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return str(error).splitlines()[0]
    return f"{problem} in line {mark.line + 1}"


def layered(path: str | Path, changes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Merge a YAML mapping with the YAML files among the changes; return it and the `key=value` changes.

    Raises:
        EditkitError: where `read_yaml` raises it.
    """
    from omegaconf import DictConfig, OmegaConf

    files = [change for change in changes if "=" not in change and change.endswith((".yaml", ".yml"))]
    merged = OmegaConf.merge(*(OmegaConf.create(read_yaml(each)) for each in (path, *files)))
    assert isinstance(merged, DictConfig)
    left = [change for change in changes if change not in files]
    return cast(dict[str, Any], OmegaConf.to_container(merged)), left


def build(cls: type[T], values: Mapping[str, Any], overrides: Sequence[str] = ()) -> T:
    """Make a config dataclass from its defaults, a mapping and `key=value` overrides, in that order.

    Raises:
        EditkitError: for an unknown key (naming the nearest known one) or a value of the wrong type or range.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    for override in overrides:
        if "=" not in override:
            raise EditkitError(f"The override {override!r} must have the form key=value.")
    schema = _schema(cast(Any, cls))  # mypy takes classes for unhashable
    try:
        merged = OmegaConf.merge(
            schema, OmegaConf.create(_plain(values)), OmegaConf.from_dotlist(list(overrides))
        )
        return cast(T, OmegaConf.to_object(merged))
    except ConfigKeyError as error:
        key = str(error.full_key or error.key)
        raise EditkitError(f"Unknown key {key!r} in the config{_nearest(key, _keys(schema))}.") from error
    except yaml.YAMLError as error:
        raise EditkitError(
            f"The overrides {' '.join(overrides)} are not YAML: {first_sentence(error)}."
        ) from error
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        place = getattr(error, "full_key", None)
        where = f" at {place}" if place else ""
        raise EditkitError(f"The config does not fit{where}: {_rephrased(first_sentence(error))}.") from error


def _rephrased(problem: str) -> str:
    """Put a message of OmegaConf into words without the names of its classes."""
    for theirs, said in REPHRASED.items():
        if theirs in problem:
            return said
    return problem


@cache
def _schema(cls: type[Any]) -> "DictConfig":
    """A class's fields, types and defaults. Most of a build is making them; merging copies them."""
    from omegaconf import DictConfig, OmegaConf

    schema = OmegaConf.structured(cls)
    assert isinstance(schema, DictConfig)
    return schema


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, at any depth."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value


def _keys(node: Any, prefix: str = "") -> list[str]:
    from omegaconf import DictConfig

    keys = []
    for key in node:
        keys.append(f"{prefix}{key}")
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            keys += _keys(child, f"{prefix}{key}.")
    return keys


def _nearest(key: str, keys: Sequence[str]) -> str:
    """Name the known key that was meant, or those that stand in the same place."""
    place, _, name = key.rpartition(".")
    beside = sorted(known for known in keys if known.rpartition(".")[0] == place)
    close = [known for known in keys if known.rpartition(".")[2] == name]
    # Without their place, which all names beside it share: it would make any two of them alike.
    names = {known.rpartition(".")[2]: known for known in beside}
    close += [names[each] for each in difflib.get_close_matches(name, names, n=1, cutoff=0.5)]
    close += [] if beside else difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}" if close else f"; known keys are {', '.join(beside)}"
