"""Lets one SELECT over Pennytrace's own tables through, and nothing else.

The engine does the parsing, so that there is no second opinion on what a statement means. A reader's text
first goes in as a string value, which cannot run; it comes back in the engine's own spelling, without
comments and as exactly one statement. Only that spelling is explained, checked and run:

1. it is a SELECT, also when put in parentheses (so no INTO OUTFILE, no FORMAT, no SETTINGS after it);
2. every node of its syntax tree, every function and every table in it is on a list (allowed.py);
3. every table that the engine resolved a name to is on the list: names that look like columns or like
   common table expressions are no way round.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.sql_endpoint import allowed
from storage.sql_endpoint.refusal import (
    ACCESS_DENIED,
    READONLY,
    SYNTAX_ERROR,
    UNKNOWN_FORMAT,
    EngineError,
    RefusedError,
)
from storage.store import DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from storage.sql_endpoint.reader import Reader

_FORMAT_AT_END = re.compile(r"(.+) FORMAT `?(\w+)`?", re.DOTALL)
_IDENTIFIER_PARAMETER = re.compile(r"\{\s*\w+\s*:\s*Identifier\s*\}")
_NODE = re.compile(r"\s*([\w:]+)(?: (.*))?")
_RESOLVED = re.compile(r"\b(?:TABLE|TABLE_FUNCTION) id: .*?\b(table_name|table_function_name): ([^\s,]+)")
# One row each, whatever the limit on rows.
_FUNCTIONS = """
SELECT arrayStringConcat(groupArray(
  concat(lower(name), '\t', lower(alias_to), '\t', categories, '\t', toString(is_aggregate))), '\n')
FROM system.functions
WHERE origin = 'System'
"""
_TABLE_FUNCTIONS = "SELECT arrayStringConcat(groupArray(lower(name)), '\n') FROM system.table_functions"
# Where SELECT without FROM reads from.
_NOTHING = "system.one"


@dataclass(frozen=True)
class Statement:
    """A statement that passed: its text in the engine's spelling, without FORMAT, and the format."""

    sql: str
    output_format: str


class Guard:
    """Checks statements against the lists; asks the engine once which functions it has."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._functions: frozenset[str] | None = None

    def check(self, text: str, format_default: str, parameters: Mapping[str, str]) -> Statement:
        """The statement to run; raises RefusedError or, for what the engine cannot read, EngineError."""
        spelled = self._spelled(text)
        if not re.match(r"SELECT |WITH |\(", spelled):
            first = spelled.split(" ", 1)[0]
            raise RefusedError(READONLY, f"expected one SELECT, got {first}: this endpoint only reads")
        if _IDENTIFIER_PARAMETER.search(spelled):
            raise RefusedError(ACCESS_DENIED, "parameters of type Identifier are not allowed on this endpoint")
        found = _FORMAT_AT_END.fullmatch(spelled)
        sql, wanted = (found[1], found[2]) if found else (spelled, format_default)
        if wanted not in allowed.FORMATS:
            known = ", ".join(sorted(allowed.FORMATS))
            raise RefusedError(UNKNOWN_FORMAT, f"expected a format of {known}, got {wanted}")
        if sql not in allowed.HANDSHAKES:
            self._require_plain_select(sql)
            self._require_known_parts(sql, parameters)
            self._require_own_tables(sql, parameters)
        return Statement(sql, wanted)

    def _spelled(self, text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        question = "SELECT formatQuerySingleLine({statement:String})"
        return self._reader.text(question, {"statement": escaped}).removesuffix("\n")

    def _require_plain_select(self, sql: str) -> None:
        try:
            self._spelled(f"SELECT * FROM ({sql})")  # noqa: S608 - spelled out, never run
        except EngineError:
            raise RefusedError(
                ACCESS_DENIED, "expected a SELECT without INTO OUTFILE, and FORMAT only at its end; SETTINGS before it"
            ) from None

    def _require_known_parts(self, sql: str, parameters: Mapping[str, str]) -> None:
        for node, name in _nodes(self._reader.text(f"EXPLAIN AST {sql}", parameters)):
            if node not in allowed.NODES:
                raise RefusedError(ACCESS_DENIED, f"{_said(node)} is not allowed on this endpoint")
            if node == "Function" and not self._is_known_function(name):
                raise RefusedError(ACCESS_DENIED, f"function {name} is not allowed on this endpoint")
            if node == "TableIdentifier" and not self._is_readable(name):
                raise RefusedError(ACCESS_DENIED, f"table {name} is not allowed on this endpoint: {_readable()}")

    def _is_known_function(self, name: str) -> bool:
        if self._functions is None:
            self._functions = _function_names(self._reader)
        return _without_combinators(name, self._functions)

    def _is_readable(self, name: str) -> bool:
        if "." in name:
            return _is_own(name)
        # A bare name that is no table is a common table expression, or an error that the engine explains.
        return name in allowed.TABLES or name not in self._reader.text(f"SHOW TABLES FROM {DATABASE}").splitlines()

    def _require_own_tables(self, sql: str, parameters: Mapping[str, str]) -> None:
        for kind, name in _RESOLVED.findall(self._reader.text(f"EXPLAIN QUERY TREE {sql}", parameters)):
            if kind != "table_name" or not (name == _NOTHING or _is_own(name)):
                raise RefusedError(ACCESS_DENIED, f"table {name} is not allowed on this endpoint: {_readable()}")


def _nodes(tree: str) -> Iterator[tuple[str, str]]:
    for line in tree.splitlines():
        found = _NODE.match(line)
        if found is None:
            raise RefusedError(SYNTAX_ERROR, f"expected a syntax tree, got {line!r}: please report this statement")
        name = re.sub(r" \((?:alias .*|children \d+)\)$", "", re.sub(r" \(children \d+\)$", "", found[2] or ""))
        yield found[1], name


def _function_names(reader: Reader) -> frozenset[str]:
    rows = [line.split("\t") for line in reader.text(_FUNCTIONS).splitlines()]
    names = {
        name
        for name, _, category, is_aggregate in rows
        if category in allowed.FUNCTION_CATEGORIES or is_aggregate == "1"
    }
    names |= {name.lower() for name in allowed.FUNCTIONS}
    names -= allowed.FUNCTIONS_REFUSED
    aliases = {name for name, target, _, _ in rows if target in names}
    tabular = reader.text(_TABLE_FUNCTIONS).splitlines()
    return frozenset((names | aliases) - set(tabular))


def _without_combinators(name: str, known: frozenset[str]) -> bool:
    if name.lower() in known:
        return True
    shorter = (name.removesuffix(each) for each in allowed.COMBINATORS if name.endswith(each))
    return any(_without_combinators(each, known) for each in shorter)


def _is_own(name: str) -> bool:
    database, _, table = name.partition(".")
    return database == DATABASE and table in allowed.TABLES


def _readable() -> str:
    return f"read {', '.join(sorted(allowed.TABLES))}"


def _said(node: str) -> str:
    return {"Set": "SETTINGS", "ColumnsApplyTransformer": "APPLY", "Explain": "EXPLAIN"}.get(node, node)
