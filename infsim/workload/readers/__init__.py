"""Trace files, read in blocks: `open_trace` finds the format and checks every row."""

from infsim.workload.readers.trace import FORMATS, TraceFile, open_trace

__all__ = ["FORMATS", "TraceFile", "open_trace"]
