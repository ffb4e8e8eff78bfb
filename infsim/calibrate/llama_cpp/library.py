"""llama.cpp by its C interface, as the wheel ``xllamacpp`` exports it.

The layouts of the structures are those of ``include/llama.h`` in release `RELEASE` of the wheel;
another release is refused, because a structure that changed would be written to blindly.

The engine is told to build the graph of every step anew. By default it keeps it while the batch
stays as it is, and the first decode after a change takes 0.3 ms longer than those after it: half
of a step of a model as small as here, and something that `infsim.cost.interface.StepCost`, which
knows one step and not the one before, cannot say.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from copy import copy
from ctypes import POINTER, Structure, c_bool, c_float, c_int8, c_int32, c_uint32, c_void_p
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infsim.errors import InputError, Where

RELEASE = "2026.10.11549"


class _ContextParameters(Structure):
    """``llama_context_params`` up to the last field that is set here, and room for the rest."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("unused_1", c_int32 * 3),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("unused_2", c_int32 * 25),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("rest", c_int8 * 256),
    )


class _ModelParameters(Structure):
    _fields_ = (("all", c_int8 * 256),)


class _Batch(Structure):
    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


class Piece(NamedTuple):
    """Tokens of one sequence in a step, from position ``start`` on."""

    sequence: int
    start: int
    tokens: Sequence[int]
    wants_token: bool
    """Whether the token that follows is asked for."""


class Llama:
    """A model and its context, on one thread.

    Parameters
    ----------
    path : Path
        A GGUF file.
    context_tokens : int
        Tokens of the KV cache that all sequences share.
    sequences : int
        Most sequences at one time.
    batch_tokens : int
        Most tokens of a step.
    """

    def __init__(self, path: Path, context_tokens: int, sequences: int, batch_tokens: int) -> None:
        lib = self._lib = _library()
        self._model = lib.llama_model_load_from_file(
            str(path).encode(), lib.llama_model_default_params()
        )
        if not self._model:
            raise InputError("llama.cpp cannot load it", where=Where(str(path)))
        self.vocabulary: int = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self._open(context_tokens, sequences, batch_tokens)

    def beside(self, context_tokens: int, sequences: int, batch_tokens: int) -> Llama:
        """Return another context on the same weights, with a KV cache of its own."""
        other = copy(self)
        other._open(context_tokens, sequences, batch_tokens)
        return other

    def _open(self, context_tokens: int, sequences: int, batch_tokens: int) -> None:
        lib = self._lib
        parameters = lib.llama_context_default_params()
        assert (parameters.n_threads, parameters.swa_full) == (4, True), "not the known layout"
        parameters.n_ctx = context_tokens
        parameters.n_batch = parameters.n_ubatch = batch_tokens
        parameters.n_seq_max = sequences
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.kv_unified = True
        self._context = lib.llama_init_from_model(self._model, parameters)
        assert lib.llama_n_ctx_seq(self._context) == context_tokens, "the KV cache is not shared"
        assert lib.llama_n_seq_max(self._context) == sequences
        assert lib.llama_n_threads(self._context) == 1
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(batch_tokens, 0, 1)

    def step(self, pieces: Sequence[Piece]) -> list[int]:
        """Compute a step and return the likeliest next token of each piece that wants one."""
        batch, at = self._batch, 0
        wanted = []
        for piece in pieces:
            for i, token in enumerate(piece.tokens):
                batch.token[at] = token
                batch.pos[at] = piece.start + i
                batch.n_seq_id[at] = 1
                batch.seq_id[at][0] = piece.sequence
                batch.logits[at] = 0
                at += 1
            if piece.wants_token:
                batch.logits[at - 1] = 1
                wanted.append(at - 1)
        batch.n_tokens = at
        failed = self._lib.llama_decode(self._context, batch)
        if failed:
            raise RuntimeError(f"llama_decode returned {failed}")
        return [int(self._logits(i).argmax()) for i in wanted]

    def _logits(self, index: int) -> NDArray[np.float32]:
        pointer = self._lib.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self.vocabulary,))

    def forget(self, sequence: int, start: int = 0) -> None:
        """Free the KV cache of a sequence from a position on."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def close(self) -> None:
        """Free the context; the weights stay until the process ends."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)


_keep: list[Any] = []


def _release() -> str | None:
    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return None


def _library() -> Any:
    """Load the library, silence its log, and declare what is called."""
    found = _release()
    if found != RELEASE:
        raise InputError(
            f"xllamacpp {RELEASE} is needed, found {found or 'none'}:"
            ' pip install "infsim[llama-cpp]"'
        )
    spec = find_spec("xllamacpp")
    assert spec is not None
    assert spec.origin is not None
    os.environ["LLAMA_GRAPH_REUSE_DISABLE"] = "1"
    lib = ctypes.CDLL(str(next(Path(spec.origin).parent.glob("*.so"))))
    lib.llama_model_default_params.restype = _ModelParameters
    lib.llama_context_default_params.restype = _ContextParameters
    lib.llama_model_load_from_file.restype = c_void_p
    lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _ModelParameters]
    lib.llama_init_from_model.restype = c_void_p
    lib.llama_init_from_model.argtypes = [c_void_p, _ContextParameters]
    for name in ("llama_get_memory", "llama_model_get_vocab"):
        getattr(lib, name).restype = c_void_p
    for name in (
        "llama_get_memory",
        "llama_model_get_vocab",
        "llama_vocab_n_tokens",
        "llama_n_ctx_seq",
        "llama_n_seq_max",
        "llama_n_threads",
        "llama_free",
    ):
        getattr(lib, name).argtypes = [c_void_p]
    lib.llama_batch_init.restype = _Batch
    lib.llama_batch_free.argtypes = [_Batch]
    lib.llama_decode.argtypes = [c_void_p, _Batch]
    lib.llama_get_logits_ith.restype = POINTER(c_float)
    lib.llama_get_logits_ith.argtypes = [c_void_p, c_int32]
    lib.llama_memory_seq_rm.argtypes = [c_void_p, c_int32, c_int32, c_int32]
    silent = ctypes.CFUNCTYPE(None, c_int32, ctypes.c_char_p, c_void_p)(lambda *_: None)
    _keep.append(silent)
    lib.llama_log_set(silent, None)
    lib.llama_backend_init()
    return lib
