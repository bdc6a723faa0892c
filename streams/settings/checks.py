"""Rules between values of a configuration: what no single table can know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from streams.settings.deployment import Deployment
from streams.settings.epochs import first_tick
from streams.settings.models import CityTable, CityVersion, NetworkTable, NetworkVersion
from streams.settings.problems import Problem, nearest, shown
from streams.settings.values import Settings

_T = TypeVar("_T", bound=Hashable)
RESERVED_CITIES = ("elsewhere",)  # how frames call what is in no city


def check_deployment(deployment: Deployment) -> Iterator[Problem]:
    """What a worker would only find out when it connects."""
    if deployment.sasl_mechanism and not (deployment.sasl_username and deployment.sasl_password):
        remedy = "Set deployment.sasl_username, and URBAN_BRAIN_SASL_PASSWORD in the environment."
        yield Problem("deployment.sasl_mechanism", "needs sasl_username and sasl_password", "", remedy)
    for key in ("tls_ca", "tls_certificate", "tls_key"):
        path = getattr(deployment, key)
        if deployment.tls and path and not Path(path).is_file():
            yield Problem(f"deployment.{key}", "names a file that cannot be read", shown(path), "Correct the path.")


def check_city(city: CityTable, where: str) -> Iterator[Problem]:
    """One city by itself."""
    if city.name in RESERVED_CITIES:
        yield Problem(f"{where}.name", "is reserved", shown(city.name), "Name the city otherwise.")
    lists = [(f"{where}.rules", city.rules)]
    lists += [(f"{where}.versions[{n}].rules", version.rules or ()) for n, version in enumerate(city.versions, 1)]
    for path, rules in lists:
        for key in _twice((rule.policy or city.name, rule.id) for rule in rules):
            yield Problem(path, "must not have an id twice in a policy", shown(key[1]), "Give each rule its own id.")


def check_network(network: NetworkTable, where: str) -> Iterator[Problem]:
    """The network by itself."""
    ever = _operators_ever(network)
    for number, feed in enumerate(network.feeds, 1):
        if feed.operator is not None and feed.operator not in ever:
            yield _no_operator(f"{where}.feeds[{number}].operator", feed.operator, ever)
        if feed.format == "mds" and not (network.providers if feed.operator is None else feed.operator in network.providers):
            whose = "the gateway's operators" if feed.operator is None else feed.operator
            rule = "is mds, whose pings name a provider id, and nobody says whose it is"
            remedy = f'Add {whose} to network.providers, like {{ {feed.operator or "amber"} = "2411d395-…" }}.'
            yield Problem(f"{where}.feeds[{number}].format", rule, "", remedy)
    for name in network.providers:
        if name not in ever:
            yield _no_operator(f"{where}.providers", name, ever)
    for provider in _twice(network.providers.values()):
        yield Problem(f"{where}.providers", "must not name a provider twice", shown(provider), "Correct one of the two.")
    for topic in _twice(feed.topic for feed in network.feeds):
        yield Problem(f"{where}.feeds", "must not have a topic twice", shown(topic), "Merge the two feeds.")
    for path, names in _silences(network, where):
        for name in names:
            if name not in ever:
                yield _no_operator(path, name, ever)
    yield from _rising(network.versions, network.tick, where)
    yield from _ttl_never_rises(network, where)


def _ttl_never_rises(network: NetworkTable, where: str) -> Iterator[Problem]:
    """A worker forgets bikes by the longest ttl it knows. One that learns of a longer ttl later would have forgotten bikes
    that a replay, which knows all versions from the start, still remembers."""
    ttl_ms = network.ttl
    for number, version in enumerate(network.versions, 1):
        if version.ttl is None:
            continue
        if version.ttl > ttl_ms:
            remedy = "Give the longer ttl to the first version, in an empty deployment."
            path = f"{where}.versions[{number}].ttl"
            yield Problem(path, "must not be longer than before", f"{version.ttl // 1000} s after {ttl_ms // 1000} s", remedy)
        ttl_ms = version.ttl


def check_cities(cities: Sequence[CityTable], network: NetworkTable) -> Iterator[Problem]:
    """The cities with each other and with the network."""
    ever = _operators_ever(network)
    for name in _twice(city.name for city in cities):
        yield Problem("city", "must not have a name twice", shown(name), "Name one of the two otherwise.")
    for city in cities:
        where = f"city {city.name}"
        lists = [(f"{where}: operators", city.operators)]
        lists += [(f"{where}: versions[{n}].operators", v.operators) for n, v in enumerate(city.versions, 1)]
        for path, names in lists:
            for name in names or ():
                if name not in ever:
                    yield _no_operator(path, name, ever)
        yield from _rising(city.versions, network.tick, where)
        yield from _intervals_hold_a_tick(city, network.tick, where)
        if city.effective_from is not None and any(v.effective_from <= city.effective_from for v in city.versions):
            yield Problem(f"{where}: versions", "must come after the city's effective_from", "", "Put it in [city].")


def check_topics(settings: Settings) -> Iterator[Problem]:
    """Every topic its own name: an operator called `open` would read the alerts of all."""
    topics, owners = settings.topics, dict[str, str]()
    named = [(topics.facts, "city.facts"), (topics.progress, "city.progress"), (topics.alerts, "alerts")]
    named += [(topics.density, "cell.density"), (topics.report, "operator.report")]
    named += [(topics.alerts_open, "alerts.open"), (topics.alerts_shadow, "alerts.shadow")]
    named.append((topics.quarantine, "quarantine"))
    named += [(topics.operator_topic(name), f"the operator {name}") for name in settings.timeline.operators]
    named += [(feed.topic, f"the feed {feed.topic}") for feed in settings.feeds]
    named += [(topics.changelog(feed.topic), f"the changelog of {feed.topic}") for feed in settings.feeds]
    named += [(control.topic, f"the control topic {control.topic}") for control in settings.controls]
    named += [(topics.changelog(control.topic), f"the changelog of {control.topic}") for control in settings.controls]
    named.append((topics.changelog(topics.facts), f"the changelog of {topics.facts}"))
    for topic, owner in named:
        # Kafka's metrics do not tell . from _, so it refuses a topic that differs from another in those only.
        key = topic.replace(".", "_")
        if len(topic) > 249:
            yield Problem(owner, "must have a topic name of at most 249 characters", shown(topic), "Shorten the names.")
        if key in owners:
            rule = f"has the topic name of {owners[key]}"
            yield Problem(owner, rule, shown(topic), "Rename one of them, or set deployment.topic_prefix.")
        owners[key] = owner


def _intervals_hold_a_tick(city: CityTable, tick_ms: int, where: str) -> Iterator[Problem]:
    intervals: list[tuple[str, int | None]] = [(f"{where}: density_interval", city.density_interval)]
    intervals += [(f"{where}: versions[{n}].density_interval", v.density_interval) for n, v in enumerate(city.versions, 1)]
    for path, interval_ms in intervals:
        if interval_ms is not None and 0 < interval_ms < tick_ms:
            remedy = f'Write "{tick_ms}ms" or more, or "0s" to tell nothing.'
            yield Problem(path, "must not be shorter than network.tick", f"{interval_ms} ms", remedy)


def _operators_ever(network: NetworkTable) -> set[str]:
    return set(network.operators).union(*(version.operators or () for version in network.versions))


def _silences(network: NetworkTable, where: str) -> Iterator[tuple[str, Iterable[str]]]:
    yield f"{where}.silent_after", network.silent_after
    for number, version in enumerate(network.versions, 1):
        yield f"{where}.versions[{number}].silent_after", version.silent_after or ()


def _no_operator(path: str, name: str, known: Iterable[str]) -> Problem:
    remedy = f"{nearest(name, known)} Or add it to network.operators."
    return Problem(path, "must be an allowed operator", shown(name), remedy)


def _rising(versions: Sequence[NetworkVersion | CityVersion], tick_ms: int, where: str) -> Iterator[Problem]:
    """Versions in order of time, at most one in force from any tick."""
    ticks = [first_tick(version.effective_from, tick_ms) for version in versions]
    for number, (before, after) in enumerate(pairwise(ticks), 2):
        if after <= before:
            rule = "must come into force at least a tick after the version before it"
            yield Problem(f"{where}.versions[{number}].effective_from", rule, "", "Put the versions in order of time.")


def _twice(items: Iterable[_T]) -> list[_T]:
    return [item for item, count in Counter(items).items() if count > 1]
