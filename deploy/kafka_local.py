"""A real Apache Kafka on loopback, for tests and for trying things out: no Docker, only Java and Maven.

    python -m deploy.kafka_local up DIR [--nodes 3] [--prop key=value]   start; prints the bootstrap servers
    python -m deploy.kafka_local kill|stop|start|restart DIR NODE        SIGKILL / SIGTERM / start again one node
    python -m deploy.kafka_local status|down DIR                         what runs / stop all

In Python: ``with KafkaCluster(directory, nodes=1) as kafka: kafka.bootstrap``. With ``secure`` there is a second listener, with
TLS, passwords and rights (``deploy/kafka_secure.py``): ``kafka.secure_bootstrap``, ``kafka.authority``.

Jars come from Maven Central once and stay in ``~/.cache/urban-brain/kafka`` (``URBAN_BRAIN_KAFKA_CACHE`` overrides).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from deploy import kafka_secure

KAFKA_VERSION = "4.4.0"
LOG4J_VERSION = "2.25.5"  # the log4j-core that this Kafka brings in; the slf4j binding must match it
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # any 16 bytes in URL-safe base64
JVM_OPTIONS = ("-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-Xshare:auto")
SHORT_LIVED = ("-XX:TieredStopAtLevel=1",)
READY_LINE = b"Kafka Server started"  # logged when the broker is registered, unfenced and answers requests
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0

_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
_POM = (
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>local</groupId>'
    "<artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging><dependencies>"
    + _DEPENDENCY.format("org.apache.kafka", "kafka_2.13", KAFKA_VERSION)
    + _DEPENDENCY.format("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION)
    + "</dependencies></project>"
)
_LOG4J = """<Configuration status="ERROR"><Appenders><Console name="c">
<PatternLayout pattern="%d{ISO8601} %-5p %m (%c{1})%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="c"/></Root></Loggers></Configuration>
"""


class KafkaError(RuntimeError):
    """Kafka could not be started; the message says why and what to do."""


def why_unavailable() -> str | None:
    """None when a local Kafka can be started, else what is missing and what to install."""
    if _java() is None:
        return "no Java: install OpenJDK 17 or newer (apt install openjdk-17-jre-headless), or set JAVA_HOME"
    if not _jars_marker().exists() and shutil.which("mvn") is None:
        return "no Maven to fetch Kafka's jars with: install it (apt install maven)"
    return None


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin/java").exists():
        return str(Path(home) / "bin/java")
    return shutil.which("java")


def _cache() -> Path:
    override = os.environ.get("URBAN_BRAIN_KAFKA_CACHE")
    return Path(override) if override else Path.home() / ".cache/urban-brain/kafka"


def _jars_marker() -> Path:
    return _cache() / KAFKA_VERSION / "complete"


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two test sessions that start at once must not write into the same folder of jars."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def class_path() -> str:
    """Kafka's class path; Maven resolves it the first time (about 45 jars, 43 MB)."""
    home = _jars_marker().parent
    with _locked(home):
        if not _jars_marker().exists():
            _fetch_jars(home)
    return f"{home}/jars/*"


