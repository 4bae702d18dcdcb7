# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Building parts of configs: wrong settings are refused by their names."""

import difflib
import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter
from pydantic import ValidationError as PydanticError

#: Modules whose classes are known to mean the types that they declare.
_CHECKED = (f'{__package__}.', 'mmengine.hooks.')


class WrongSettingError(TypeError, ValueError):
    """A setting is of another type or range than its class takes."""


class BuildStep(NamedTuple):
    """A part of a config that is built.

    Attributes:
        registry: The registry it is built from.
        cfg: Its config.
    """

    registry: Registry
    cfg: Any

    @property
    def type(self) -> Any:
        """The class that the config names; None if it names no known one."""
        kind = self.cfg.get('type')
        if not isinstance(kind, str):
            return kind
        scope = self.cfg.get('_scope_')
        with self.registry.switch_scope_and_registry(scope) as registry:
            return registry.get(kind)


_original_build = Registry.build


# Every part of a config, whoever asks for it, is built by this method. It is wrapped,
# so that wrong settings are refused before anything runs, and so that the traceback of
# an error says which part of the config was being built.
def _build(self: Registry, cfg: Any, *args: Any, **kwargs: Any) -> Any:
    step = BuildStep(self, cfg)
    if isinstance(cfg, dict):
        _check_types(step)
    return _original_build(step.registry, step.cfg, *args, **kwargs)


_build.__doc__ = _original_build.__doc__
Registry.build = _build


def build_steps(error: BaseException) -> list[BuildStep]:
    """What was being built when an error came up, from the outside inwards.

    Args:
        error: As it was caught.
    """
    steps = []
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code is _build.__code__:
            steps.append(traceback.tb_frame.f_locals['step'])
        traceback = traceback.tb_next
    return steps


def _check_types(step: BuildStep) -> None:
    """Refuse settings of other types than the signatures of known classes say."""
    kind = step.cfg.get('type')
    # Finding the type in its scope warns of scopes that a registry lacks.
    if isinstance(kind, str) and not setting_types(step.registry.get(kind)):
        return
    types = setting_types(step.type)
    if inspect.isclass(step.type) and issubclass(step.type, CheckpointHook):
        # It hands others on at the first save, to a function that takes no more.
        for name in step.cfg.keys() - {*accepted_names(step.type), 'type', '_scope_'}:
            raise TypeError(f'got an unexpected keyword argument {name!r}')
    for name, value in step.cfg.items():
        if name in types and not has_type(value, types[name]):
            raise WrongSettingError(wrong_setting(name, value, types[name]))


@functools.cache
def setting_types(cls: Any) -> Mapping[str, Any]:
    """Types of the settings that our classes and the hooks of mmengine declare.

    Args:
        cls: Any class. Of others than these and those derived from them nothing is
            known.

    Returns:
        Types by name.
    """
    types: dict[str, Any] = {}
    for owner in reversed(cls.__mro__ if inspect.isclass(cls) else ()):
        init = vars(owner).get('__init__')
        if init and owner.__module__.startswith(_CHECKED):
            hints = get_type_hints(init, include_extras=True)
            types |= {
                name: hints[name] for name in named_parameters(init) if name in hints
            }
    return types


def is_known(cls: Any) -> bool:
    """Whether a class is one of ours or of mmengine's hooks, or is derived from one."""
    owners = cls.__mro__ if inspect.isclass(cls) else ()
    return any(owner.__module__.startswith(_CHECKED) for owner in owners)


def named_parameters(function: Any) -> list[str]:
    """Names of the parameters that a function takes by name."""
    parameters = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in named and p.name != 'self']


def accepted_names(kind: Any) -> list[str]:
    """Names of the arguments of a type, those that it hands to its bases included."""
    functions = [kind] if callable(kind) else []
    if inspect.isclass(kind):
        owners = [cls for cls in kind.__mro__ if '__init__' in vars(cls)]
        functions = [vars(cls)['__init__'] for cls in owners if cls is not object]
    names: list[str] = []
    for function in functions:
        names += named_parameters(function)
        if not inspect.getfullargspec(function).varkw:
            break
    return [*dict.fromkeys(names)]


def takes_any_name(kind: Any) -> bool:
    """Whether a type takes arguments that none of its bases names."""
    for cls in kind.__mro__ if inspect.isclass(kind) else ():
        init = vars(cls).get('__init__')
        if init and not inspect.getfullargspec(init).varkw:
            return False
    return True


def nearest_name(name: str, known: Sequence[str]) -> str:
    """What an error adds about a name that is not known: the one that is meant.

    Args:
        name: As it is written; of a type, perhaps with its package.
        known: Names that there are.
    """
    close = difflib.get_close_matches(name.rpartition('.')[2], known, 1)
    if close:
        return f'; did you mean {close[0]!r}?'
    return f'; known are {", ".join(known)}' if 0 < len(known) <= 20 else ''


@functools.cache
def _adapter(expected: Any) -> TypeAdapter | None:
    config = ConfigDict(arbitrary_types_allowed=True, strict=True, allow_inf_nan=False)
    try:
        return TypeAdapter(expected, config=config)
    except PydanticSchemaGenerationError:
        return None


def has_type(value: Any, expected: Any) -> bool:
    """Whether a value is of a type, taken strictly: 1.0 is no int, 1 no bool.

    A list is as good as a tuple, which YAML, JSON and command lines do not have.

    Args:
        value: Any.
        expected: A type, perhaps with a range as those of :mod:`cmid_mm.ranges`. No
            range holds a number that is not finite.
    """
    adapter = _adapter(expected)
    return adapter is None or any(
        _validates(adapter, form) for form in (value, _with_tuples(value))
    )


def _validates(adapter: TypeAdapter, value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except PydanticError:
        return False
    return True


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def wrong_setting(name: str, value: Any, expected: Any) -> str:
    """What an error says of a setting that is not of its type or outside its range.

    Args:
        name: Its name or path.
        value: What was found.
        expected: Its type.
    """
    words = describe(expected)
    if words is not None:
        return f'{name}={value!r}: expected {words}'
    # Names without their modules.
    text = re.sub(r'\w+\.', '', inspect.formatannotation(expected))
    return f'{name}={value!r} is of type {type(value).__name__}, expected {text}'


def describe(expected: Any) -> str | None:
    """A range in words; None if the type has none.

    Args:
        expected: A type, or several with ``|``.
    """
    parts = get_args(expected)
    if get_origin(expected) is Annotated:
        return next(part for part in parts if isinstance(part, str))
    found = [words for part in parts if (words := describe(part))]
    if not found:
        return None
    if type(None) in parts:
        return f'{found[0]}, or None'
    return f'{found[0]}, for each of the {"two" if len(found) > 1 else "items"}'
