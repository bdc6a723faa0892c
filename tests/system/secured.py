"""A Kafka as in production: encrypted, with passwords, and with the rights that docs/operations.md lists and nothing else."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from deploy.kafka_local import KafkaCluster
from streams.settings import load
from tests.system.harness import ROOT, System

PASSWORDS = {name: f"secret-of-{name}" for name in ("city-admin", "city-worker", "amber", "blue", "city-desk")}
PLAIN_USER, PLAIN_PASSWORD = "city-plain", "secret-in-plain"
_SHIM = """#!/bin/sh
exec python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$(basename "$0")" "$@" >> "$COMMANDS"
"""


def documented_commands(directory: Path) -> list[list[str]]:
    """What docs/operations.md would have run, as the shell sees it: each command with its arguments."""
    section = (ROOT / "docs/operations.md").read_text().split("\n## Security\n")[1].split("\n## ")[0]
    (script,) = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    commands = directory / "commands"
    for name in ("kafka-acls.sh", "kafka-configs.sh"):
        (directory / name).write_text(_SHIM)
        (directory / name).chmod(0o755)
    passwords = {f"{name.upper().replace('-', '_')}_PASSWORD": password for name, password in PASSWORDS.items()}
    environment = {"PATH": f"{directory}:{os.environ['PATH']}", "COMMANDS": str(commands), "BROKERS": "broker:1"}
    subprocess.run(["bash", "-eu", "-c", script], check=True, env={**environment, **passwords})
    return [json.loads(line) for line in commands.read_text().splitlines()]


def apply(commands: list[list[str]], admin: AdminClient) -> None:
    """As Kafka's own tools would. An argument that is not known here is an error."""
    rights: list[AclBinding] = []
    users: list[UserScramCredentialUpsertion] = []
    for name, *arguments in commands:
        if name == "kafka-acls.sh":
            rights += _rights(arguments)
        else:
            users.append(_user(arguments))
    futures: list[Any] = [*admin.create_acls(rights).values(), *admin.alter_user_scram_credentials(users).values()]
    for future in futures:
        future.result(10)


def _parser(flag: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--command-config", required=True)
    parser.add_argument(flag, action="store_true", required=True)
    return parser


def _rights(arguments: list[str]) -> Iterator[AclBinding]:
    parser = _parser("--add")
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True)
    parser.add_argument("--resource-pattern-type", choices=["literal", "prefixed"], default="literal")
    for kind in ("--topic", "--group"):
        parser.add_argument(kind, action="append", default=[])
    told = parser.parse_args(arguments)
    pattern = ResourcePatternType[told.resource_pattern_type.upper()]
    for kind, names in ((ResourceType.TOPIC, told.topic), (ResourceType.GROUP, told.group)):
        for name in names:
            for operation in told.operation:
                code = AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()]
                yield AclBinding(kind, name, pattern, told.allow_principal, "*", code, AclPermissionType.ALLOW)


def _user(arguments: list[str]) -> UserScramCredentialUpsertion:
    parser = _parser("--alter")
    parser.add_argument("--entity-type", choices=["users"], required=True)
    parser.add_argument("--entity-name", required=True)
    parser.add_argument("--add-config", required=True)
    told = parser.parse_args(arguments)
    found = re.fullmatch(r"(SCRAM-SHA-\d+)=\[password=(.+)\]", told.add_config)
    assert found, told.add_config
    info = ScramCredentialInfo(ScramMechanism[found[1].replace("-", "_")], 4096)
    return UserScramCredentialUpsertion(told.entity_name, info, found[2].encode())


@contextmanager
def secured_cluster(directory: Path) -> Iterator[KafkaCluster]:
    """With the documented users and rights; amber also logs in by SCRAM-SHA-256, and PLAIN_USER by PLAIN as a second worker."""
    with KafkaCluster(directory / "kafka", secure={PLAIN_USER: PLAIN_PASSWORD}, short_lived=True) as cluster:
        tools = directory / "tools"
        tools.mkdir()
        commands = documented_commands(tools)
        as_plain = [[part.replace("User:city-worker", f"User:{PLAIN_USER}") for part in command] for command in commands]
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        apply([*commands, *(command for command in as_plain if command not in commands)], admin)
        yield cluster


CONFIGURATION = """
[deployment]
brokers = ["{brokers}"]
clock = "replay"
topic_prefix = "brain."
session_timeout = "6s"
snapshot_interval = "1s"
sasl_mechanism = "SCRAM-SHA-512"
tls = true
tls_ca = "{authority}"

[network]
tick = "5s"
operators = ["amber", "blue"]

[[network.feeds]]
topic = "pings.amber"
operator = "amber"
partitions = 2

[[network.feeds]]
topic = "pings.blue"
operator = "blue"
partitions = 1

[[city]]
name = "rivertown"
time_zone = "UTC"
boundary = {{ south = 39.4, west = 115.4, north = 41.1, east = 117.6 }}

[[city.rules]]
id = "crowded"
name = "Crowded"
per_hectare = "0.1"
for = "10s"
"""


def secured_system(cluster: KafkaCluster, directory: Path) -> System:
    """Its commands need a user each; what the test reads itself it reads on the plain listener."""
    config = directory / "city.toml"
    config.write_text(CONFIGURATION.format(brokers=cluster.secure_bootstrap, authority=cluster.authority))
    return System(cluster.bootstrap, directory, load_as("city-worker", config), config)


def load_as(user: str, config: Path) -> Any:
    before = dict(os.environ)
    os.environ.update(login(user))
    try:
        return load(config)
    finally:
        os.environ.clear()
        os.environ.update(before)


def login(user: str, password: str | None = None) -> dict[str, str]:
    """The environment of a command that runs as this user."""
    return {"URBAN_BRAIN_SASL_USERNAME": user, "URBAN_BRAIN_SASL_PASSWORD": password or PASSWORDS[user]}
