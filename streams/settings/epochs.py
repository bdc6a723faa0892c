"""Versions of the network and of the cities -> one timeline of epochs, each with the hash of all that led to it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import orjson

from geo.params import FOR_EVER, SEMANTICS, BikeParams, City, Epoch, Timeline
from streams.settings.localtime import offsets_of
from streams.settings.models import CityTable, CityVersion, NetworkTable, NetworkVersion
from streams.settings.policies import Library
from streams.settings.values import FeedSettings

Source = tuple[str, int]


def build_timeline(
    network: NetworkTable,
    cities: Sequence[CityTable],
    library: Library,
    *,
    feeds: Sequence[FeedSettings],
    sources: Sequence[Source],
) -> Timeline:
    """All epochs. A version is in force from the first tick that starts at or after its `effective_from`."""
    starts = {FOR_EVER}
    starts.update(first_tick(version.effective_from, network.tick) for version in network.versions)
    starts.update(first_tick(version.effective_from, network.tick) for city in cities for version in city.versions)
    starts.update(_begins(city, network.tick) for city in cities)
    epochs: list[Epoch] = []
    # Of control topics only which kinds there are: those of operators come and go with them, by versions.
    control = network.control.model_dump()
    digest = _hash(
        {"semantics": SEMANTICS, "tick_ms": network.tick, "sources": sources, "feeds": map(asdict, feeds), "control": control}
    )
    for start in sorted(starts):
        epoch = _epoch(start, network, cities, library)
        digest = _hash({"before": digest, "epoch": asdict(epoch)})
        epochs.append(Epoch(epoch.from_tick, digest, epoch.bike, epoch.operators, epoch.silent_after_ms, epoch.cities))
    return Timeline(network.tick, tuple(epochs), network.control.responses)


def first_tick(effective_from_ms: int, tick_ms: int) -> int:
    """The first tick whose start is at or after a time."""
    return -(-effective_from_ms // tick_ms)


def _begins(city: CityTable, tick_ms: int) -> int:
    return FOR_EVER if city.effective_from is None else first_tick(city.effective_from, tick_ms)


def _epoch(start: int, network: NetworkTable, cities: Sequence[CityTable], library: Library) -> Epoch:
    """What is in force at the tick `start`, still without its hash."""
    now: dict[str, Any] = {key: getattr(network, key) for key in NetworkVersion.model_fields if key != "effective_from"}
    _overlay(now, network.versions, start, network.tick)
    operators = tuple(sorted(now["operators"]))
    bike = BikeParams(
        ttl_ms=now["ttl"],
        future_ms=now["future"],
        max_accuracy_mm=now["max_accuracy_m"],
        max_speed_mm_s=now["max_speed_m_s"],
    )
    silent_after = tuple(sorted((name, ms) for name, ms in now["silent_after"].items() if name in operators))
    there = [city for city in sorted(cities, key=lambda city: city.name) if _begins(city, network.tick) <= start]
    versions = [(city, _version(city, start, network.tick)) for city in there]
    known = tuple(_city(city, now, operators, library) for city, now in versions)
    return Epoch(start, "", bike, operators, silent_after, known)


def _version(city: CityTable, start: int, tick_ms: int) -> dict[str, Any]:
    """What a city's keys say at the tick `start`."""
    now: dict[str, Any] = {key: getattr(city, key) for key in CityVersion.model_fields if key != "effective_from"}
    _overlay(now, city.versions, start, tick_ms)
    return now


def _city(city: CityTable, now: dict[str, Any], allowed: tuple[str, ...], library: Library) -> City:
    watched = allowed if now["operators"] is None else tuple(sorted(set(now["operators"]) & set(allowed)))
    rules = tuple(rule.value(city.name) for rule in now["rules"])
    policies = library.policies(now["policies"])
    return City(
        name=city.name,
        partition=city.partition,
        time_zone=now["time_zone"],
        boundary=now["boundary"],
        rules=rules,
        operators=watched,
        policies=policies,
        geographies=library.geographies(now["geographies"], policies),
        offsets=offsets_of(now["time_zone"]),
        density_interval_ms=now["density_interval"],
        planning=now["planning"].value(),
        degraded_hold_ms=now["degraded_hold"],
        degraded_fewest=now["degraded_fewest"],
    )


def _overlay(now: dict[str, Any], versions: Sequence[NetworkVersion | CityVersion], start: int, tick_ms: int) -> None:
    """Put every version that is in force at `start` over `now`, oldest first."""
    for version in versions:
        if first_tick(version.effective_from, tick_ms) <= start:
            now.update({key: value for key in now if (value := getattr(version, key)) is not None})


def _hash(value: object) -> str:
    """sha256 of canonical JSON. It goes into frames and snapshots, so it must be the same on every machine.

    Each epoch's hash has the hash before it inside: a version that is slipped in before an epoch changes that epoch's
    hash too, and one that is added after it does not.
    """
    return hashlib.sha256(orjson.dumps(value, default=_plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, map):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")
