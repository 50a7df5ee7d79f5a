"""Every setting as documentation: for `pennytrace settings` and docs/settings.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard, get_args

from pydantic import BaseModel, SecretStr

from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic.fields import FieldInfo

INTRODUCTION = """# Settings

`pennytrace serve` and the other commands read `pennytrace.toml` of the working directory (or `--config FILE`). A
setting `name` in the section `[part]` can also be given as the environment variable `PENNYTRACE_PART_NAME`; lists and
tables are JSON there, and a list of sections is one list (`PENNYTRACE_KEYS`). An argument beats the environment, which
beats the file, which beats the default. An unknown name in the file, or after a known `PENNYTRACE_PART_`, is an error.

This page is printed by `pennytrace settings --markdown`.

[security.md](security.md) has an example with keys, certificates and addresses that others can reach.

A self-hosted model is priced from what its replicas cost:

```toml
[[ledger.instances]]
service = "reasoner"
instance_type = "g5.xlarge"
instance_cost_per_hour_usd = 1.006
```
"""


@dataclass(frozen=True)
class SettingDoc:
    """One setting as documentation. A setting of a list's entries has no variable of its own."""

    section: str
    name: str
    variable: str
    default: str
    description: str


def describe_settings() -> list[SettingDoc]:
    """Every setting with its default and meaning, in the order of the sections."""
    return [
        setting
        for section, part in Settings.model_fields.items()
        for is_list, models in ((False, (part.annotation,)), (True, get_args(part.annotation)))
        for model in models
        if _is_model(model)
        for setting in _section(section, model, is_list=is_list)
    ]


def settings_page(settings: Sequence[SettingDoc]) -> str:
    """The text of docs/settings.md."""
    lines = [INTRODUCTION]
    for section in dict.fromkeys(setting.section for setting in settings):
        is_list = any(setting.section == section and not setting.variable for setting in settings)
        heading = f"[[{section}]]" if is_list else f"[{section}]"
        lines += [f"## {heading}", "", "| setting | environment | default | meaning |", "|---|---|---|---|"]
        lines += [_table_row(setting) for setting in settings if setting.section == section]
        lines.append("")
    return "\n".join(lines)


def _table_row(setting: SettingDoc) -> str:
    variable = f"`{setting.variable}`" if setting.variable else "-"
    description = setting.description.replace("|", "\\|")
    return f"| `{setting.name}` | {variable} | {setting.default} | {description} |"


def _section(section: str, model: type[BaseModel], *, is_list: bool = False) -> Iterator[SettingDoc]:
    variable = "" if is_list else f"PENNYTRACE_{section}_"
    entries: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        yield SettingDoc(
            section=section,
            name=name,
            variable=f"{variable}{name}".upper() if variable else "",
            default=_default(field),
            description=field.description or "",
        )
        entries += [(f"{section}.{name}", kind) for kind in get_args(field.annotation) if _is_model(kind)]
    for inner, kind in entries:
        yield from _section(inner, kind, is_list=True)


def _is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value or value == 0 else "empty"
