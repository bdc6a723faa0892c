"""Whether the brokers answer and let us in, asked through librdkafka; if not, why, and what to do.

Brokers that are away come back, so a worker waits for them. A password or a certificate that they, or we, refuse stays refused
until somebody mends it: that is told at once.
"""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import UrbanBrainError
from streams.settings import Deployment

TIMEOUT_S = 10.0
_SLICE_S = 1.0  # between looks at what was reported meanwhile

RIGHTS = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
"""Codes of what this user may not do. Not that of the group: a consumer that never joins one is told it all the same."""


class BrokerAwayError(UrbanBrainError):
    """No broker answered in time."""


class RefusedByBrokersError(UrbanBrainError):
    """Brokers are there, and there is no way in: the password, or a certificate."""


class Access:
    """One client's way to the brokers. `options` go into the client that is then given to `metadata`."""

    def __init__(self, deployment: Deployment) -> None:
        self._brokers = ", ".join(deployment.brokers)
        self._user = deployment.sasl_username
        self._trouble = ""
        self._refusal: UrbanBrainError | None = None
        # The log would come to stderr line by line; what it says is kept for the one message instead.
        self.options: dict[str, Any] = {**deployment.librdkafka(), "log_level": 0, "error_cb": self._note}

    def _note(self, error: Any) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self._trouble:  # it comes last, and says nothing of the cause
            self._trouble = str(error.str())
        if error.code() == KafkaError._AUTHENTICATION:
            self._refusal = RefusedByBrokersError(
                f"the brokers at {self._brokers} refuse the login of {self._user!r}: {self._trouble}. "
                "Correct deployment.sasl_username and sasl_mechanism, and URBAN_BRAIN_SASL_PASSWORD in the environment."
            )
        elif error.code() == KafkaError._SSL:
            self._refusal = RefusedByBrokersError(
                f"no encrypted connection to the brokers at {self._brokers}: {self._trouble}. Set deployment.tls_ca to the PEM "
                "file of the authority that signed their certificates, and deployment.brokers to names that stand in these; if "
                "the listener does not encrypt, tls to false."
            )

    def metadata(self, client: Any, *, topic: str | None = None, timeout_s: float = TIMEOUT_S) -> Any:
        """What the cluster tells of all topics, or of one. Raises BrokerAwayError or RefusedByBrokersError."""
        deadline = time.monotonic() + timeout_s
        while True:
            wait_s = max(0.1, min(_SLICE_S, deadline - time.monotonic()))
            try:
                return client.list_topics(topic, timeout=wait_s) if topic else client.list_topics(timeout=wait_s)
            except KafkaException as error:
                client.poll(0)
                if self._refusal is not None:
                    raise self._refusal from None
                if time.monotonic() >= deadline:
                    reason = self._trouble or str(error.args[0].str())
                    raise BrokerAwayError(
                        f"no broker answered within {timeout_s:g} s at {self._brokers}: {reason}. Start Kafka, or set "
                        "deployment.brokers or URBAN_BRAIN_BROKERS (and the SASL and TLS settings) to where it is."
                    ) from None


def reach(deployment: Deployment) -> None:
    """Raises BrokerAwayError or RefusedByBrokersError, if there is no way in."""
    access = Access(deployment)
    access.metadata(AdminClient(access.options))
