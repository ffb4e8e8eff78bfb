"""Results of ``vllm bench serve --save-result --save-detailed``: what was asked, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from infsim.errors import InputError, Where, did_you_mean
from infsim.workload.readers.checks import Rows
from infsim.workload.readers.text import open_text, parse_json

FIELDS = {"arrival_s": "start_times", "input_tokens": "input_lens", "output_tokens": "output_lens"}


def read_vllm(path: Path, block: int) -> Iterator[Rows]:
    """Requests of a benchmark in order of their start, from 0 s; failed ones are left out.

    The result is one JSON object, which is read as a whole. A request failed if it has an error.

    Raises
    ------
    InputError
        If the file is not such a result, or has no details.
    """
    where = Where(str(path))
    with open_text(path) as text:
        result = parse_json(text.read(), where)
    lists = {attribute: _numbers(result, name, where) for attribute, name in FIELDS.items()}
    errors = result.get("errors") or [""] * len(lists["arrival_s"])
    if not isinstance(errors, list):
        raise InputError(f"errors is {str(errors)[:40]!r}, not a list", where=where)
    if len({len(errors), *map(len, lists.values())}) > 1:
        raise InputError(f"{', '.join(FIELDS.values())} and errors differ in length", where=where)
    answered = [row for row, error in enumerate(errors) if not error]
    answered.sort(key=lambda row: lists["arrival_s"][row])
    start_s = lists["arrival_s"][answered[0]] if answered else 0.0
    for first in range(0, len(answered), block):
        rows = answered[first : first + block]
        yield Rows(
            str(path),
            [row + 1 for row in rows],
            {
                "arrival_s": np.array([lists["arrival_s"][row] - start_s for row in rows]),
                "input_tokens": np.array([lists["input_tokens"][row] for row in rows]),
                "output_tokens": np.array([lists["output_tokens"][row] for row in rows]),
            },
            FIELDS,
            has_lines=False,
        )


def _numbers(result: dict[str, Any], name: str, where: Where) -> list[Any]:
    """Return a list of the result, if it is one of numbers."""
    values = result.get(name)
    if values is None:
        raise InputError(
            f"no field {name!r}{did_you_mean(name, result)}",
            where=where,
            hint="save the result of the benchmark with --save-detailed",
        )
    if not isinstance(values, list):
        raise InputError(f"{name} is not a list", where=where)
    kinds: tuple[type, ...] = (int, float) if name == FIELDS["arrival_s"] else (int,)
    for index, value in enumerate(values):
        if type(value) not in kinds or not abs(value) < 2**53:
            raise InputError(
                f"{value!r} is not a {'whole ' if kinds == (int,) else ''}number",
                where=Where(where.file, path=f"{name}[{index}]"),
            )
    return values
