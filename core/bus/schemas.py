"""What the payload of a message type must look like, where somebody said so."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from .errors import BadMessage
from .message import decoded

_SHOWN = 3


class Schemas:
    """Message types with a schema. A type without one takes any JSON value."""

    def __init__(self) -> None:
        self._adapters: dict[str, TypeAdapter[Any]] = {}

    def register(self, type_: str, shape: Any) -> None:
        """``shape`` is a pydantic model or any other type pydantic can check; replaces an older one."""
        self._adapters[type_] = TypeAdapter(shape)

    def json_schema(self, type_: str) -> dict[str, Any] | None:
        """The JSON Schema of a type, to show to an agent; None if it takes anything."""
        adapter = self._adapters.get(type_)
        return None if adapter is None else adapter.json_schema()

    def check(self, type_: str, payload: bytes) -> None:
        """Hold a payload against its type's schema, or see that it is JSON.

        Raises:
            BadMessage: It is not JSON, or does not fit; the first places are named.
        """
        adapter = self._adapters.get(type_) if self._adapters else None
        if adapter is None:
            decoded(payload)
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
