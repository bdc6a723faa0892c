"""pydantic's errors in our words: the key as it stands in the file, the rule, the value, the remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streams.settings.deployment import ENV_PREFIX, Deployment
from streams.settings.problems import Problem, RefusedError, nearest, shown
from streams.settings.webhook import WEBHOOK_PREFIX, Webhook

Loc = Sequence[int | str]

_VARIABLES = {"deployment": ENV_PREFIX, "webhook": WEBHOOK_PREFIX}
"""Tables whose keys may come from the environment, and how their variables begin."""


def translate(error: ValidationError, *, file: str, table: str, model: type[BaseModel]) -> Iterator[Problem]:
    """Every error of one table."""
    for detail in error.errors():
        yield _problem(detail, file, table, model)


def _problem(detail: ErrorDetails, file: str, table: str, model: type[BaseModel]) -> Problem:
    loc = [part for part in detail["loc"] if part != "[key]"]
    where = _where(file, table, loc)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, RefusedError):
        value = "" if cause.private or isinstance(detail["input"], dict | BaseModel) else shown(detail["input"])
        return Problem(where, cause.rule, value, cause.remedy)
    if detail["type"] == "extra_forbidden":
        keys = _keys(_model_at(model, loc[:-1]) or model)
        return Problem(where, "is not a known key", "", nearest(str(loc[-1]), keys))
    description = _description(model, loc)
    if detail["type"] == "missing":
        return Problem(where, "is missing", "", f"Add it. {description}".strip())
    if detail["type"] == "too_short":
        return Problem(where, "must not be empty", "", description)
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return Problem(where, message.removeprefix("input ").removeprefix("value error, "), shown(detail["input"]), description)


def _where(file: str, table: str, loc: Loc) -> str:
    """`city.toml: city.rules[2].for`, or the environment's variable if the value came from there."""
    variable = _VARIABLES.get(table, "") + str(loc[0]).upper() if loc else ""
    if table in _VARIABLES and variable in os.environ:
        return f"environment: {variable}"
    path = table
    for part in loc:
        path += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return f"{file}: {path}"


def _keys(model: type[BaseModel]) -> list[str]:
    secrets = getattr(model, "secrets", ())
    return [field.alias or name for name, field in model.model_fields.items() if name not in secrets]


def _field(model: type[BaseModel], key: str) -> Any:
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return field
    return None


def _model_at(model: type[BaseModel] | None, loc: Loc) -> type[BaseModel] | None:
    """The model of the table that a path leads to."""
    for part in loc:
        if model is None or isinstance(part, int):
            continue
        field = _field(model, part)
        model = next(_models_in(field.annotation), None) if field else None
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _description(model: type[BaseModel], loc: Loc) -> str:
    names = [part for part in loc if isinstance(part, str)]
    for depth in range(len(names), 0, -1):
        owner = _model_at(model, names[: depth - 1])
        field = _field(owner, names[depth - 1]) if owner else None
        if field is not None:
            return str(field.description or "")
    return ""


def environment_typos() -> Iterator[Problem]:
    """Variables that look like a setting and are none.

    Others that begin like ours are let be: Kubernetes makes URBAN_BRAIN_SERVICE_HOST and the like of a service's name.
    """
    known = [key.upper() for key in Deployment.model_fields] + ["CONFIG"]
    known += [f"{WEBHOOK_PREFIX.removeprefix(ENV_PREFIX)}{key.upper()}" for key in Webhook.model_fields]
    for variable in sorted(os.environ):
        key = variable.removeprefix(ENV_PREFIX)
        close = get_close_matches(key, known, n=1, cutoff=0.8)
        if variable.startswith(ENV_PREFIX) and close and key not in known:
            yield Problem(f"environment: {variable}", "is not a known setting", "", f"Did you mean {ENV_PREFIX}{close[0]}?")
