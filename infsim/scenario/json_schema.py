"""The JSON Schema of scenarios, for editors."""

from __future__ import annotations

import json
from typing import Any

MODELINE = "# yaml-language-server: $schema="


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of scenarios."""
    from infsim.scenario.schema.experiment import ScenarioSpec

    found = ScenarioSpec.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "infsim scenario",
    }


def json_schema_text() -> str:
    """Return the JSON Schema as text, always the same."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
