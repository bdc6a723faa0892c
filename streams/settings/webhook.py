"""The bridge from a topic of alerts to an HTTP endpoint: where to, how patiently, and where to put what can not be delivered.

From the `[webhook]` table and from the environment (URBAN_BRAIN_WEBHOOK_<KEY>, which wins). The secret only from the environment.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from streams.settings.deployment import ENV_PREFIX, Deployment, FileAndEnvironment
from streams.settings.problems import Problem, RefusedError
from streams.settings.scalars import Identifier, Name, PositiveDuration
from streams.settings.values import Topics

WEBHOOK_PREFIX = f"{ENV_PREFIX}WEBHOOK_"
LEAST_SECRET_BYTES = 24
"""As the Standard Webhooks specification has it: 24 to 64 random bytes."""
ENCODED_SECRET = "whsec_"


def _url(value: object) -> str:
    if not isinstance(value, str) or not _usable(value):
        raise RefusedError(
            "must be an http or https address without name and password",
            "Write it like https://dispatch.example.com/alerts; requests are signed, no password is needed.",
            private=isinstance(value, str) and ("@" in value or "?" in value),
        )
    return value


def _usable(url: str) -> bool:
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False


def _topic(value: object) -> str:
    if (
        not isinstance(value, str)
        or not value
        or len(value) > 249
        or not all(c.isascii() and (c.isalnum() or c in "._-") for c in value)
    ):
        raise RefusedError("must be the name of a topic: at most 249 of A-Z a-z 0-9 . _ -", "Correct it.")
    return value


TopicName = Annotated[str, BeforeValidator(_topic)]


class Webhook(FileAndEnvironment):
    """See docs/operators.md for what each key is for."""

    model_config = SettingsConfigDict(env_prefix=WEBHOOK_PREFIX, extra="forbid", frozen=True, validate_default=False)
    secrets: ClassVar[tuple[str, ...]] = ("secret",)

    url: Annotated[str, BeforeValidator(_url)] = Field(description="Where to POST each event, http or https.")
    secret: SecretStr | None = Field(None, description="Only from the environment.")
    operator: Name | None = Field(None, description="Whose alerts; left out: everybody's, the city's copy.")
    topic: TopicName | None = Field(None, description="Another topic to read, for example that of the dead letters.")
    group: Identifier | None = Field(None, description="Consumer group; left out: the app_id and -webhook.")
    timeout: PositiveDuration = Field(timedelta(seconds=10), description="How long a request may take.")
    attempts: int = Field(15, ge=1, le=1000, description="Requests for one event before it is a dead letter.")
    first_retry: PositiveDuration = Field(timedelta(seconds=1), description="Wait after the first failure; doubles each time.")
    longest_retry: PositiveDuration = Field(timedelta(minutes=5), description="The longest of these waits.")
    parallel: int = Field(8, ge=1, le=1000, description="Requests at the same time, at most.")
    window: int = Field(1000, ge=1, le=100_000, description="Events in hand, at most: one that fails holds the offset back.")
    dead_letter_topic: TopicName | None = Field(None, description="Topic for what could not be delivered.")
    dead_letter_file: str | None = Field(None, description="File for what could not be delivered, JSON lines.")

    def key(self) -> bytes:
        """The bytes to sign with. Never log them."""
        return secret_bytes(self.secret.get_secret_value() if self.secret else "")


def secret_bytes(text: str) -> bytes:
    """A secret as it is exchanged: `whsec_` and base64, or any other text as it is. Raises ValueError for broken base64."""
    if not text.startswith(ENCODED_SECRET):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(ENCODED_SECRET), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def check_webhook(webhook: Webhook, where: str) -> Iterator[Problem]:
    """What no single key can know."""
    variable = f"environment: {WEBHOOK_PREFIX}SECRET"
    if webhook.secret is None:
        yield Problem(variable, "is missing", "", "Set it to a secret that the receiver knows too, 24 random bytes or more.")
    else:
        try:
            length = len(webhook.key())
        except ValueError:
            yield Problem(variable, "begins with whsec_ and is not base64 after that", "", "Copy it again.")
        else:
            if length < LEAST_SECRET_BYTES:
                rule = f"must be at least {LEAST_SECRET_BYTES} bytes long"
                yield Problem(variable, rule, f"{length}", "Make one: openssl rand -base64 32.")
    if (webhook.dead_letter_topic is None) == (webhook.dead_letter_file is None):
        remedy = 'Write dead_letter_file = "dead-letters.ndjson" or dead_letter_topic = "alerts.dead".'
        yield Problem(where, "must have either dead_letter_topic or dead_letter_file", "", remedy)
    if webhook.operator is not None and webhook.topic is not None:
        yield Problem(where, "must not have both operator and topic", "", "Remove one of the two.")
    if webhook.longest_retry < webhook.first_retry:
        yield Problem(f"{where}.longest_retry", "must not be shorter than first_retry", "", "Make it longer.")


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """What a bridge needs: brokers, a topic, an endpoint."""

    deployment: Deployment
    topics: Topics
    webhook: Webhook

    @property
    def topic(self) -> str:
        """What is read."""
        if self.webhook.topic is not None:
            return self.webhook.topic
        operator = self.webhook.operator
        return self.topics.alerts if operator is None else self.topics.operator_topic(operator)

    @property
    def group(self) -> str:
        return self.webhook.group or f"{self.deployment.app_id}-webhook"
