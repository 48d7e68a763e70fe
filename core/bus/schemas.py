"""What the payload of a message type must look like, where somebody said so."""

from __future__ import annotations

from itertools import islice
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .errors import BadMessage
from .message import decoded

_SHOWN = 3
_LONGEST = 200


class BadSchema(ValueError):
    """What was given is no JSON Schema."""


class Schemas:
    """Message types with a schema. A type without one takes any JSON value."""

    def __init__(self) -> None:
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self._validators: dict[str, Any] = {}

    def register(self, type_: str, shape: Any) -> None:
        """``shape`` is a pydantic model or any other type pydantic can check; replaces an older one."""
        self._adapters[type_] = TypeAdapter(shape)
        self._validators.pop(type_, None)

    def register_json(self, type_: str, schema: Any) -> None:
        """``schema`` is a JSON Schema, of the draft its ``$schema`` names or the newest. Nothing is fetched.

        Raises:
            BadSchema: It is none.
        """
        from jsonschema import Draft202012Validator, SchemaError, validators
        from referencing import Registry

        kind = validators.validator_for(schema, default=Draft202012Validator)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            raise BadSchema(f"this is no JSON Schema: {error.message[:_LONGEST]}") from error
        self._validators[type_] = kind(schema, registry=Registry())
        self._adapters.pop(type_, None)

    def json_schema(self, type_: str) -> dict[str, Any] | None:
        """The JSON Schema of a type, to show to an agent; None if it takes anything."""
        if (validator := self._validators.get(type_)) is not None:
            schema: dict[str, Any] = validator.schema
            return schema
        adapter = self._adapters.get(type_)
        return None if adapter is None else adapter.json_schema()

    def check(self, type_: str, payload: bytes) -> None:
        """Hold a payload against its type's schema, or see that it is JSON.

        Raises:
            BadMessage: It is not JSON, or does not fit; the first places are named.
        """
        adapter = self._adapters.get(type_) if self._adapters else None
        if adapter is None:
            value = decoded(payload)
            if self._validators and type_ in self._validators:
                self._hold(type_, value)
            return
        try:
            adapter.validate_json(payload)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[:_SHOWN]
            places = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'payload'}: {one['msg']}" for one in found
            )
            raise BadMessage(
                f"the payload does not fit type {type_}", places, "Ask for the type's schema"
            ) from error

    def _hold(self, type_: str, value: Any) -> None:
        from referencing.exceptions import Unresolvable

        try:
            found = list(islice(self._validators[type_].iter_errors(value), _SHOWN))
        except (Unresolvable, RecursionError) as error:
            raise BadMessage(
                f"the schema of type {type_} cannot be followed", str(error)[:_LONGEST], "Have it corrected"
            ) from error
        if found:
            places = "; ".join(
                f"{'.'.join(map(str, one.absolute_path)) or 'payload'}: {one.message[:_LONGEST]}"
                for one in found
            )
            raise BadMessage(f"the payload does not fit type {type_}", places, "Send what its schema says")
