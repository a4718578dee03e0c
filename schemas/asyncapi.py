"""The contract for other languages: an AsyncAPI document, derived from the words and nothing else.

`python -m schemas.asyncapi` writes ``schemas/asyncapi.json``; a test compares the two.
"""

import functools
import inspect
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from schemas.audit import (
    DecidedRecord,
    ExecutedRecord,
    HeadRecord,
    HearingRecord,
    LoginOutcome,
    LoginRecord,
    ParkedRecord,
    RefusedRecord,
)
from schemas.commit import Commit
from schemas.grammar import Report, kind_and_verb, type_name
from schemas.live import Heartbeat
from schemas.plan import PLAN, Forecast, WhatIf
from schemas.queries import ROWS, Behind, Page, Query
from schemas.upkeep import Job, WhichJob, Work, WorkKind
from schemas.views import Row
from schemas.words import ANSWERS, EVENTS, KINDS, every_command

DOCUMENT = Path(__file__).with_name("asyncapi.json")
Json = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_ON_A_NODE = ("pool", "replica", "attachment", "errand")
_ANSWERS = tuple(answer.__name__ for answer in ANSWERS)
_JOB_ANSWERS = ("JobPage", "Refused")
_PLAN_ANSWERS = ("ForecastPage", "Refused", "Behind")
_AUDIT: dict[str, tuple[type[msgspec.Struct], str]] = {
    "refused": (RefusedRecord, "kind"),
    "decided": (DecidedRecord, "kind"),
    "executed": (ExecutedRecord, "node"),
    "parked": (ParkedRecord, "consumer"),
    "head": (HeadRecord, "key"),
    "head-audit": (HeadRecord, "key"),
    "login": (LoginRecord, "outcome"),
    "hearing": (HearingRecord, "what"),
}
_PARAMETERS: Json = {
    "node": {"description": "The name of a node."},
    "place": {"description": "The name of the node it lives on."},
    "id": {"description": "The name or id of the object."},
    "kind": {"description": "What it is about.", "enum": list(KINDS)},
    "verb": {"description": "The middle part of the word: provision, grow, cancel."},
    "consumer": {"description": "Who could not read the message."},
    "key": {"description": "The first 16 digits of the public key that signed."},
    "outcome": {
        "description": "What became of the connection.",
        "enum": [one.value for one in LoginOutcome],
    },
    "what": {"description": "What is heard, or is not.", "enum": ["logins"]},
    "instance": {"description": "The process that works on its views: as `ask` of the job says."},
}
_LABEL = {"type": "string", "maxLength": 128, "pattern": "^[!-~]+$"}
_HEADERS: Json = {
    "type": "object",
    "required": ["Hwbus-Command-Id", "Hwbus-Actor"],
    "properties": {
        "Hwbus-Command-Id": {
            **_LABEL,
            "description": "Made by the sender, once a wish. The same id again is the same wish.",
        },
        "Hwbus-Actor": {**_LABEL, "description": "Who asks."},
        "Hwbus-Expected-Version": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "Decide only if the object has exactly so many commits.",
        },
        "Hwbus-Correlation": {**_LABEL, "description": "The operation this belongs to."},
        "Hwbus-Cause": {**_LABEL, "description": "command:<id> or event:<sequence>."},
        "traceparent": {"type": "string", "description": "W3C trace context."},
    },
}


def document() -> Json:
    """Return the whole AsyncAPI 3.0 document."""
    parts = [*_commands(), _submit(), *_events(), *_audit(), *_queries(), _plan(), *_upkeep()]
    parts.append(_heartbeat())
    whole = {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": "application/json",
        "channels": {name: channel for name, channel, _ in parts} | _replies(),
        "operations": {name: {**does, "channel": _channel(name)} for name, _, does in parts},
        "components": _components(),
    }
    tidied: Json = _tidy(whole)
    return tidied


