"""``traces/sample.csv`` is what ``traces/README.md`` says it is.

``python -m tests.docs.test_sample`` (in the root of the checkout) makes it again.
"""

from __future__ import annotations

from pathlib import Path

from infsim.paths import data_folder
from infsim.rng import Streams
from infsim.workload.blocks import read_all
from infsim.workload.profile import load_profile
from infsim.workload.transform import Limit


def sample() -> str:
    """Return the first 300 requests that `azure-conv-like` makes with seed 0, as CSV."""
    profile = load_profile(data_folder("traces") / "azure-conv-like.yaml")
    made = read_all(Limit(profile.workload(), requests=300).blocks(Streams(0)))
    columns = zip(made.arrival_s, made.input_tokens, made.output_tokens, strict=True)
    rows = (f"{arrival:.3f},{prompt},{answer}\n" for arrival, prompt, answer in columns)
    return "arrival_s,input_tokens,output_tokens\n" + "".join(rows)


def file() -> Path:
    return data_folder("traces") / "sample.csv"


def test_the_sample_is_what_the_profile_makes() -> None:
    again = "to make it again: python -m tests.docs.test_sample"
    assert file().read_text(encoding="utf-8") == sample(), again


if __name__ == "__main__":
    file().write_text(sample(), encoding="utf-8")