def _fetch_jars(home: Path) -> None:
    (home / "pom.xml").write_text(_POM)
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
    command = ["mvn", "-B", "-q", goal, "-DincludeScope=runtime", f"-DoutputDirectory={home}/jars"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise KafkaError(
            f"Maven could not fetch Kafka {KAFKA_VERSION} (is Maven Central, or its mirror, reachable?)\n"
            + (done.stdout + done.stderr)[-3000:]
        )
    _jars_marker().touch()


def free_port(taken: set[int]) -> int:
    """A port below the ephemeral range: else a client's socket may take the port of a node that is down."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if port not in taken and probe.connect_ex(("127.0.0.1", port)) != 0:
                taken.add(port)
                return port


def _common_properties(many: bool) -> dict[str, object]:
    copies, in_sync = (3, 2) if many else (1, 1)
    properties: dict[str, object] = {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{kafka_secure.LISTENER}:SASL_SSL",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.threads": 1,
        "log.cleaner.dedupe.buffer.size": 4 << 20,
        "log.segment.bytes": 64 << 20,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": copies,
    }
    for internal in ("transaction.state.log", "share.coordinator.state.topic"):
        properties |= {
            f"{internal}.num.partitions": 4,
            f"{internal}.replication.factor": copies,
            f"{internal}.min.isr": in_sync,
        }
    if many:  # a killed node is fenced after 3 s, a new controller elected within 1 s
        properties |= {
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "controller.quorum.election.timeout.ms": 500,
            "controller.quorum.fetch.timeout.ms": 1000,
            "replica.lag.time.max.ms": 5000,
        }
    return properties


class KafkaCluster:
    """Nodes are numbered from 1, each broker and controller. Ports and process ids are kept in the directory, so
    that separate commands work on one cluster."""

    def __init__(
        self,
        directory: Path | str,
        nodes: int = 1,
        *,
        properties: Mapping[str, object] | None = None,
        secure: Mapping[str, str] | None = None,
        short_lived: bool = False,
    ) -> None:
        """secure: have the second listener, with these users (name -> password) for the mechanism PLAIN.

        short_lived: compile in a hurry, for a broker that lives for a minute: a quarter less CPU in its first 13 s, but it never gets fast.
        """
        self.directory = Path(directory).absolute()
        self._state_file = self.directory / "state.json"
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._log_from: dict[int, int] = {}
        self._jvm_options = (*JVM_OPTIONS, *(SHORT_LIVED if short_lived else ()))
        if self._state_file.exists():
            self._load()
            return
        taken: set[int] = set()
        self.ports = {node: (free_port(taken), free_port(taken)) for node in range(1, nodes + 1)}
        self.secure_ports = {node: free_port(taken) for node in self.ports} if secure is not None else {}
        self._pids: dict[int, int] = {}
        self._extra = {key: str(value) for key, value in (properties or {}).items()}
        self.directory.mkdir(parents=True, exist_ok=True)
        if secure is not None:
            if (reason := kafka_secure.why_unavailable()) is not None:
                raise KafkaError(reason)
            security = kafka_secure.properties(self.directory / "tls", secure)
            self._extra = {key: str(value) for key, value in security.items()} | self._extra
        self._save()

    def _load(self) -> None:
        state = json.loads(self._state_file.read_text())
        self.ports = {int(node): (ports[0], ports[1]) for node, ports in state["ports"].items()}
        self.secure_ports = {int(node): port for node, port in state.get("secure_ports", {}).items()}
        self._pids = {int(node): pid for node, pid in state["pids"].items()}
        self._extra = state["properties"]

    def _save(self) -> None:
        state = {"ports": self.ports, "secure_ports": self.secure_ports, "pids": self._pids, "properties": self._extra}
        self._state_file.write_text(json.dumps(state, indent=1))

    @property
    def nodes(self) -> list[int]:
        return sorted(self.ports)

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{self.ports[node][0]}" for node in self.nodes)

    @property
    def secure_bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{self.secure_ports[node]}" for node in self.nodes)

    @property
    def authority(self) -> Path:
        """PEM file of what a client of the secure listener has to trust."""
        return self.directory / "tls/broker.pem"

    def log(self, node: int) -> Path:
        return self.directory / f"node{node}/log"

    def _properties(self, node: int) -> dict[str, object]:
        client, controller = self.ports[node]
        voters = ",".join(f"{n}@127.0.0.1:{self.ports[n][1]}" for n in self.nodes)
        outside = f"PLAINTEXT://127.0.0.1:{client}"
        if node in self.secure_ports:
            outside += f",{kafka_secure.LISTENER}://127.0.0.1:{self.secure_ports[node]}"
        own: dict[str, object] = {
            "node.id": node,
            "log.dirs": self.directory / f"node{node}/data",
            "controller.quorum.voters": voters,
            "listeners": f"{outside},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": outside,
        }
        return _common_properties(len(self.nodes) > 1) | own | self._extra

    def _command(self, node: int, main: str, *arguments: str) -> list[str]:
        reason = why_unavailable()
        java = _java()
        if reason is not None or java is None:
            raise KafkaError(reason)
        home = self.directory / f"node{node}"
        logging = [f"-Dlog4j2.configurationFile={home}/log4j2.xml", f"-Dkafka.logs.dir={home}"]
        return [java, *self._jvm_options, *logging, "-cp", class_path(), main, *arguments]

    def _format(self, node: int) -> None:
        home = self.directory / f"node{node}"
        if (home / "data/meta.properties").exists():
            return
        home.mkdir(parents=True, exist_ok=True)
        (home / "log4j2.xml").write_text(_LOG4J)
        properties = home / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties(node).items()))
        command = self._command(node, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KafkaError(f"Kafka could not format node {node}: {done.stdout}{done.stderr}")

    def _spawn(self, node: int) -> None:
        self._format(node)
        command = self._command(node, "kafka.Kafka", str(self.directory / f"node{node}/server.properties"))
        with self.log(node).open("ab") as log:
            self._log_from[node] = log.tell()
            # A session of its own: Ctrl-C in the terminal must not stop the broker before its clients.
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        self._processes[node] = process
        self._pids[node] = process.pid
        self._save()

    def _wait_ready(self, node: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with self.log(node).open("rb") as log:
                log.seek(self._log_from[node])
                if READY_LINE in log.read():
                    return
            if self._processes[node].poll() is not None or time.monotonic() > deadline:
                tail = self.log(node).read_text(errors="replace")[-3000:]
                raise KafkaError(f"node {node} is not ready: {tail}")
            time.sleep(0.05)

    def start(self, *nodes: int) -> None:
        for node in nodes or self.nodes:
            self._spawn(node)
        for node in nodes or self.nodes:
            self._wait_ready(node)

    def alive(self, node: int) -> int | None:
        """The process id of a node that runs, else None. A recycled process id is not taken for ours."""
        pid = self._pids.get(node)
        try:
            return pid if b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes() else None
        except OSError:
            return None

    def _end(self, nodes: tuple[int, ...], how: signal.Signals) -> None:
        # All are told first: of a combined majority none can shut down in order without the others' controllers.
        for node in nodes:
            if (pid := self.alive(node)) is not None:
                os.kill(pid, how)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for node in nodes:
            while (pid := self.alive(node)) is not None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
            if (process := self._processes.pop(node, None)) is not None:
                process.wait()  # it has ended, or is a zombie until it is asked

    def kill(self, *nodes: int) -> None:
        self._end(nodes or tuple(self.nodes), signal.SIGKILL)

    def stop(self, *nodes: int) -> None:
        self._end(nodes or tuple(self.nodes), signal.SIGTERM)

    def restart(self, *nodes: int) -> None:
        self.stop(*nodes)
        self.start(*nodes)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _up(cluster: KafkaCluster) -> None:
    dead = [node for node in cluster.nodes if cluster.alive(node) is None]
    if dead:
        cluster.start(*dead)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["up", "kill", "stop", "start", "restart", "status", "down"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("node", nargs="?", type=int)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--prop", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    nodes = () if options.node is None else (options.node,)
    properties = dict(item.split("=", 1) for item in options.prop)
    try:
        cluster = KafkaCluster(options.directory, options.nodes, properties=properties)
        if options.command == "up":
            _up(cluster)
        elif options.command == "down":
            cluster.stop()
        elif options.command != "status":
            getattr(cluster, options.command)(*nodes)
    except KafkaError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is a command
        return 1
    for node in cluster.nodes:
        print(f"node {node}: process {cluster.alive(node)}, log {cluster.log(node)}", file=sys.stderr)  # noqa: T201
    print(cluster.bootstrap)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
