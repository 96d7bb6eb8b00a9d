"""Records of the ledger: the four kinds, their canonical bytes, and the hash chain that holds them in order.

Frame = length (4 bytes, big-endian) || body || head (32 bytes), with head = H("ledger-record", previous head, index,
body). A head therefore binds its index and everything before it, and is what an anchor, a SharePackage and a witness
hold. Floats are stored as their exact hexadecimal text, because the canonical encoding has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from fedward.errors import IntegrityError
from fedward.messages import MalformedMessageError, Value, decode, encode, labelled_hash
from fedward.privacy.events import Event, PrivacyParameterError, SamplerMismatchError
from fedward.units import UNITS, UnitName

HEAD_BYTES = 32
BEFORE_FIRST = bytes(HEAD_BYTES)
MAX_BODY_BYTES = 64 * 1024 * 1024
"""Room for an exact set of two million patients, with as much again to spare."""

_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Link:
    """One record in its place in the chain."""

    index: int
    head: bytes
    body: bytes

    @property
    def frame(self) -> bytes:
        """The bytes on disk."""
        return len(self.body).to_bytes(_LENGTH_BYTES, "big") + self.body + self.head


def follow(links: Sequence[Link], body: bytes) -> Link:
    """The link that puts ``body`` after ``links``."""
    previous = links[-1].head if links else BEFORE_FIRST
    return Link(len(links), labelled_hash("ledger-record", previous, len(links), body), body)


def read_frames(data: bytes) -> tuple[list[Link], int]:
    """Parses the longest intact beginning of a chain.

    Returns:
        The links, and how many bytes they take; whatever follows is torn or altered.
    """
    links: list[Link] = []
    position = 0
    while True:
        start = position + _LENGTH_BYTES
        size = int.from_bytes(data[position:start], "big")
        end = start + size + HEAD_BYTES
        if size > MAX_BODY_BYTES or end > len(data):
            return links, position
        link = follow(links, data[start : start + size])
        if link.head != data[start + size : end]:
            return links, position
        links.append(link)
        position = end


FORMAT = 2
PATIENT_BYTES = 16

T = TypeVar("T")


@dataclass(frozen=True)
class Genesis:
    """The first record: the terms of the whole ledger.

    Attributes:
        site: whose ledger it is.
        namespace: identity of the patient-id namespace and its key, or empty: then every event counts for everyone.
        delta: at which every epsilon is stated.
        cap_epsilon: what no unit may exceed over the lifetime of the ledger.
        unit: whose exposure the ledger prices.
        format: 1 for a ledger of fedward 0.1, whose first record names no unit: it is of patients.
    """

    site: str
    namespace: bytes
    delta: float
    cap_epsilon: float
    unit: UnitName = "patient"
    format: int = FORMAT


@dataclass(frozen=True)
class PatientSet:
    """An exact set of patients that later records refer to by index: sorted 16-byte HMACs, one after the other."""

    ids: bytes


@dataclass(frozen=True)
class Reservation:
    """One round of one run, charged before its first noisy step.

    Attributes:
        run: identifier of the run, never used for another run.
        plan_hash: the approved plan.
        round_number: the round.
        split: identity of the keyed split into training and evaluation patients.
        training: what each training patient is exposed to.
        evaluation: what each evaluation patient is exposed to.
        training_patients: index of the exact set of training patients; None counts for everyone.
        evaluation_patients: the same for evaluation patients.
        at: seconds since 1970 by the site's clock; for people, no check depends on it.
        index: place in the chain.
        head: hash of the chain up to this record.
        settled: whether the round's output has left the hospital.
    """

    run: str
    plan_hash: bytes
    round_number: int
    split: bytes
    training: tuple[Event, ...]
    evaluation: tuple[Event, ...] = ()
    training_patients: int | None = None
    evaluation_patients: int | None = None
    at: int = field(default=0, compare=False)
    index: int = field(default=-1, compare=False)
    head: bytes = field(default=b"", compare=False)
    settled: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Settlement:
    """The output of a reserved round has left; the price does not change."""

    reservation: int


Record: TypeAlias = "Genesis | PatientSet | Reservation | Settlement"


def to_bytes(record: Record) -> bytes:
    """Returns the canonical body of a record."""
    match record:
        case Genesis():
            terms: dict[str, Value] = {
                "kind": "genesis",
                "format": record.format,
                "site": record.site,
                "namespace": record.namespace,
                "delta": record.delta.hex(),
                "cap": record.cap_epsilon.hex(),
            }
            return encode(terms if record.format == 1 else terms | {"unit": record.unit})
        case PatientSet():
            return encode({"kind": "patients", "ids": record.ids})
        case Settlement():
            return encode({"kind": "settle", "reservation": record.reservation})
        case Reservation():
            return encode(
                {
                    "kind": "reserve",
                    "run": record.run,
                    "plan": record.plan_hash,
                    "round": record.round_number,
                    "split": record.split,
                    "training": _events_to_values(record.training),
                    "evaluation": _events_to_values(record.evaluation),
                    "training_patients": record.training_patients,
                    "evaluation_patients": record.evaluation_patients,
                    "at": record.at,
                }
            )


def from_bytes(body: bytes) -> Record:
    """Parses a body.

    Raises:
        IntegrityError: FW-LEDGER-001, not a record that this version writes.
    """
    try:
        value = decode(body, limit=MAX_BODY_BYTES)
        record = _from_value(value)
        if to_bytes(record) != body:
            raise IntegrityError("A ledger record holds more than this version knows.", code="FW-LEDGER-001")
    except (
        MalformedMessageError,
        PrivacyParameterError,
        SamplerMismatchError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        AttributeError,
    ) as error:
        raise IntegrityError(
            "A ledger record does not have the form this version writes.", code="FW-LEDGER-001"
        ) from error
    return record


def _from_value(value: Any) -> Record:
    match value["kind"]:
        case "genesis":
            form = _typed(value["format"], int)
            if form not in (1, FORMAT):
                raise ValueError("unknown format of a ledger")
            return Genesis(
                _typed(value["site"], str),
                _typed(value["namespace"], bytes),
                float.fromhex(value["delta"]),
                float.fromhex(value["cap"]),
                "patient" if form == 1 else UNITS[_typed(value["unit"], str)].name,
                form,
            )
        case "patients":
            ids = _typed(value["ids"], bytes)
            if ids != b"".join(sorted(set(split_ids(ids)))):
                raise ValueError("a set of patients is sorted and has each once")
            return PatientSet(ids)
        case "settle":
            return Settlement(_typed(value["reservation"], int))
        case "reserve":
            return Reservation(
                run=_typed(value["run"], str),
                plan_hash=_typed(value["plan"], bytes),
                round_number=_typed(value["round"], int),
                split=_typed(value["split"], bytes),
                training=_events_from_values(value["training"]),
                evaluation=_events_from_values(value["evaluation"]),
                training_patients=_index(value["training_patients"]),
                evaluation_patients=_index(value["evaluation_patients"]),
                at=_typed(value["at"], int),
            )
    raise ValueError("unknown kind of record")


def split_ids(ids: bytes) -> list[bytes]:
    """Cuts a set into its 16-byte identifiers."""
    if len(ids) % PATIENT_BYTES:
        raise ValueError("a set of patients is a whole number of identifiers")
    return [ids[i : i + PATIENT_BYTES] for i in range(0, len(ids), PATIENT_BYTES)]


def _typed(value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError("a field of a ledger record has the wrong type")
    return value


def _index(value: object) -> int | None:
    return None if value is None else _typed(value, int)


def _events_to_values(events: Sequence[Event]) -> list[Value]:
    return [
        [
            event.kind,
            float(event.noise_multiplier).hex(),
            float(event.sampling_rate).hex(),
            int(event.steps),
            event.sampler,
            float(event.sampler_distance).hex(),
        ]
        for event in events
    ]


def _events_from_values(values: Any) -> tuple[Event, ...]:
    events = []
    for kind, noise, rate, steps, sampler, distance in _typed(values, list):
        if kind not in ("dpsgd", "release"):
            raise ValueError("unknown kind of event")
        events.append(
            Event(
                kind,
                float.fromhex(noise),
                float.fromhex(rate),
                _typed(steps, int),
                _typed(sampler, str),
                float.fromhex(distance),
            )
        )
    return tuple(events)
