"""The policies of a city's versions: files that name each other put together, and whatever does not fit told at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geo.policy import Geography, Policy, without_replaced
from streams.settings.documents import Documents, GeographyDocument, PolicyDocument, read_documents
from streams.settings.models import CityTable, CityVersion, NetworkTable
from streams.settings.problems import Problem, nearest, shown


@dataclass(frozen=True, slots=True)
class Trial:
    """Files whose policies are in force from the start, in every city, in place of those with the same ids."""

    paths: tuple[Path, ...] = ()
    known: tuple[str, ...] = ()  # ids of policies that came from their topic


@dataclass(frozen=True, slots=True)
class Library:
    """All documents that the configuration names, by file, and who the providers are."""

    files: Mapping[Path, Documents]
    operator_of: Mapping[str, str]  # operator by its name or provider id
    trial: Trial = field(default_factory=Trial)

    def policies(self, paths: Sequence[Path]) -> tuple[Policy, ...]:
        """Those that may ever be in force, in order."""
        trial = {document.policy_id: document for _, document in self.named_policies(self.trial.paths)}
        configured = [document for _, document in self.named_policies(paths) if document.policy_id not in trial]
        values = [document.value(self._operators(document)) for document in configured]
        values += [document.value(self._operators(document), from_the_start=True) for document in trial.values()]
        return without_replaced(values)

    def geographies(self, paths: Sequence[Path], policies: Iterable[Policy]) -> tuple[Geography, ...]:
        """Those that the policies' rules name, by id."""
        known = {document.geography_id: document for _, document in self.named_geographies((*paths, *self.trial.paths))}
        named = {name for policy in policies for rule in policy.rules for name in rule.geographies}
        return tuple(known[name].value() for name in sorted(named))

    def named_policies(self, paths: Sequence[Path]) -> Iterator[tuple[str, PolicyDocument]]:
        """(where it stands, policy) of all in some files."""
        for path in paths:
            yield from self.files[path].policies.items()

    def named_geographies(self, paths: Sequence[Path]) -> Iterator[tuple[str, GeographyDocument]]:
        for path in paths:
            yield from self.files[path].geographies.items()

    def _operators(self, document: PolicyDocument) -> tuple[str, ...]:
        return tuple(sorted({self.operator_of[name] for name in document.provider_ids}))


def read_library(network: NetworkTable, cities: Sequence[CityTable], trial: Trial, problems: list[Problem]) -> Library:
    """Read every file once; what is wrong in any of them goes to `problems`."""
    tables: list[CityTable | CityVersion] = [*cities, *(version for city in cities for version in city.versions)]
    paths = [path for table in tables for path in (*(table.policies or ()), *(table.geographies or ()))]
    files = {path: read_documents(path, problems) for path in dict.fromkeys([*paths, *trial.paths])}
    operators = {*network.operators}.union(*(version.operators or () for version in network.versions))
    operator_of = {name: name for name in operators} | {provider: name for name, provider in network.providers.items()}
    return Library(files, operator_of, trial)


def check_policies(library: Library, cities: Sequence[CityTable]) -> Iterator[Problem]:
    """Every version of every city by itself."""
    told: set[Problem] = set()
    for city in cities:
        for problem in _of_city(library, city):
            if problem not in told:
                told.add(problem)
                yield problem


def _of_city(library: Library, city: CityTable) -> Iterator[Problem]:
    policies, geographies, rules = city.policies, city.geographies, city.rules
    own = [rule.policy or city.name for rule in rules]
    yield from _of_version(library, policies, geographies, city=city.name, own=own)
    for version in city.versions:
        policies = policies if version.policies is None else version.policies
        geographies = geographies if version.geographies is None else version.geographies
        rules = rules if version.rules is None else version.rules
        own = [rule.policy or city.name for rule in rules]
        yield from _of_version(library, policies, geographies, city=city.name, own=own)


def _of_version(
    library: Library, policies: Sequence[Path], geographies: Sequence[Path], *, city: str, own: Sequence[str]
) -> Iterator[Problem]:
    trial = library.trial.paths
    for paths in (policies, trial):
        yield from _twice("policy_id", ((w, d.policy_id) for w, d in library.named_policies(paths)), own)
    for paths in (geographies, trial):
        yield from _twice("geography_id", ((w, d.geography_id) for w, d in library.named_geographies(paths)), ())
    zones = {document.geography_id: document for _, document in library.named_geographies((*geographies, *trial))}
    documents = [*library.named_policies(policies), *library.named_policies(trial)]
    known = {document.policy_id for _, document in documents}.union(library.trial.known)
    for where, document in documents:
        yield from _references(library, where, document, zones)
        for name in document.prev_policies:
            if name not in known or name == document.policy_id:
                remedy = f"{nearest(name, known - {document.policy_id})} Or leave it out: it is not in force here."
                yield Problem(f"{where}.prev_policies", f"must name other policies of the city {city}", shown(name), remedy)


def _references(
    library: Library, where: str, document: PolicyDocument, zones: Mapping[str, GeographyDocument]
) -> Iterator[Problem]:
    """What a policy names that is not there, or is not fit for it."""
    for name in document.provider_ids:
        if name not in library.operator_of:
            remedy = f"{nearest(name, library.operator_of)} Or add it to network.providers."
            yield Problem(f"{where}.provider_ids", "must be an operator or its provider id", shown(name), remedy)
    yield from misfits(where, document, zones)


def misfits(where: str, document: PolicyDocument, zones: Mapping[str, GeographyDocument]) -> Iterator[Problem]:
    """Geographies that a policy names and that are not there, or are not fit for it."""
    for number, rule in enumerate(document.rules, 1):
        for name in rule.geographies:
            place, zone = f"{where}.rules[{number}].geographies", zones.get(name)
            if zone is None:
                yield Problem(place, "must be a geography of the city", shown(name), nearest(name, zones))
            elif not zone.geography_json:
                remedy = "Name a geography of polygons: nothing can stand in points or lines."
                yield Problem(place, "must be a geography with an area", shown(name), remedy)
            elif rule.urban_brain.capacity is not None and zone.urban_brain.capacity is None:
                remedy = 'Give the geography "urban_brain": {"capacity": 20}, or the rule a maximum.'
                yield Problem(place, "must be a geography with a capacity", shown(name), remedy)


def _twice(what: str, named: Iterable[tuple[str, str]], taken: Iterable[str]) -> Iterator[Problem]:
    seen = set(taken)
    for where, name in named:
        if name in seen:
            yield Problem(f"{where}.{what}", "must be one of its own in the city", shown(name), "Rename one of the two.")
        seen.add(name)
