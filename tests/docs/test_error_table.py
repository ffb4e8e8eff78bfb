"""The table of errors in the docs is that of the files of coefficients."""

from __future__ import annotations

from tests.docs.error_table import PAGE, TABLE, error_rows


def test_errors_in_the_docs_are_those_of_the_fits() -> None:
    """``python -m tests.docs.error_table`` writes them."""
    (told,) = TABLE.findall(PAGE.read_text(encoding="utf-8"))
    assert told == error_rows()
