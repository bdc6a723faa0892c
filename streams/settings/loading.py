"""Files and environment -> `Settings`, or every problem at once, before anything connects."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from streams.settings.checks import check_cities, check_city, check_deployment, check_network, check_topics
from streams.settings.deployment import Deployment
from streams.settings.epochs import build_timeline
from streams.settings.errors import environment_typos, translate
from streams.settings.models import CityTable, FeedTable, NetworkTable
from streams.settings.policies import Library, Trial, check_policies, read_library
from streams.settings.problems import Problem, configuration_error, nearest
from streams.settings.values import ControlSettings, FeedSettings, Settings, Topics
from streams.settings.webhook import BridgeSettings, Webhook, check_webhook

TABLES = ("deployment", "network", "city", "webhook")
_Model = TypeVar("_Model", bound=BaseModel)
_FromEnvironment = TypeVar("_FromEnvironment", Deployment, Webhook)


@dataclass
class _Parts:
    """What the files have given so far, and what is wrong with it."""

    deployment: Deployment | None = None
    webhook: Webhook | None = None
    network: NetworkTable | None = None
    cities: list[CityTable] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)  # table -> the file that has it
    city_tables: int = 0


def load(*paths: Path | str, trial: Sequence[Path] = (), known: Sequence[str] = ()) -> Settings:
    """Read TOML files (each may hold [deployment], [network] and any number of [city]) and the environment.

    trial: JSON files with policies that are to be in force from the start; known: ids that they may name in `prev_policies`, beside
    those of the configuration. Raises ConfigurationError with all problems. A
    city's relative paths are relative to its file.
    """
    parts = _Parts()
    for path in paths:
        _read_file(Path(path), parts)
    return _finish(parts, Trial(tuple(trial), tuple(known)))


def loads(text: str, *, folder: Path | None = None, name: str = "configuration") -> Settings:
    """The same from TOML text; `folder` is where its relative paths begin."""
    parts = _Parts()
    _read_text(text, name, folder or Path(), parts)
    return _finish(parts)


def load_bridge(*paths: Path | str) -> BridgeSettings:
    """Read [deployment] and [webhook] from the same files and the environment: a bridge need not know networks and cities.

    Raises ConfigurationError with all problems.
    """
    parts = _Parts()
    for path in paths:
        _read_file(Path(path), parts)
    parts.problems += environment_typos()
    if "deployment" not in parts.seen:
        parts.deployment = _from_environment(Deployment, {}, "defaults", "deployment", parts)
    if "webhook" not in parts.seen:
        parts.webhook = _from_environment(Webhook, {}, "environment", "webhook", parts)
    if parts.deployment:
        parts.problems += check_deployment(parts.deployment)
    if parts.webhook:
        parts.problems += check_webhook(parts.webhook, "webhook")
    if parts.problems or not parts.deployment or not parts.webhook:
        raise configuration_error(parts.problems)
    deployment = parts.deployment
    names = Topics(deployment.topic_prefix, deployment.app_id, deployment.changelog_pattern)
    return BridgeSettings(deployment, names, parts.webhook)


def _read_file(path: Path, parts: _Parts) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        parts.problems.append(
            Problem(str(path), f"cannot be read ({error.strerror})", "", "Give --config the path of a TOML file.")
        )
    except UnicodeDecodeError:
        parts.problems.append(Problem(str(path), "is not UTF-8 text", "", "Give --config the path of a TOML file."))
    else:
        _read_text(text, str(path), path.parent, parts)


def _read_text(text: str, file: str, folder: Path, parts: _Parts) -> None:
    try:
        tables = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, ArithmeticError) as error:
        parts.problems.append(Problem(file, f"is not TOML ({error})", "", "Repair it at the place that is named."))
        return
    for key, value in tables.items():
        if key not in TABLES:
            parts.problems.append(Problem(f"{file}: {key}", "is not a known table", "", nearest(key, TABLES)))
        elif key == "city":
            _read_cities(value, file, folder, parts)
        elif key in parts.seen:
            rule = f"is in {parts.seen[key]} too"
            parts.problems.append(Problem(f"{file}: {key}", rule, "", "Keep one of the two."))
        else:
            parts.seen[key] = file
            if key == "network":
                parts.network = _validated(NetworkTable, value, file, "network", folder, parts)
            elif key == "webhook":
                parts.webhook = _from_environment(Webhook, value, file, "webhook", parts)
            else:
                parts.deployment = _from_environment(Deployment, value, file, "deployment", parts)


def _read_cities(value: Any, file: str, folder: Path, parts: _Parts) -> None:
    """[city] or several [[city]]."""
    tables = value if isinstance(value, list) else [value]
    for number, table in enumerate(tables, 1):
        where = f"city[{number}]" if len(tables) > 1 else "city"
        parts.city_tables += 1
        city = _validated(CityTable, table, file, where, folder, parts)
        if city:
            parts.cities.append(city)
            parts.problems += check_city(city, f"{file}: {where}")


def _validated(model: type[_Model], value: Any, file: str, table: str, folder: Path, parts: _Parts) -> _Model | None:
    try:
        return model.model_validate(value, context=folder)
    except ValidationError as error:
        parts.problems += translate(error, file=file, table=table, model=model)
        return None


def _from_environment(
    model: type[_FromEnvironment], table: Any, file: str, name: str, parts: _Parts
) -> _FromEnvironment | None:
    """A table whose keys may also come from the environment, and whose secrets must."""
    if not isinstance(table, dict):
        parts.problems.append(Problem(f"{file}: {name}", "must be a table", "", f"Write [{name}]."))
        return None
    for key in model.secrets:
        if table.pop(key, None) is not None:
            variable = str(model.model_config["env_prefix"]) + key.upper()
            parts.problems.append(
                Problem(f"{file}: {name}.{key}", "is a secret and must not stand in a file", "", f"Set {variable}.")
            )
    try:
        return model(**table)
    except ValidationError as error:
        parts.problems += translate(error, file=file, table=name, model=model)
        return None


def _finish(parts: _Parts, trial: Trial | None = None) -> Settings:
    """Checks between the tables, then the values."""
    parts.problems += environment_typos()
    if "deployment" not in parts.seen:
        parts.deployment = _from_environment(Deployment, {}, "defaults", "deployment", parts)
    if parts.deployment:
        parts.problems += check_deployment(parts.deployment)
    if "network" not in parts.seen:
        parts.problems.append(
            Problem("network", "is missing", "", "Give --config a file with a [network] table; see examples/city.toml.")
        )
    if not parts.city_tables:
        parts.problems.append(
            Problem("city", "is missing", "", "Give --config a file with a [city] table; see examples/city.toml.")
        )
    if parts.network:
        parts.problems += check_network(parts.network, f"{parts.seen['network']}: network")
        parts.problems += check_cities(parts.cities, parts.network)
        library = read_library(parts.network, parts.cities, trial or Trial(), parts.problems)
        parts.problems += check_policies(library, parts.cities)
    if parts.problems or not parts.network or not parts.deployment:
        raise configuration_error(parts.problems)
    settings = _build(parts.deployment, parts.network, parts.cities, library)
    problems = list(check_topics(settings))
    if problems:
        raise configuration_error(problems)
    return settings


def _build(deployment: Deployment, network: NetworkTable, cities: Sequence[CityTable], library: Library) -> Settings:
    feeds = tuple(_feed(feed, network) for feed in sorted(network.feeds, key=lambda feed: feed.topic))
    topics = Topics(deployment.topic_prefix, deployment.app_id, deployment.changelog_pattern)
    # Feeds first: an operator that is added may add a control topic, and numbers of feeds stand in rosters.
    of_feeds = tuple(sorted((feed.topic, partition) for feed in feeds for partition in range(feed.partitions)))
    timeline = build_timeline(network, cities, library, feeds=feeds, sources=of_feeds)
    controls = tuple(sorted(_controls(network, topics, timeline.operators), key=lambda control: control.topic))
    return Settings(
        deployment=deployment,
        timeline=timeline,
        feeds=feeds,
        controls=controls,
        sources=of_feeds + tuple((control.topic, 0) for control in controls),
        facts_partition={city.name: city.partition for city in cities},
        city_partitions=max(city.partition for city in cities) + 1,
        topics=topics,
        library=library,
    )


def _controls(network: NetworkTable, topics: Topics, operators: Iterable[str]) -> Iterator[ControlSettings]:
    """operators: of all versions."""
    if network.control.policies:
        yield ControlSettings(topics.policies, "policy")
    if network.control.responses:
        yield from (ControlSettings(topics.responses(name), "response", name) for name in operators)


def _feed(feed: FeedTable, network: NetworkTable) -> FeedSettings:
    """Who the providers are decides what a feed in MDS says, so it is part of that feed, and of what is hashed."""
    providers = tuple(sorted((provider, name) for name, provider in network.providers.items())) if feed.format == "mds" else ()
    return FeedSettings(feed.topic, feed.operator, feed.coordinates, feed.format, feed.partitions, providers)
