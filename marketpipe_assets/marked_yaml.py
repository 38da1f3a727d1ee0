"""Read YAML as text, lists and mappings, and remember the line of each value. What keys mean is in config.py."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import JsonValue

VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|(?P<bare>\w+)|\{(?P<braced>\w+)\}|(?P<wrong>))")

PLAIN_TAGS = frozenset({"bool", "float", "int", "map", "merge", "null", "seq", "str", "timestamp", "value"})
"""What YAML takes an untagged value for. All of it is read as text."""

Place = tuple[str | int, ...]
"""Keys and list positions from the top of the document to a value."""


class ConfigError(ValueError):
    """A file cannot be used; each line of the message names file, line, key, what was expected and what it was."""


class Written(NamedTuple):
    """A value as the file has it, before any variable is expanded."""

    line: int
    text: str


class MarkedDocument(NamedTuple):
    """Every scalar of `document` is text, or None where the file has nothing, `~` or `null`."""

    path: Path
    document: JsonValue
    written: Mapping[Place, Written]

    def error(self, place: Place, message: str) -> ConfigError:
        """`marketpipe.yaml:7: markets.us_equities.calendar: …`, with the nearest line that is written."""
        return ConfigError(_told(self.path, self.written, place, message))

    def line(self, place: Place) -> str:
        """`marketpipe.yaml:7`, of the nearest line that is written."""
        return _where(self.path, self.written, place)

    def was(self, place: Place) -> str:
        if place not in self.written:
            return "missing"
        return repr(self.written[place].text) if self.written[place].text else "empty"


def read_marked(path: Path, variables: Mapping[str, str], spelled: Callable[[str, Place], str]) -> MarkedDocument:
    """The document of one file, with `$NAME` and `${NAME}` in values replaced from `variables`, `$$` by a dollar.

    `spelled` gives the name of a key from its text and the place of its mapping. Raises `ConfigError` for a file that
    cannot be read, a key that comes twice or is not text, a tag, an alias, and a variable that is not there.
    """
    try:
        node = _composed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a readable UTF-8 file: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: expected YAML: {error.problem}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigError(f"{path}: expected YAML: {' '.join(str(error).split())}") from error
    reader = _Reader(path, variables, spelled, {})
    return MarkedDocument(path, reader.value(node, ()) if node else {}, reader.written)


LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a tenth of the time; PyYAML may lack it


def _composed(text: str) -> yaml.Node | None:
    """The document without aliases, which can make a small file a huge one."""
    for event in yaml.parse(text, Loader=LOADER) if "*" in text else ():
        if isinstance(event, yaml.AliasEvent):
            refused = "aliases (*name) are refused, write the value out"
            raise yaml.MarkedYAMLError(problem=refused, problem_mark=event.start_mark)  # type: ignore[arg-type]
    node: yaml.Node | None = yaml.compose(text, Loader=LOADER)
    return node


class _Reader(NamedTuple):
    path: Path
    variables: Mapping[str, str]
    spelled: Callable[[str, Place], str]
    written: dict[Place, Written]

    def value(self, node: yaml.Node, place: Place) -> JsonValue:
        self.written.setdefault(place, Written(_line(node), _text(node)))
        if node.tag.removeprefix("tag:yaml.org,2002:") not in PLAIN_TAGS:
            raise self.error(place, f"expected no tag, was {node.tag}")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        return self.scalar(node, place)

    def mapping(self, node: yaml.MappingNode, place: Place) -> JsonValue:
        values: dict[str, JsonValue] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(place, f"expected keys of text, was {_text(key_node)} on line {_line(key_node)}")
            key = self.spelled(key_node.value, place)
            inner = (*place, key)
            if key in values:
                lines = f"{self.written[inner].line} and {_line(key_node)}"
                raise self.error(inner, f"expected each key once, was on lines {lines}")
            self.written[inner] = Written(_line(key_node), _text(value_node))
            values[key] = self.value(value_node, inner)
        return values

    def scalar(self, node: yaml.Node, place: Place) -> str | None:
        plain = isinstance(node, yaml.ScalarNode) and not node.style
        return None if plain and node.value in ("", "~", "null") else self.expanded(node.value, place)

    def expanded(self, text: str, place: Place) -> str:
        def replacement(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "$"
            name = match["bare"] or match["braced"]
            if name is None:
                raise self.error(place, f"expected $NAME, ${{NAME}} or $$, was {text!r}")
            if name not in self.variables:
                raise self.error(place, f"expected the environment variable {name} to be set, was missing")
            return self.variables[name]

        return VARIABLE.sub(replacement, text)

    def error(self, place: Place, message: str) -> ConfigError:
        return ConfigError(_told(self.path, self.written, place, message))


def _told(path: Path, written: Mapping[Place, Written], place: Place, message: str) -> str:
    key = ".".join(str(part) for part in place)
    where = _where(path, written, place)
    return f"{where}: {key}: {message}" if key else f"{where}: {message}"


def _where(path: Path, written: Mapping[Place, Written], place: Place) -> str:
    known = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in written), None)
    return f"{path}:{written[known].line if known else 1}"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _text(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
