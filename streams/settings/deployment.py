"""Where and how a worker runs: brokers, secrets, ports, intervals. Nothing here changes a result.

From the `[deployment]` table and from the environment (URBAN_BRAIN_<KEY>, which wins). Secrets come from the
environment only: files are copied, shown and committed.
"""

from __future__ import annotations

import re
import ssl
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from streams.settings.problems import RefusedError
from streams.settings.scalars import Identifier, PositiveDuration

ENV_PREFIX = "URBAN_BRAIN_"
_BROKER = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}")
_PREFIX = re.compile(r"[a-z0-9._-]{0,64}")


def _brokers(value: object) -> tuple[str, ...]:
    """A list, or one string with commas (the form of an environment variable) -> host:port of each."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise RefusedError("must be one or more host:port", 'Write brokers = ["kafka-1:9092", "kafka-2:9092"].')
    found = tuple(str(item).strip() for item in names)
    if not all(_BROKER.fullmatch(item) for item in found):
        raise RefusedError("must be one or more host:port", 'Write brokers = ["kafka-1:9092", "kafka-2:9092"].')
    return found


def _prefix(value: object) -> str:
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        raise RefusedError("must be at most 64 of a-z 0-9 . _ -", 'Write it like "staging." or leave it out.')
    return value


def _pattern(value: object) -> str:
    """Must name the topic, else all changelogs would be one."""
    try:
        if isinstance(value, str) and "{topic}" in value:
            value.format(prefix="", app_id="", topic="")
            return value
    except (KeyError, IndexError, ValueError):
        pass
    raise RefusedError("must contain {topic} and may contain {prefix} and {app_id}", "Leave it out for the default.")


class FileAndEnvironment(BaseSettings):
    """Settings of one deployment: from a file and the environment, never part of what decides about alerts."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


class Deployment(FileAndEnvironment):
    """See examples/city.toml for what each key is for."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=False)
    secrets: ClassVar[tuple[str, ...]] = ("sasl_password", "tls_key_password")

    brokers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_brokers)] = Field(
        ("localhost:9092",), description="Bootstrap servers, host:port each."
    )
    clock: Literal["live", "replay"] = Field(
        "live", description='"live" (the broker stamps records) or "replay" (the producer does).'
    )
    app_id: Identifier = Field("urban-brain", description="Name of the consumer group.")
    instance_id: Identifier | None = Field(
        None, description="Name of this worker, the same after its restart (static membership); none: a new member."
    )
    session_timeout: PositiveDuration = Field(
        timedelta(seconds=10), description="After this long without a heartbeat a worker counts as dead."
    )
    snapshot_interval: PositiveDuration = Field(
        timedelta(seconds=30), description="Wall time between snapshots of a partition."
    )
    quarantine_cap: int = Field(
        10, ge=0, le=100_000, description="Refused records kept per operator, reason and tick; the rest is counted."
    )
    http_host: str = Field("0.0.0.0", description="Address of /metrics, /ready and /live.")
    http_port: int = Field(6066, ge=0, le=65_535, description="Port of /metrics, /ready and /live; 0: any free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning, error.")

    topic_prefix: Annotated[str, BeforeValidator(_prefix)] = Field(
        "", description="Put before the names of output topics; input topics are named by the feeds."
    )
    changelog_pattern: Annotated[str, BeforeValidator(_pattern)] = Field(
        "{prefix}{app_id}-{topic}-changelog", description="Name of the snapshots' topic of an input topic."
    )
    replication_factor: int = Field(1, ge=1, le=15, description="Copies of each partition; 3 in production.")
    retention: PositiveDuration = Field(
        timedelta(days=7), description="How long input topics, facts, alerts and quarantine are kept."
    )

    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; left out: no password."
    )
    sasl_username: str | None = Field(None, description="Name to log in with.")
    sasl_password: SecretStr | None = Field(None, description="Only from the environment.")
    tls: bool = Field(False, description="Encrypt the connections to the brokers.")
    tls_ca: str | None = Field(None, description="PEM file of the authorities to trust; left out: the system's.")
    tls_certificate: str | None = Field(None, description="PEM file of the certificate to show to the brokers.")
    tls_key: str | None = Field(None, description="PEM file of its key.")
    tls_key_password: SecretStr | None = Field(None, description="Only from the environment.")

    @property
    def min_insync_replicas(self) -> int:
        """One copy may be away without stopping writes, two may not."""
        return max(1, self.replication_factor - 1)

    @property
    def security_protocol(self) -> str:
        if self.sasl_mechanism:
            return "SASL_SSL" if self.tls else "SASL_PLAINTEXT"
        return "SSL" if self.tls else "PLAINTEXT"

    def librdkafka(self) -> dict[str, Any]:
        """How a confluent-kafka client reaches the brokers. Holds the password in clear: never log it."""
        config: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.brokers),
            "security.protocol": self.security_protocol,
        }
        if self.sasl_mechanism:
            config["sasl.mechanism"] = self.sasl_mechanism
            config["sasl.username"] = self.sasl_username or ""
            config["sasl.password"] = self.sasl_password.get_secret_value() if self.sasl_password else ""
        if self.tls:
            key_password = self.tls_key_password.get_secret_value() if self.tls_key_password else None
            files = {
                "ssl.ca.location": self.tls_ca,
                "ssl.certificate.location": self.tls_certificate,
                "ssl.key.location": self.tls_key,
                "ssl.key.password": key_password,
            }
            config |= {key: value for key, value in files.items() if value}
        return config

    def aiokafka(self) -> dict[str, Any]:
        """How one of aiokafka's clients reaches them. Holds the password in clear, too."""
        client: dict[str, Any] = {"bootstrap_servers": list(self.brokers), "security_protocol": self.security_protocol}
        if self.sasl_mechanism:
            client |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.get_secret_value() if self.sasl_password else "",
            }
        if (context := self.ssl_context()) is not None:
            client["ssl_context"] = context
        return client

    def ssl_context(self) -> ssl.SSLContext | None:
        """The same for aiokafka and Faust; None: no TLS."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca)
        if self.tls_certificate:
            password = self.tls_key_password.get_secret_value() if self.tls_key_password else None
            context.load_cert_chain(self.tls_certificate, self.tls_key, password)
        return context
