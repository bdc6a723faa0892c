"""Alerts for people at a terminal. Everything that comes from a message becomes plain Text: never markup, no control codes."""

from __future__ import annotations

from typing import Any

from rich.text import Text

COLUMNS = ("time", "event", "severity", "city", "operator", "what", "where", "count", "excess", "why")
_STYLES = {"raised": "bold red", "updated": "yellow", "escalated": "bold magenta", "cleared": "green"}
_WIDTHS = (20, 9, 9, 12, 12, 12, 16, 10, 7, 0)


def cells(body: dict[str, Any]) -> list[Text]:
    """One row of a table."""
    rule, area = _table(body, "rule"), _table(body, "area")
    count, lost = "" if body.get("count") is None else f"{body['count']} of {rule.get('threshold')}", _table(body, "lost")
    if lost:
        count = f"{lost.get('after')} of {lost.get('before')}"
    where = plain(area.get("h3") or area.get("name")) + _others(area)
    why = "; ".join(filter(None, (plain(body.get("cleared_by")), _handling(body)))) or rule.get("name")
    state = plain(body.get("state"))
    texts = [
        plain(body.get("observed_at"))[:19].replace("T", " "),
        state,
        plain(body.get("severity")),
        plain(body.get("city")),
        plain(body.get("operator")) or "(all)",
        plain(body.get("kind")),
        plain(where),
        plain(count),
        plain(body.get("excess")),
        plain(why),
    ]
    return [Text(text, style=_STYLES.get(state, "") if place == 1 else "") for place, text in enumerate(texts)]


def line(body: dict[str, Any]) -> Text:
    """The same in one line of fixed columns."""
    result = Text()
    for cell, width in zip(cells(body), _WIDTHS, strict=True):
        result.append_text(cell)
        result.append(" " * max(1, width - len(cell.plain) + 1))
    result.rstrip()
    return result


def plain(value: object) -> str:
    """A value as printable text: a control code in a name must not reach the terminal."""
    if value is None:
        return ""
    text = str(value)
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)


def _others(area: dict[str, Any]) -> str:
    """How many more cells an incident has."""
    others = area.get("cells")
    return f" +{len(others) - 1}" if isinstance(others, list) and len(others) > 1 else ""


def _handling(body: dict[str, Any]) -> str:
    """What the operator answered, and why the alert has escalated; of an escalation that first."""
    said, response = [], _table(body, "response")
    if response:
        parts = (
            response.get("status"),
            response.get("eta") and f"until {plain(response['eta'])[:19]}Z",
            response.get("reason"),
        )
        said.append(" ".join(plain(part) for part in parts if part))
    escalations = body.get("escalations")
    causes = [plain(one.get("cause")) for one in escalations if isinstance(one, dict)] if isinstance(escalations, list) else []
    told = [f"missed {cause}" for cause in causes if cause != "rejected"]
    return "; ".join(told + said if body.get("state") == "escalated" else said + told)


def _table(body: dict[str, Any], key: str) -> dict[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}
