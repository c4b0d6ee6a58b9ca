"""Document: YAML that remembers its lines, so that an error can name file, line and key."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devices.errors import InventoryError

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain data, and the line (from 1) of every key and list item by its path, such as ("devices", "pi5", "host")."""

    path: Path
    data: Any
    lines: dict[Where, int] = field(default_factory=dict)

    def complaint(self, where: Where, problem: str) -> str:
        """`inventory.yaml:12: devices.pi5.host: problem`; a key that is missing has the line of what lacks it."""
        line = next((self.lines[where[:end]] for end in range(len(where), 0, -1) if where[:end] in self.lines), 1)
        key = ".".join(map(str, where))
        return f"{self.path}:{line}: {key}: {problem}" if key else f"{self.path}:{line}: {problem}"


def read_document(path: Path) -> Document:
    """Raises InventoryError for a file that is missing, not YAML, or says one thing twice."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InventoryError(f"{path}: longer than {MAX_BYTES} bytes; is it an inventory?")
        loader = yaml.SafeLoader(raw.decode())
    except FileNotFoundError as error:
        raise InventoryError(
            f"{path} does not exist; expected a file that lists devices, see devices/README.md"
        ) from error
    except OSError as error:
        raise InventoryError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InventoryError(f"{path}: expected UTF-8 text without control characters") from error
    try:
        return _compose(path, loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InventoryError(f"{path}:{line}: this is not YAML: {error.problem or error.context}") from error
    except ValueError as error:  # such as the date 2024-13-45
        raise InventoryError(f"{path}: {error}; put the value in quotes if it is text") from error
    finally:
        loader.dispose()


def _compose(path: Path, loader: yaml.SafeLoader) -> Document:
    document = Document(path, None)
    node = loader.get_single_node()
    data = None if node is None else _construct(document, loader, node, ())
    return Document(path, data, document.lines)


def _construct(document: Document, loader: yaml.SafeLoader, node: yaml.Node, where: Where) -> Any:
    document.lines.setdefault(where, node.start_mark.line + 1)
    if len(where) > MAX_DEPTH:
        raise InventoryError(document.complaint(where[:1], f"nested more than {MAX_DEPTH} deep"))
    if isinstance(node, yaml.MappingNode):
        return _mapping(document, loader, node, where)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(document, loader, item, (*where, index)) for index, item in enumerate(node.value)]
    return loader.construct_object(node)


def _mapping(document: Document, loader: yaml.SafeLoader, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        line = key_node.start_mark.line + 1
        if key_node.tag != "tag:yaml.org,2002:str":
            shown = key if isinstance(key, str) else "a list or mapping"
            raise InventoryError(f"{document.path}:{line}: expected a name as key, found {shown!r}; put it in quotes")
        if key in data:
            first = document.lines[(*where, key)]
            raise InventoryError(f"{document.path}:{line}: {key!r} is given twice, first in line {first}")
        document.lines[(*where, key)] = line
        data[key] = _construct(document, loader, value_node, (*where, key))
    return data
