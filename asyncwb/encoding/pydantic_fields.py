"""Validates and serializes single fields of pydantic models and dataclasses as their class does.

A field may have validators and serializers of its own, and takes the configuration of its class, so its annotation
alone doesn't say what is stored. What looks at several fields, such as a model's validator, can't be asked here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec


class FieldAdapter:
    """Does for a field what a pydantic `TypeAdapter` does for a type.

    Args:
        cls: a pydantic model or dataclass.
        name: the Python name of the field.

    Raises:
        LookupError: the field isn't found in pydantic's schema of the class.
    """

    def __init__(self, cls: Any, name: str) -> None:
        from pydantic_core import SchemaSerializer, SchemaValidator  # noqa: PLC0415 - optional; a model needs it

        schema, config, definitions = _field_schema(cls, name)
        self._place: Callable[[Any], Any] | None = None
        if schema.get("serialization", {}).get("is_field_serializer"):
            if not hasattr(cls, "model_construct"):
                raise LookupError("only the class itself can serialize it; set the whole value instead")
            fields = {"type": "model-fields", "fields": {name: {"type": "model-field", "schema": schema}}}
            serialized: dict[str, Any] = {"type": "model", "cls": cls, "schema": fields}
            self._place = _placed(cls, name)
        else:
            serialized = schema
        self._name = name
        self._serializer = SchemaSerializer(_defined(serialized, definitions), config)
        self.validate_json = SchemaValidator(_defined(schema, definitions), config).validate_json

    def dump_json(self, value: Any, **options: Any) -> bytes:
        """The value as JSON, with the options of `TypeAdapter.dump_json`."""
        if self._place is None:
            return self._serializer.to_json(value, **options)
        encoded = self._serializer.to_json(self._place(value), **options)
        return bytes(msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])[self._name])

    def dump_python(self, value: Any, **options: Any) -> Any:
        """The value as plain Python, with the options of `TypeAdapter.dump_python`."""
        if self._place is None:
            return self._serializer.to_python(value, **options)
        return self._serializer.to_python(self._place(value), **options)[self._name]


def _placed(cls: Any, name: str) -> Callable[[Any], Any]:
    def place(value: Any) -> Any:
        instance = cls.model_construct()
        instance.__dict__.clear()
        instance.__dict__[name] = value
        return instance

    return place


def _field_schema(cls: Any, name: str) -> tuple[dict[str, Any], Any, list[Any]]:
    """The schema of a field, the configuration of its class, and the definitions that the schema refers to."""
    schema: Mapping[str, Any] = cls.__pydantic_core_schema__
    definitions: list[Any] = []
    config: Any = None
    while schema["type"] not in ("model-fields", "dataclass-args"):
        if schema["type"] == "definitions":
            definitions = schema["definitions"]
        if schema["type"] == "definition-ref":
            reference = schema["schema_ref"]
            schema = next(each for each in definitions if each.get("ref") == reference)
            continue
        config = schema.get("config", config)
        if "schema" not in schema:
            raise LookupError(f"pydantic's schema of {cls.__name__} doesn't tell its fields")
        schema = schema["schema"]
    if schema["type"] == "model-fields":
        return schema["fields"][name]["schema"], config, definitions
    return next(each["schema"] for each in schema["fields"] if each["name"] == name), config, definitions


def _defined(schema: dict[str, Any], definitions: list[Any]) -> Any:
    return {"type": "definitions", "schema": schema, "definitions": definitions} if definitions else schema
