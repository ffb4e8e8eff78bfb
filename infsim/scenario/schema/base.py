"""What all parts of the schema share: strict models, quantities, files, policies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic import Strict as PydanticStrict
from pydantic_core import PydanticCustomError, core_schema

from infsim import units
from infsim.errors import InputError, did_you_mean
from infsim.paths import data_file, data_folder, public_file, public_files, public_names

T = TypeVar("T")

Many = Annotated[tuple[T, ...], PydanticStrict(False)]
"""A list in YAML, a tuple inside."""


def _not_empty(items: tuple[T, ...]) -> tuple[T, ...]:
    if not items:
        raise ValueError("the list is empty")
    return items


NotEmpty = AfterValidator(_not_empty)
"""For lists; pydantic's own check also complains where the items themselves are wrong."""

Name = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\s*?]+$")]
"""A name without blanks and wildcards."""


class Part(BaseModel):
    """Base of all parts of a scenario: frozen, and unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        # pydantic refuses them as well, but does not say what they should have been
        if isinstance(data, Mapping) and cls.model_config.get("extra") == "forbid":
            for key in data:
                if key not in cls.model_fields:
                    raise unknown_key(str(key), cls.model_fields)
        return data


def unknown_key(key: str, known: Mapping[str, Any]) -> PydanticCustomError:
    """Return the error for a key that a mapping cannot have; ``key`` is in its context."""
    near = did_you_mean(key, known)
    hint = near or "; known: " + ", ".join(known)
    return PydanticCustomError("unknown_key", "unknown key {name}{hint}", _context(key, hint))


def _context(key: str, hint: str) -> dict[str, Any]:
    return {"key": key, "name": repr(key), "hint": hint}


@dataclass(frozen=True, slots=True)
class Quantity:
    """Annotation of a float that is written with a unit.

    Attributes
    ----------
    dimension : str
        A key of `infsim.units.DIMENSIONS`.
    positive : bool
        Whether 0 is refused.
    whole : bool
        Whether the value is an int inside.
    """

    dimension: str
    positive: bool = False
    whole: bool = False

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._parse,
            serialization=core_schema.plain_serializer_function_ser_schema(self._written),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kind = units.DIMENSIONS[self.dimension]
        names = sorted((name for name in kind.units if name), key=len, reverse=True)
        sign = "[-+]?" if kind.signed else ""
        pattern = rf"^\s*{sign}[0-9.]+([eE][-+]?[0-9]+)?\s*(" + "|".join(names) + r")\s*$"
        choices: list[dict[str, Any]] = [{"type": "string", "pattern": pattern}]
        if kind.bare:
            number = "integer" if self.whole else "number"
            choices.append({"type": number, "exclusiveMinimum" if self.positive else "minimum": 0})
        elif not self.positive:
            choices.append({"const": 0})
        if kind.infinite:
            choices.append({"const": "unlimited"})
        return {"anyOf": choices, "examples": [kind.example]}

    def _parse(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise units.UnitError(f"expected {self._kind()}")
        amount = units.parse(value, self.dimension)
        if self.positive and amount == 0:
            raise units.UnitError(f"{value!r} must be more than 0")
        return int(amount) if self.whole else amount

    def _written(self, value: float) -> str | float:
        return units.format_exact(value, self.dimension)

    def _kind(self) -> str:
        return f"a {self.dimension} such as {units.DIMENSIONS[self.dimension].example}"


class Money(float):
    """A price that knows its currency, empty if none was said."""

    currency: str

    def __new__(cls, amount: float, currency: str = "") -> Money:
        """Return the amount, with its currency."""
        money = super().__new__(cls, amount)
        money.currency = currency
        return money


class MoneyQuantity(Quantity):
    """Annotation of a price; the currency stays with it."""

    def _parse(self, value: Any) -> float:
        amount = super()._parse(value)
        currency = re.search("[A-Z]{3}(?=/)", str(value))
        return Money(amount, currency[0] if currency else "")

    def _written(self, value: float) -> str | float:
        text = super()._written(value)
        currency = value.currency if isinstance(value, Money) else ""
        return text.replace("/", f"{currency}/") if isinstance(text, str) else text


Time = Annotated[float, Quantity("time")]
PositiveTime = Annotated[float, Quantity("time", positive=True)]
Memory = Annotated[int, Quantity("memory", positive=True, whole=True)]
Bytes = Annotated[int, Quantity("memory", whole=True)]
Bandwidth = Annotated[float, Quantity("bandwidth", positive=True)]
Rate = Annotated[float, Quantity("rate", positive=True)]
Power = Annotated[float, Quantity("power")]
Flops = Annotated[float, Quantity("flops", positive=True)]
Fraction = Annotated[float, Quantity("fraction")]
PositiveFraction = Annotated[float, Quantity("fraction", positive=True)]
Count = Annotated[int, Quantity("count", positive=True, whole=True)]
Natural = Annotated[int, Quantity("count", whole=True)]
Carbon = Annotated[float, Quantity("carbon_intensity")]
Price = Annotated[float, MoneyQuantity("price")]
PositiveFloat = Annotated[float, Field(gt=0)]


def iso_time(text: str) -> str:
    """Check that a text is a moment in ISO 8601 form."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a moment; write for example 2024-01-31T08:00") from None
    return text


