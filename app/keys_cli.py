"""`pennytrace keys`: make API keys, and list those of the settings."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from app import tables
from app.errors import CommandError

# typer resolves the annotations.
from app.options import AsJson, Config  # noqa: TC001
from app.settings import load_settings
from collector.keys import Key, Scope, digest, new_secret

keys_cli = typer.Typer(help="API keys: made here, kept in pennytrace.toml as hashes.", no_args_is_help=True)

SHOWN_ONCE = "The key is shown only this once. Append to pennytrace.toml, then restart the server:"

out = Console(markup=False, highlight=False)


@keys_cli.command("new")
def keys_new(
    name: Annotated[str, typer.Option(help="What people call it, such as the service that will send with it.")],
    tenant: Annotated[str, typer.Option(help="Tenant of the rows that it writes; only for --scope write.")] = "",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="write (OTLP), read (page, API, SQL, metrics) or admin (POSTs); repeat.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a key: print it, this once, and what goes into pennytrace.toml."""
    secret = new_secret()
    try:
        key = Key(name=name, sha256=digest(secret), tenant=tenant, scopes=tuple(dict.fromkeys(scope or [Scope.WRITE])))
    except ValidationError as error:
        raise CommandError("; ".join(problem["msg"] for problem in error.errors())) from error
    if as_json:
        sys.stdout.write(json.dumps({"key": secret, **key.model_dump(mode="json")}, indent=2) + "\n")
        return
    sys.stdout.write(f"{secret}\n\n{SHOWN_ONCE}\n\n{stanza(key)}")


@keys_cli.command("list")
def keys_list(
    config: Config = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the keys of the settings by name, without their hashes."""
    keys = [key.model_dump(mode="json", exclude={"sha256"}) for key in load_settings(config).keys]
    if as_json:
        sys.stdout.write(json.dumps(keys, indent=2) + "\n")
    elif keys:
        out.print(tables.keys_table(keys))
    else:
        out.print("no keys: whoever reaches the ports may read and write; make one with 'pennytrace keys new'")


def stanza(key: Key) -> str:
    """The key as TOML."""
    return "[[keys]]\n" + "".join(
        f"{name} = {_toml(value)}\n" for name, value in key.model_dump(mode="json").items() if value
    )


def _toml(value: object) -> str:
    """JSON's strings and lists are TOML's, but for pairs of surrogates and the control character that JSON leaves."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
