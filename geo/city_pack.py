"""A city's state written down and read back: arrays and bytes, nothing of this process in them.

Operators stand in it by name, slots of bikes and of pairs are renumbered: 0, 1, 2… of those that are worth keeping.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from geo.alert import Haul
from geo.counts import NOWHERE, Counts
from geo.decrees import Decree, Decrees, Refusal, decree_of
from geo.degraded import Lapse
from geo.episodes import Episode, Phase
from geo.handling import NEVER, STATUSES, Handling, Response
from geo.held import Held
from geo.incidents import Incident
from geo.layers import Cells
from geo.outages import ALL_OPERATORS, Outage
from geo.rebalancing import Hauls, Pending
from geo.roster import ROW, Key, Roster
from geo.silence import Packed, Silence

if TYPE_CHECKING:
    from geo.city import CityState

_EPISODE = (
    "phase",
    "over_since",
    "below_since",
    "opened",
    "since",
    "until",
    "due",
    "sequence",
    "last_event",
    "excess",
    "tells_all",
)
_LAPSE = ("operator", "opened", "before", "after", "sequence", "last_event")
_HANDLING = ("responded", "at", "news")
_OUTAGE = ("operator", "opened", "threshold_ms", "sequence", "last_event")

OfFeed = TypeVar("OfFeed", Outage, Lapse)


def pack(city: CityState) -> Packed:
    """The whole state. Cost follows the bikes held: 0.2 s for a million."""
    packed: Packed = {}
    _put(packed, "silence", city.silence.pack())
    _put(packed, "roster", city.ground.roster.pack())
    _put(packed, "density", city.density.pack())
    _put(packed, "reports", city.reports.pack())
    _put(packed, "outages", _pack_of_feeds(city.outages.open.values(), _OUTAGE))
    _put(packed, "plan", _pack_plan(city.rebalancing.pending))
    _put(packed, "decrees", _pack_decrees(city.decrees))
    _put(packed, "refusals", _pack_refusals(list(city.decrees.refusals.values())))
    held = city.ground.roster.rows["held"].copy()
    _put(packed, "held", city.ground.held.pack(held))
    _put(packed, "lapses", _pack_of_feeds(city.degraded.open.values(), _LAPSE))
    for key, counts in city.ground.tables.items():
        watches = [watch for watch in city.watches if watch.key == key]
        keep = np.logical_or.reduce([counts.count[: counts.size] > 0, *(watch.tracked() for watch in watches)])
        new = np.full(counts.size + 1, NOWHERE, np.int32)
        new[:-1][keep] = np.arange(np.count_nonzero(keep), dtype=np.int32)
        packed[f"{_place(key)}/codes"] = counts.codes[: counts.size][keep]
        packed[f"{_place(key)}/operators"] = counts.operators[: counts.size][keep]
        packed[f"{_place(key)}/pairs"] = new[city.ground.roster.pairs[key][: len(held)][held]]
        for watch in watches:
            index = city.watches.index(watch)
            of = {pair: int(new[pair]) for pair in watch.episodes}
            _put(packed, f"watch/{index}", _pack_episodes({of[pair]: e for pair, e in watch.episodes.items()}))
            _put(packed, f"incidents/{index}", _pack_incidents(watch.incidents.moved(of)))
    packed["city"] = orjson.dumps(
        {
            "name": city.name,
            "layout": ROW.descr,
            "tick_ms": city.timeline.tick_ms,
            "done": city.done,
            "begun": city.begun,
            "settled": sorted(city.decrees.settled),
            "operators": city.timeline.operators,
            "resolutions": [key for key in city.ground.tables if isinstance(key, int)],
            "policies": [key for key in city.ground.tables if isinstance(key, str)],
            "kinds": [watch.measure.kind for watch in city.watches],
            "rules": city.rulebook.named(city.ruled, city.silence.now) if city.begun else [],
        }
    )
    return packed


def restore(city: CityState, packed: Packed) -> None:
    """Give a new city the state that was packed."""
    head = orjson.loads(_bytes(packed, "city"))
    _refuse_a_stranger(city, head)
    city.done = head["done"]
    city.decrees.settled = set(head["settled"])
    city.decrees.decrees = list(_unpack_decrees(city, _part(packed, "decrees")))
    city.decrees.refusals = {one.policy_id: one for one in _unpack_refusals(_part(packed, "refusals"))}
    if not head["begun"]:
        return
    index = _operators_now(city, head["operators"])
    city.begun = True
    city.silence = Silence.restore(_part(packed, "silence"), city.timeline.tick_ms, index, len(city.timeline.operators))
    city.follow(city.timeline.index_at(city.silence.now))
    city.rule(city.silence.now)
    city.silence.override(city.silent_after_ms())
    roster = _part(packed, "roster")
    city.ground.roster = Roster.restore(roster, index[_array(roster, "operators")].astype(np.int16))
    rows = city.ground.roster.rows
    city.ground.expiry.file(city.ground.roster.operators, np.arange(len(rows)), rows["spoken"])
    city.ground.recount_fleets()
    for resolution in head["resolutions"]:
        city.ground.layers[resolution] = Cells(resolution)
        city.ground.tables[resolution] = _restore_counts(city.ground.roster, resolution, packed, index)
    counts = {key: _restore_counts(city.ground.roster, key, packed, index) for key in head["policies"]}
    _restore_watches(city, packed, counts, head)
    city.density.restore(_part(packed, "density"), index)
    city.reports.restore(_part(packed, "reports"))
    city.rebalancing.pending = _unpack_plan(_part(packed, "plan"))
    for outage in _unpack_of_feeds(_part(packed, "outages"), Outage, _OUTAGE):
        if outage.operator != ALL_OPERATORS:
            outage.operator = int(index[outage.operator])
        city.outages.open[outage.operator] = outage
    city.ground.held = Held.restore(_part(packed, "held"), index, len(city.timeline.operators))
    for lapse in _unpack_of_feeds(_part(packed, "lapses"), Lapse, _LAPSE):
        lapse.operator = int(index[lapse.operator])
        city.degraded.open[lapse.operator] = lapse


def _refuse_a_stranger(city: CityState, head: dict[str, Any]) -> None:
    if head["layout"] != [list(field) for field in ROW.descr]:
        raise ValueError("the state was made by another version of the program; read the log again from its start")
    for what, packed, now in (("city", head["name"], city.name), ("tick_ms", head["tick_ms"], city.timeline.tick_ms)):
        if packed != now:
            raise ValueError(f"the state is of another log: its {what} is {packed}, the configuration says {now}")


def _operators_now(city: CityState, names: list[str]) -> NDArray[np.int64]:
    """Where each operator that was packed is now: int64 (n,)."""
    known = {name: number for number, name in enumerate(city.timeline.operators)}
    if lost := [name for name in names if name not in known]:
        raise ValueError(
            f"the state of city {city.name} knows operators that no configuration version allows: {', '.join(lost)}. "
            "Keep the version that allowed them, and add one that does not"
        )
    return np.array([known[name] for name in names], np.int64)


def _place(key: Key) -> str:
    """Where the counts of a layer stand: a policy may be called 9."""
    return f"cells/{key}" if isinstance(key, int) else f"policies/{key}"


def _restore_counts(roster: Roster, key: Key, packed: Packed, index: NDArray[np.int64]) -> Counts:
    part = _part(packed, _place(key))
    codes, pairs = _array(part, "codes"), _array(part, "pairs")
    operators = index[_array(part, "operators")].astype(np.int16)
    roster.pairs[key] = pairs.astype(np.int32, copy=True)
    count = np.bincount(pairs[pairs != NOWHERE], minlength=len(codes)).astype(np.int32)
    return Counts.restore(codes, operators, count)


def _restore_watches(city: CityState, packed: Packed, counts: dict[str, Counts], head: dict[str, Any]) -> None:
    city.rulebook.restore(city.ruled, city.silence.now, counts)
    named = city.rulebook.named(city.ruled, city.silence.now)
    if named != head["rules"] or [watch.measure.kind for watch in city.watches] != head["kinds"]:
        raise ValueError(
            f"the state of city {city.name} was judged by the rules {', '.join(head['rules']) or 'none'}, the configuration in "
            f"force then has {', '.join(named) or 'none'}, or others of these names. "
            "A version that is in force already must not be changed: add one"
        )
    for number, watch in enumerate(city.watches):
        incidents = _unpack_incidents(_part(packed, f"incidents/{number}"))
        watch.adopt(_unpack_episodes(_part(packed, f"watch/{number}")), incidents)


def _pack_episodes(episodes: dict[int, Episode]) -> Packed:
    rows = [[pair, *(int(getattr(e, name)) for name in _EPISODE), *e.left] for pair, e in episodes.items()]
    texts = [text for e in episodes.values() for text in (e.severity.encode(), e.state.encode(), e.body)]
    hauls = _pack_hauls([some for e in episodes.values() for some in (e.hauls, e.told)])
    packed: Packed = _join(texts)
    packed |= {"numbers": np.array(rows, np.int64), "hauls": hauls}
    _put(packed, "handling", _pack_handlings([e.handling for e in episodes.values()]))
    return packed


def _unpack_episodes(packed: Packed) -> dict[int, Episode]:
    texts = iter(_split(packed))
    episodes = {}
    hauls, handlings = _unpack_hauls(packed), _unpack_handlings(_part(packed, "handling"))
    for number, (pair, phase, *numbers) in enumerate(_array(packed, "numbers").tolist()):
        values = dict(zip(_EPISODE[1:], numbers, strict=False))
        left = numbers[len(_EPISODE) - 1 :]
        severity, state, body = next(texts).decode(), next(texts).decode(), next(texts)
        now, told = hauls.get(2 * number, ()), hauls.get(2 * number + 1, ())
        episode = Episode(
            phase=Phase(phase), left=left, severity=severity, state=state, body=body, hauls=now, told=told, **values
        )
        episode.handling = next(handlings)
        episodes[pair] = episode
    return episodes


def _pack_handlings(handlings: Sequence[Handling]) -> Packed:
    said = [one.response or Response("") for one in handlings]
    statuses = [STATUSES.index(one.status) if one.status else -1 for one in said]
    etas = [NEVER if one.eta_ms is None else one.eta_ms for one in said]
    rows = [
        [*(int(getattr(one, name)) for name in _HANDLING), *one.escalated, status, eta]
        for one, status, eta in zip(handlings, statuses, etas, strict=True)
    ]
    packed = _join([(one.reason or "").encode() for one in said])
    return packed | {"numbers": np.array(rows, np.int64)}


def _unpack_handlings(packed: Packed) -> Iterator[Handling]:
    for (responded, at, news, *escalated, status, eta), reason in zip(
        _array(packed, "numbers").tolist(), _split(packed), strict=True
    ):
        said = Response(STATUSES[status], None if eta == NEVER else eta, reason.decode() or None) if status >= 0 else None
        yield Handling(responded, said, at, bool(news), escalated)


def _pack_incidents(incidents: Sequence[Incident]) -> Packed:
    """Founding cells; (number, pair) of the cells that each has; (number, cell) of those that it was told with."""
    episodes = [incident.episode for incident in incidents]
    pairs = [(number, pair) for number, incident in enumerate(incidents) for pair in incident.pairs]
    told = [(number, cell) for number, episode in enumerate(episodes) for cell in episode.told_cells]
    packed: Packed = {
        "founders": np.array([incident.founder for incident in incidents], np.int64),
        "pairs": np.array(pairs, np.int64).reshape(-1, 2),
        "told": np.array(told, np.int64).reshape(-1, 2),
    }
    _put(packed, "episodes", _pack_episodes(dict(enumerate(episodes))))
    return packed


def _unpack_incidents(packed: Packed) -> Iterator[Incident]:
    pairs, told = _array(packed, "pairs"), _array(packed, "told")
    episodes = _unpack_episodes(_part(packed, "episodes"))
    for number, founder in enumerate(_array(packed, "founders").tolist()):
        mine, cells = pairs[pairs[:, 0] == number, 1], told[told[:, 0] == number, 1]
        episodes[number].told_cells = tuple(cells.tolist())
        yield Incident(founder, tuple(mine.tolist()), episodes[number])


def _pack_plan(pending: Pending | None) -> Packed:
    """One that does not act yet; those that do stand in the episodes."""
    plan = pending or Pending(-1, {})
    texts = _join([name.encode() for name in plan.hauls])
    return {"acts_at": np.array([plan.acts_at], np.int64), "hauls": _pack_hauls(list(plan.hauls.values()))} | texts


def _unpack_plan(packed: Packed) -> Pending | None:
    acts_at, hauls = int(_array(packed, "acts_at")[0]), _unpack_hauls(packed)
    if acts_at < 0:
        return None
    return Pending(acts_at, {name.decode(): hauls[number] for number, name in enumerate(_split(packed))})


def _pack_hauls(lists: Sequence[Hauls]) -> NDArray[np.int64]:
    """int64 (n, 6): the number of the list, then a move of it."""
    rows = [(number, *haul) for number, hauls in enumerate(lists) for haul in hauls]
    return np.array(rows, np.int64).reshape(-1, 1 + len(Haul._fields))


def _unpack_hauls(packed: Packed) -> dict[int, Hauls]:
    """By number of the list, those that are not empty."""
    hauls: dict[int, Hauls] = {}
    for number, *haul in _array(packed, "hauls").tolist():
        hauls[number] = (*hauls.get(number, ()), Haul(*haul))
    return hauls


def _pack_of_feeds(episodes: Collection[Outage] | Collection[Lapse], numbers: Sequence[str]) -> Packed:
    rows = [[getattr(episode, name) for name in numbers] for episode in episodes]
    return {"numbers": np.array(rows, np.int64)} | _join([episode.body for episode in episodes])


def _unpack_of_feeds(packed: Packed, kind: type[OfFeed], numbers: Sequence[str]) -> Iterator[OfFeed]:
    for row, body in zip(_array(packed, "numbers").tolist(), _split(packed), strict=True):
        yield kind(**dict(zip(numbers, row, strict=True)), body=body)


def _pack_decrees(decrees: Decrees) -> Packed:
    ticks = np.array([decree.tick for decree in decrees.decrees], np.int64)
    return {"ticks": ticks} | _join([decree.body for decree in decrees.decrees])


def _unpack_decrees(city: CityState, packed: Packed) -> Iterator[Decree]:
    """The documents read again: what they say is in their bytes."""
    for tick, body in zip(_array(packed, "ticks").tolist(), _split(packed), strict=True):
        reading = city.read(body)
        if reading.problems:
            raise ValueError(
                f"the state of city {city.name} holds the policy {reading.policy_id}, which this version of the program can not "
                f"read: {reading.problems[0]} Withdraw it with the version that could"
            )
        yield decree_of(reading, body, tick, city.timeline.tick_ms)


def _pack_refusals(refusals: list[Refusal]) -> Packed:
    rows = [[one.opened, one.sequence, one.last_event] for one in refusals]
    texts = [text for one in refusals for text in (one.policy_id.encode(), one.body)]
    return {"numbers": np.array(rows, np.int64)} | _join(texts)


def _unpack_refusals(packed: Packed) -> Iterator[Refusal]:
    texts = iter(_split(packed))
    for opened, sequence, last_event in _array(packed, "numbers").tolist():
        yield Refusal(next(texts).decode(), opened, sequence, last_event, next(texts))


def _join(texts: list[bytes]) -> Packed:
    return {"text": b"".join(texts), "lengths": np.array([len(text) for text in texts], np.int64)}


def _split(packed: Packed) -> list[bytes]:
    text = _bytes(packed, "text")
    return [text[start:end] for start, end in pairwise(accumulate(_array(packed, "lengths").tolist(), initial=0))]


def _put(packed: Packed, name: str, part: Packed) -> None:
    packed.update({f"{name}/{key}": value for key, value in part.items()})


def _part(packed: Packed, name: str) -> Packed:
    return {key[len(name) + 1 :]: value for key, value in packed.items() if key.startswith(name + "/")}


def _array(packed: Packed, name: str) -> NDArray[Any]:
    value = packed[name]
    assert not isinstance(value, bytes)
    return value


def _bytes(packed: Packed, name: str) -> bytes:
    value = packed[name]
    assert isinstance(value, bytes)
    return value