def text() -> str:
    """Return the document as it stands in ``schemas/asyncapi.json``."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2).decode() + "\n"


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(text())


Part = tuple[str, Json, Json]


def _info() -> Json:
    return {
        "title": "hwbus",
        "version": "1",
        "description": (
            "A storage control plane on NATS JetStream. Commands are requests that are answered; "
            "every event of every decision is kept in one stream, HWBUS_EVENTS; what is not an "
            "event but must be kept is in HWBUS_AUDIT."
        ),
        "license": {"name": "Apache-2.0"},
    }


def _commands() -> Iterable[Part]:
    for word in every_command():
        kind, verb = kind_and_verb(word)
        name = f"cmd.{kind}.{verb}"
        mood = "A report, never refused." if issubclass(word, Report) else "A request."
        yield (
            name,
            {
                "address": f"hwbus.{name}",
                "description": f"{mood} {inspect.getdoc(word)}",
                "messages": _refer(type_name(word)),
            },
            {
                "action": "receive",
                "messages": [_in_channel(name, type_name(word))],
                "reply": _reply("answers", _ANSWERS),
            },
        )


def _submit() -> Part:
    names = [type_name(word) for word in every_command()]
    channel = {
        "address": "hwbus.submit.{kind}.{verb}",
        "description": (
            "The same commands, kept until a desk is there. The outcome is on hwbus.audit."
        ),
        "parameters": _parameters("kind", "verb"),
        "messages": _refer(*names),
    }
    return "submit", channel, {"action": "receive"}


def _events() -> Iterable[Part]:
    for kind in KINDS:
        on_a_node = kind in _ON_A_NODE
        channel = {
            "address": f"hwbus.evt.{kind}.{'{place}' if on_a_node else '-'}.{{id}}",
            "description": "One message is one decision: all its events, in order.",
            "parameters": _parameters(*(("place",) if on_a_node else ()), "id"),
            "messages": _refer(_commit_name(kind)),
        }
        yield f"evt.{kind}", channel, {"action": "send"}


def _audit() -> Iterable[Part]:
    for name, (record, parameter) in _AUDIT.items():
        channel = {
            "address": f"hwbus.audit.{name}.{{{parameter}}}",
            "description": inspect.getdoc(record),
            "parameters": _parameters(parameter),
            "messages": _refer(record.__name__),
        }
        yield f"audit.{name}", channel, {"action": "send"}


def _queries() -> Iterable[Part]:
    for view, row in ROWS.items():
        name = f"q.{view}"
        channel = {
            "address": f"hwbus.{name}",
            "description": inspect.getdoc(row),
            "messages": _refer("Query"),
        }
        yield (
            name,
            channel,
            {"action": "receive", "reply": _reply(f"{name}.answers", _query_answers(view))},
        )


def _upkeep() -> Iterable[Part]:
    asked = {**{kind.value: Work for kind in WorkKind}, "job": WhichJob}
    for verb, word in asked.items():
        channel = {
            "address": f"hwbus.views.{verb}" + (".{instance}" if word is WhichJob else ""),
            "description": inspect.getdoc(word),
            "messages": _refer(word.__name__),
        }
        if word is WhichJob:
            channel["parameters"] = _parameters("instance")
        reply = _reply("views.answers", _JOB_ANSWERS)
        yield f"views.{verb}", channel, {"action": "receive", "reply": reply}


def _plan() -> Part:
    channel = {
        "address": f"hwbus.q.{PLAN}",
        "description": inspect.getdoc(Forecast),
        "messages": _refer("WhatIf"),
    }
    reply = _reply(f"q.{PLAN}.answers", _PLAN_ANSWERS)
    return f"q.{PLAN}", channel, {"action": "receive", "reply": reply}


def _heartbeat() -> Part:
    channel = {
        "address": "hwbus.live.heartbeat.{node}",
        "description": inspect.getdoc(Heartbeat),
        "parameters": _parameters("node"),
        "messages": _refer("Heartbeat"),
    }
    return "live.heartbeat", channel, {"action": "send"}


def _replies() -> Json:
    pages = {f"q.{view}.answers": _query_answers(view) for view in ROWS}
    return {
        name: {"address": None, "messages": _refer(*messages)}
        for name, messages in {
            "answers": _ANSWERS,
            **pages,
            f"q.{PLAN}.answers": _PLAN_ANSWERS,
            "views.answers": _JOB_ANSWERS,
        }.items()
    }


def _query_answers(view: str) -> tuple[str, ...]:
    return (_page_name(view), "Refused", "Behind")


def _reply(channel: str, messages: Iterable[str]) -> Json:
    return {
        "address": {
            "location": "$message.header#/reply",
            "description": "The reply subject of the NATS request.",
        },
        "channel": _channel(channel),
        "messages": [_in_channel(channel, message) for message in messages],
    }


def _components() -> Json:
    types = _types()
    references, schemas = msgspec.json.schema_components(
        types.values(), ref_template=f"{_SCHEMAS}{{name}}"
    )
    commands = {type_name(word) for word in every_command()}
    headers = {"headers": {"$ref": f"{_SCHEMAS}CommandHeaders"}}
    messages = {
        name: {"name": name, "payload": payload, **(headers if name in commands else {})}
        for name, payload in zip(types, references, strict=True)
    }
    return {
        "messages": messages,
        "schemas": {**schemas, "CommandHeaders": _HEADERS},
        "parameters": _PARAMETERS,
    }


def _types() -> dict[str, Any]:
    plain: tuple[type[msgspec.Struct], ...] = (
        *ANSWERS,
        *(record for record, _ in _AUDIT.values()),
        *(Query, WhatIf, Behind, Heartbeat, Work, WhichJob),
    )
    return {
        **{type_name(word): word for word in every_command()},
        **{_commit_name(kind): _commit(kind) for kind in KINDS},
        **{type_.__name__: type_ for type_ in plain},
        **{_page_name(view): _page(row) for view, row in ROWS.items()},
        "JobPage": Page[Job],
        "ForecastPage": Page[Forecast],
    }


def _commit_name(kind: str) -> str:
    return f"{kind.capitalize()}Commit"


def _page_name(view: str) -> str:
    return ROWS[view].__name__.removesuffix("Row") + "Page"


def _page(row: type[Row]) -> Any:
    has_raw = msgspec.Raw in {field.type for field in msgspec.structs.fields(row)}
    return Page[_told(row, row.__name__) if has_raw else row]  # type: ignore[misc]


def _commit(kind: str) -> type[msgspec.Struct]:
    events: Any = functools.reduce(operator.or_, EVENTS[kind])
    return _told(Commit, _commit_name(kind), events=tuple[events, ...])


def _told(struct: type[msgspec.Struct], name: str, **types: Any) -> type[msgspec.Struct]:
    """Return *struct* as it is told to others: raw JSON is any JSON, and *types* are set in."""
    fields: list[Any] = [
        (field.name, Any, None)
        if field.type is msgspec.Raw
        else (field.name, types.get(field.name, field.type), *_default(field))
        for field in msgspec.structs.fields(struct)
    ]
    return msgspec.defstruct(
        name,
        fields,
        kw_only=True,
        forbid_unknown_fields=struct.__struct_config__.forbid_unknown_fields,
        namespace={"__doc__": struct.__doc__},
    )


def _default(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    if field.default_factory is not msgspec.NODEFAULT:
        return (msgspec.field(default_factory=field.default_factory),)
    return () if field.default is msgspec.NODEFAULT else (field.default,)


def _parameters(*names: str) -> Json:
    return {name: {"$ref": f"#/components/parameters/{name}"} for name in names}


def _refer(*messages: str) -> Json:
    return {message: {"$ref": f"#/components/messages/{message}"} for message in messages}


def _channel(name: str) -> Json:
    return {"$ref": f"#/channels/{name}"}


def _in_channel(channel: str, message: str) -> Json:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def _tidy(part: Any) -> Any:
    """Return *part* with descriptions as people read them, and without what only OpenAPI knows."""
    match part:
        case dict():
            return {
                key: _tidy(value) for key, value in part.items() if not _is_of_openapi(key, value)
            }
        case list() | tuple():
            return [_tidy(value) for value in part]
        case str():
            return inspect.cleandoc(part) if "\n" in part else part
        case _:
            return part


def _is_of_openapi(key: str, value: Any) -> bool:
    return key == "discriminator" and isinstance(value, dict) and "propertyName" in value


if __name__ == "__main__":
    main()
