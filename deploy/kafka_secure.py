"""The listener of the local Kafka that is as in production: encrypted, with passwords, and with rights (ACLs).

Beside it stays the plain listener, for the brokers among themselves and for whoever runs the tests: on it everybody may do
everything. Never copy that part.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

LISTENER = "SECURE"
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN")
_DAYS = "3650"


def why_unavailable() -> str | None:
    """None when certificates can be made, else what is missing and what to install."""
    return None if shutil.which("openssl") else "no openssl to make certificates with: install it (apt install openssl)"


def make_certificate(directory: Path, name: str) -> Path:
    """A certificate for the loopback interface that signs itself: who trusts it gives it to its client as the authority.

    `<name>.pem` is the certificate, `<name>-key.pem` has its key, too, in the order in which Kafka wants them.
    """
    certificate, key, both = (directory / f"{name}{end}.pem" for end in ("", "-only-key", "-key"))
    if not both.exists():
        directory.mkdir(parents=True, exist_ok=True)
        words = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {_DAYS} -subj /CN={name}"
        names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*words.split(), *names, *files], check=True, capture_output=True)
        both.write_text(key.read_text() + certificate.read_text())
        key.unlink()
    return certificate


def properties(directory: Path, plain_users: Mapping[str, str]) -> dict[str, object]:
    """Settings of a broker. plain_users: name -> password for PLAIN; those for SCRAM are made by request."""
    make_certificate(directory, "broker")
    listener = f"listener.name.{LISTENER.lower()}"
    users = " ".join(f'user_{name}="{password}"' for name, password in plain_users.items())
    login = "org.apache.kafka.common.security"
    found: dict[str, object] = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        f"{listener}.sasl.enabled.mechanisms": ",".join(MECHANISMS),
        f"{listener}.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required {users};",
        f"{listener}.ssl.keystore.type": "PEM",
        f"{listener}.ssl.keystore.location": directory / "broker-key.pem",
    }
    for mechanism in MECHANISMS[:2]:
        found[f"{listener}.{mechanism.lower()}.sasl.jaas.config"] = f"{login}.scram.ScramLoginModule required;"
    return found
