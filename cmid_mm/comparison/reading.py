# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From a YAML file to a comparison, or to all faults of its form at once."""

import re
import reprlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .form import Section, SpecError, refuse, unknown
from .spec import (
    DenseOptions,
    DenseTask,
    FeatureOptions,
    FeatureTask,
    Method,
    Pretraining,
    Published,
    Spec,
    TrainedTask,
)


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, and a key that is given twice a fault."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """A mapping, before what it merges is part of it."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f'key {key.value!r} is given twice',
                    problem_mark=key.start_mark,
                )
            seen.add(str(key.value))
        return node


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float',
    re.compile(r'[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$'),
    list('-+.0123456789'),
)


def read_spec(path: str | Path, output: str | Path | None = None) -> Spec:
    """Read the description of a comparison and check its form.

    Args:
        path: A YAML file with the fields of :class:`Spec`.
        output: Folder instead of the file's ``output``. Defaults to None.

    Returns:
        Spec: The comparison. :func:`check_spec` looks at what it refers to.

    Raises:
        FileNotFoundError: If the file does not exist.
        SpecError: If it is no YAML, or keys are missing, unknown, or of the wrong
            kind; names all of them.
    """
    try:
        content = yaml.load(Path(path).read_bytes(), _Loader)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'comparison {path} does not exist') from error
    except OSError as error:
        raise SpecError(
            f'comparison {path} cannot be read: {error.strerror}; expected a YAML file'
        ) from error
    except yaml.YAMLError as error:
        text = ' '.join(str(error).split())
        raise SpecError(f'{path} cannot be read as YAML: {text}') from error
    try:
        spec = Spec.model_validate(content)
    except ValidationError as error:
        refuse(path, map(_fault, error.errors(include_url=False)))
        raise
    if output is None:
        return spec
    return spec.model_copy(update={'output': Path(output)})


def _fault(error: Any) -> str:
    """What pydantic found, by the key in the file."""
    place: tuple[Any, ...] = error['loc']
    # Which kind of task was meant, and whether a key or its value, are no keys.
    names = [str(name) for name in place if str(name)[:1] not in ('<', '[')]
    where = '.'.join(names) or 'the file'
    if error['type'] == 'extra_forbidden':
        hint = unknown(names[-1], _section_of(place).model_fields)
        return f'{where}: is no key here; {hint}'
    if error['type'] == 'missing':
        return f'{where}: is missing'
    message = error['msg'].replace('Input should be', 'must be')
    if error['type'] == 'value_error':
        return f'{where}: {message.removeprefix("Value error, ")}'
    message = message.replace('valid dictionary', 'mapping')
    message = re.sub(r' or instance of \w+', '', message)
    return f'{where}: {message}, got {reprlib.repr(error["input"])}'


def _section_of(place: tuple[Any, ...]) -> type[Section]:
    """The part of the file that an unknown key stands in."""
    if '<features>' in place:
        return FeatureOptions if 'options' in place[:-1] else FeatureTask
    if '<dense>' in place:
        return DenseOptions if 'options' in place[:-1] else DenseTask
    if '<trained>' in place:
        return TrainedTask
    sections: dict[Any, type[Section]] = {
        'methods': Method,
        'pretraining': Pretraining,
        'published': Published,
    }
    return sections.get(place[0], Spec) if len(place) > 1 else Spec
