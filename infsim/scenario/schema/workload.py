"""What is asked: traces, synthetic arrivals and lengths, sessions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, Tag, model_validator

from infsim.scenario.schema.base import (
    Count,
    File,
    Many,
    NameOrMapping,
    Natural,
    Part,
    PositiveFloat,
    PositiveTime,
    Rate,
    Time,
    file_in,
    told_by,
)

TRACE_SUFFIXES = (".yaml", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".json", ".parquet")

TraceName = Annotated[
    str, file_in("traces", *TRACE_SUFFIXES, or_folder=True), StringConstraints(min_length=1)
]


TraceFormat = Literal[
    "auto", "azure", "burstgpt", "csv", "mooncake", "parquet", "profile", "servegen", "vllm"
]


class TraceFile(Part):
    """A trace, with what has to be said about its format."""

    file: TraceName
    """A file relative to the scenario, or the bare name of a trace that infsim ships; for ServeGen
    a folder of clients, or a tar archive of one."""
    format: TraceFormat = "auto"
    """Format of the file; by default it is found from its beginning."""
    columns: dict[str, str] = Field(default_factory=dict)
    """For plain CSV and Parquet: what the file calls our columns, `{input_tokens: prompt_len}`."""
    time_unit: PositiveTime = 1.0
    """For plain CSV and Parquet: what 1 in the column of arrivals means."""


TraceEntry = Annotated[
    Annotated[TraceName, Tag("name")] | Annotated[TraceFile, Tag("mapping")],
    NameOrMapping,
]


class Arrivals(Part):
    """A synthetic process of arrivals (of sessions, if there are sessions)."""

    process: Literal["poisson", "gamma", "deterministic"] = "poisson"
    """Poisson, gamma-distributed gaps, or equal gaps."""
    rate: Rate
    """Mean rate."""
    cv: PositiveFloat | None = None
    """Coefficient of variation of the gaps (gamma): 1 is Poisson, more is burstier."""

    @model_validator(mode="after")
    def _cv_of_gamma(self) -> Arrivals:
        if (self.cv is not None) != (self.process == "gamma"):
            raise ValueError("cv belongs to 'process: gamma', and gamma needs it")
        return self


class ConstantLength(Part):
    """Always the same."""

    distribution: Literal["constant"]
    tokens: Count
    """Length in tokens."""


class UniformLength(Part):
    """Every length of a range is as likely."""

    distribution: Literal["uniform"]
    low: Count
    """Shortest length in tokens."""
    high: Count
    """Longest length in tokens."""

    @model_validator(mode="after")
    def _ordered(self) -> UniformLength:
        if self.high < self.low:
            raise ValueError(f"high ({self.high}) is below low ({self.low})")
        return self


class LognormalLength(Part):
    """Lognormal, rounded to whole tokens."""

    distribution: Literal["lognormal"]
    mean: PositiveFloat
    """Mean length in tokens, before it is cut to the range."""
    cv: PositiveFloat
    """Coefficient of variation, before it is cut to the range."""
    low: Count = 1
    """Shortest length; shorter ones are drawn again."""
    high: Count | None = None
    """Longest length; longer ones are drawn again."""


class QuantileLength(Part):
    """A table of quantiles, linear in between."""

    distribution: Literal["quantiles"]
    levels: Many[float]
    """Increasing from 0 to 1."""
    values: Many[float]
    """Length in tokens at each level."""


AnyLength = Annotated[
    ConstantLength | UniformLength | LognormalLength | QuantileLength,
    Field(discriminator="distribution"),
]


Length = Annotated[
    Annotated[Count, Tag("tokens")] | Annotated[AnyLength, Tag("mapping")],
    told_by(mapping="mapping", scalar="tokens"),
]
"""A number of tokens, or a distribution."""


class IndependentLengths(Part):
    """Input and output lengths drawn independently."""

    input: Length
    """Length of prompts."""
    output: Length
    """Length of outputs."""


class TraceLengths(Part):
    """Pairs of lengths drawn from the requests of a trace, with replacement."""

    trace: TraceEntry
    """The trace."""


class LengthTable(Part):
    """Pairs of lengths from a table."""

    table: File
    """CSV with the columns input_tokens, output_tokens, and perhaps weight."""


Lengths = Annotated[
    Annotated[IndependentLengths, Tag("independent")]
    | Annotated[TraceLengths, Tag("trace")]
    | Annotated[LengthTable, Tag("table")],
    told_by("trace", "table", mapping="independent", scalar=None),
]


class Sessions(Part):
    """Dialogues: turns follow one another, and each prompt repeats what was said before.

    Turns do not wait for answers (an open loop), so that all policies see the same requests.
    `lengths` are the new tokens of the user, and of the answer, in each turn.
    """

    turns: Annotated[float, Field(ge=1)] = 4.0
    """Mean number of turns of a session (geometric)."""
    think_time: PositiveTime = 30.0
    """Mean time between an answer and the next turn (exponential)."""
    answer_time: Time = 0.03
    """Time that an answer is taken to last, per token."""
    system_tokens: Natural = 0
    """Tokens at the start of all prompts, shared by all sessions."""
    max_context: Count = 32768
    """A session ends before prompt and answer together exceed this."""
    prefix_block_tokens: Count = 128
    """Tokens of one hashed block of a prompt."""


class ClosedLoop(Part):
    """A fixed number of users, each with one request at a time: ask, wait, think, ask again."""

    users: Count
    """Number of users, spread over the clients by their weights."""
    think_time: Time
    """Mean time from the end of a request to the next one of its user."""
    think_cv: Annotated[float, Field(ge=0)] = 1.0
    """Coefficient of variation of the think time (gamma): 1 is exponential, 0 constant."""
    ramp: Time = 0.0
    """The users begin evenly spread over this time."""


class WorkloadPart(Part):
    """What is asked: a trace, synthetic arrivals and lengths, or users who wait for answers."""

    trace: TraceEntry | None = None
    """A trace file, or the bare name of a trace that infsim ships (`infsim list traces`)."""
    arrivals: Arrivals | None = None
    """Synthetic arrivals, instead of a trace."""
    closed_loop: ClosedLoop | None = None
    """Users who wait for answers, instead of a trace; the load follows the speed of the system."""
    lengths: Lengths | None = None
    """Lengths of synthetic requests; models that are not generative need none."""
    sessions: Sessions | None = None
    """Make synthetic arrivals the starts of conversations, or users of a closed loop hold them."""
    requests: Count | None = None
    """Stop after so many requests."""
    start: Time = 0.0
    """Skip this much of the trace; what follows arrives from 0 s on."""
    duration: PositiveTime | None = None
    """Stop at this time after the start."""
    rate: Rate | None = None
    """Stretch time so that the mean rate is this; burstiness stays."""

    @model_validator(mode="after")
    def _consistent(self) -> WorkloadPart:
        sources = ("trace", "arrivals", "closed_loop")
        if sum(getattr(self, name) is not None for name in sources) != 1:
            raise ValueError("give either a trace, or arrivals, or closed_loop")
        synthetic = [name for name in ("lengths", "sessions") if getattr(self, name) is not None]
        if self.trace is not None and synthetic:
            raise ValueError(f"a trace has its own lengths and sessions; drop {synthetic[0]!r}")
        if self.arrivals is not None and self.rate is not None:
            raise ValueError("arrivals have their own rate; drop 'rate'")
        if self.closed_loop is not None:
            self._check_closed_loop()
        return self

    def _check_closed_loop(self) -> None:
        if self.requests is None and self.duration is None:
            raise ValueError("closed_loop: its users never stop; give 'requests' or 'duration'")
        for name in ("rate", "start"):
            if name in self.model_fields_set:
                raise ValueError(f"closed_loop: its users set the pace; drop {name!r}")
        own = () if self.sessions is None else self.sessions.model_fields_set
        for name in ("think_time", "answer_time"):
            if name in own:
                raise ValueError(
                    f"sessions: with closed_loop, its 'think_time' follows the real answer;"
                    f" drop {name!r}"
                )
