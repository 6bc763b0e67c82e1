"""One word of a group in the text of a YAML file: put in, replaced, taken out; whatever is around it stays. Pure.

Nodes are those of the text; what a function returns is the new text, of which they know nothing.
"""

import re

import yaml

from gateway.config.flow import scalar


def put(text: str, group: yaml.MappingNode, word: str, value: str) -> str:
    """`text` where `word` of the group is `value`, in YAML of one line. group: in braces, or with at least one word of its own."""
    found = pair(group, word)
    if found is not None:
        return replaced(text, *found, value)
    if group.flow_style:
        at = end_of(group.value[-1][1]) if group.value else group.start_mark.index + 1
        name = f'"{word}"' if group.value and group.value[0][0].style == '"' else scalar(word)  # a file may be JSON
        return f"{text[:at]}{', ' if group.value else ''}{name}: {value}{text[at:]}"
    at = line_end(text, end_of(group))
    return lines_in(text, at, f"{' ' * group.value[0][0].start_mark.column}{scalar(word)}: {value}")


def take_out(text: str, group: yaml.MappingNode, word: str) -> str:
    """`text` without a word of the group, which has it. A group that has no other becomes `{}`."""
    number = next(number for number, (key, _) in enumerate(group.value) if key.value == word)
    key, value = group.value[number]
    if group.flow_style:
        if number + 1 < len(group.value):
            return text[: key.start_mark.index] + text[group.value[number + 1][0].start_mark.index :]
        if number == 0:  # a comma may follow
            return text[: key.start_mark.index] + text[group.end_mark.index - 1 :]
        return text[: end_of(group.value[number - 1][1])] + text[end_of(value) :]
    if len(group.value) == 1:
        stop = _end_of_pair(key, value)
        return f"{text[: key.start_mark.index]}{{}}{_ending(text, stop)}{text[stop:]}"
    if number == 0 and text[text.rfind("\n", 0, key.start_mark.index) + 1 : key.start_mark.index].strip():  # after the dash of a list
        return text[: key.start_mark.index] + text[group.value[1][0].start_mark.index :]
    begin = text.rfind("\n", 0, key.start_mark.index) + 1
    return text[:begin] + text[min(len(text), line_end(text, _end_of_pair(key, value)) + 1) :]


def pair(group: yaml.MappingNode, word: str) -> tuple[yaml.Node, yaml.Node] | None:
    """A word of a group and what it says."""
    return next(((key, value) for key, value in group.value if key.value == word), None)


def replaced(text: str, key: yaml.Node, value: yaml.Node, new: str) -> str:
    """`text` with another value after a key."""
    start, stop = value.start_mark.index, end_of(value)
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    new += _ending(text, stop)
    if start == stop or block:
        start, stop = key.end_mark.index + 1, max(stop, key.end_mark.index + 1)
        new = " " + new
    return text[:start] + new + text[stop:]


def _ending(text: str, stop: int) -> str:
    """What ends the line where a text up to `stop` is left out: a block of text (`|`, `>`), also as the last of a group, has its own."""
    return newline_of(text) if text[:stop].endswith("\n") else ""


def newline_of(text: str) -> str:
    """How a file ends its lines."""
    return "\r\n" if "\r\n" in text else "\n"


def end_of(node: yaml.Node) -> int:
    """Where a node's own text ends, comments and blank lines after it left out."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end_of_pair(*node.value[-1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return end_of(node.value[-1])
    return node.end_mark.index


def _end_of_pair(key: yaml.Node, value: yaml.Node) -> int:
    colon: int = key.end_mark.index + 1
    return max(end_of(value), colon)


def line_end(text: str, index: int) -> int:
    """Where the line that holds the character before `index` ends (the newline's place)."""
    found = text.find("\n", max(0, index - 1))
    return len(text) if found < 0 else found


def after_comments(text: str, at: int) -> int:
    """The end of the last of the indented comment lines that follow."""
    while comment := re.compile(r"\n[ ]+#[^\n]*").match(text, at):
        at = comment.end()
    return at


def lines_in(text: str, at: int, lines: str) -> str:
    """`lines` put in after the line that ends at `at`, in the file's way of ending lines."""
    newline = newline_of(text)
    front = text[:at].removesuffix("\r")
    back = text[at:].removeprefix("\n")
    return f"{front}{newline if front else ''}{lines.replace(chr(10), newline)}{newline}{back}"