def told_by(*keys: str, mapping: str | None, scalar: str | None) -> Discriminator:
    """Return the discriminator of a union of mappings (told apart by a key) and a scalar.

    Parameters
    ----------
    *keys : str
        Keys that only one kind of mapping has; the key is the tag of that kind.
    mapping : str or None
        Tag of a mapping with none of these keys; None refuses it.
    scalar : str or None
        Tag of anything that is no mapping; None refuses it.
    """

    def tag(value: Any) -> str | None:
        if isinstance(value, Mapping):
            names: Any = value
        elif isinstance(value, Part):
            names = type(value).model_fields
        else:
            return scalar
        return next((key for key in keys if key in names), mapping)

    kinds = ([*keys] if keys else ["a mapping"]) + ([scalar] if scalar else [])
    return Discriminator(
        tag,
        custom_error_type="kind",
        custom_error_message=f"expected {' or '.join(kinds)}",
    )


def _name_or_mapping(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return "mapping" if isinstance(value, Mapping | Part) else None


NameOrMapping = Discriminator(
    _name_or_mapping,
    custom_error_type="kind",
    custom_error_message="expected a name or a mapping",
)


def file_in(folder: str | None, *suffixes: str, or_folder: bool = False) -> BeforeValidator:
    """Return a validator of file names.

    A file of the user's own is found relative to the scenario and becomes an absolute path, and so
    does one of a public trace that was fetched. With a
    ``folder``, a bare name (without one of the ``suffixes``) of a file that infsim ships is
    accepted as well, and stays what it is. With ``or_folder``, so is a folder of the user's own.
    """

    def check(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value  # the type itself says what is wrong
        base = Path((info.context or {}).get("base", "."))
        if (base / value).is_file():
            return str((base / value).resolve())
        if folder is None:
            return str(_fetched_file(value, base))
        try:
            data_file(folder, value, suffixes)
        except InputError as error:
            if or_folder and (base / value).is_dir():
                return str((base / value).resolve())
            raise ValueError(str(error)) from error
        return value

    return BeforeValidator(check)


def _fetched_file(value: str, base: Path) -> Path:
    """Return the file of a fetched public trace, named by it or as ``NAME/FILE``."""
    try:
        file = public_file(value)
    except InputError as error:
        raise ValueError(str(error)) from error
    if file is None:
        hint = did_you_mean(value.partition("/")[0], public_names())
        raise ValueError(f"no file {value!r} in {str(base.resolve())!r}{hint}")
    return file


File = Annotated[str, file_in(None)]
"""A file of the user's own, or of a public trace that was fetched."""


def each_file(value: Any) -> Any:
    """Return a list of files: one by itself, the files of a public trace each."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        return value
    return [
        file
        for each in values
        for file in (_public_names(each) if isinstance(each, str) else [each])
    ]


def _public_names(value: str) -> list[str]:
    """Return NAME/FILE for each file of a public trace; other names as they are."""
    try:
        files = public_files(value)
    except InputError:
        return [value]  # what is wrong is told for the file
    if files is None or len(files) < 2:
        return [value]
    return [f"{value}/{file.name}" for file in files]


def file_or(*words: str) -> BeforeValidator:
    """Return a validator of one of some words, or else the name of a file of the user's own."""

    def check(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str) or value in words:
            return value
        base = Path((info.context or {}).get("base", "."))
        if not (base / value).is_file():
            known = " nor ".join(repr(word) for word in words)
            hint = did_you_mean(value, words)
            raise ValueError(f"neither {known} nor a file: {value!r}{hint}")
        return str((base / value).resolve())

    return BeforeValidator(check)


def folder_in(data: str) -> BeforeValidator:
    """Return a validator of names of folders: the user's own, or one that infsim ships."""

    def check(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        base = Path((info.context or {}).get("base", "."))
        if (base / value).is_dir():
            return str((base / value).resolve())
        known = [path.name for path in data_folder(data).glob("*/")]
        if value not in known:
            raise ValueError(f"no folder {value!r}{did_you_mean(value, known)}")
        return value

    return BeforeValidator(check)


def policy_of(kind: str) -> Callable[[Any, ValidationInfo], Any]:
    """Return a validator of policy entries that makes names of files absolute."""

    def check(value: Any, info: ValidationInfo) -> Any:
        name = value.get("name") if isinstance(value, Mapping) else value
        if not isinstance(name, str):
            raise ValueError(f"expected the name of a {kind} policy, or a mapping with its name")
        if ".py:" not in name:
            return value
        base = Path((info.context or {}).get("base", "."))
        name = str((base / name).resolve())
        return {**value, "name": name} if isinstance(value, Mapping) else name

    return check
