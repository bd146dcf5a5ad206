"""Passages in, every token's states out, by a model on PyTorch: the batches, and what is the same for all.

A shard's batches depend on its lengths alone, and each is computed by one thread: several run side by side
where a processor computes. So the same shard gives the same bytes, however many threads or workers there are.
Importing this loads no framework.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt

from encoders import batching, errors
from encoders.aliases import AnyArray, Json
from encoders.fingerprint import Fingerprint
from encoders.memory_spec import MemorySpec
from encoders.template import PassageTemplate
from encoders.token_encoder import Spent, encoded
from encoders.tokenizing import Tokens

if TYPE_CHECKING:
    from encoders.quantizing import CoderLike

STORED_DTYPES: Final = tuple(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16))
# Torch has one number of threads for a process. Who lowers it for a while keeps others from raising it.
_threads_lock = threading.Lock()


class Tower(Protocol):
    """The model itself.

    Attributes:
        device: torch's, where it computes.
        width: of a row.
        vocabulary: ids are below it.
        padding: the id that fills a row up.
    """

    @property
    def device(self) -> Any: ...
    @property
    def width(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def padding(self) -> int: ...

    def run(self, ids: Any, mask: Any) -> Any:
        """States [rows, tokens, width] of ids [rows, tokens], both tensors; mask is 1 where a token is."""

    def kept(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_] | None:
        """Which tokens get a row of memory; None: all."""


class TorchEncoder:
    """A loaded memory encoder on PyTorch; see `token_encoder.TokenEncoder`."""

    def __init__(
        self,
        *,
        tower: Tower,
        tokenize: Callable[[Sequence[str]], Tokens],
        memory: MemorySpec,
        print_of: Fingerprint,
    ) -> None:
        self.width = tower.width
        self.template = PassageTemplate(memory.template)
        self.fingerprint = print_of.hex
        self.description: Json = print_of.description
        self.max_tokens = memory.max_tokens
        self.tower = tower
        self._budget = memory.token_budget
        self._bfloat16 = memory.compute_dtype == "bfloat16"
        self._tokenize = tokenize

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """See `token_encoder.TokenEncoder`."""
        return self._tokenize(texts)

    def offsets(self, tokens: Tokens) -> npt.NDArray[np.int64]:
        """See `token_encoder.TokenEncoder`."""
        return offsets_of(tokens, self.tower.kept(tokens.ids))

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `token_encoder.TokenEncoder`."""
        return encoded(self, self.tokenize(texts))

    def encode(
        self,
        tokens: Tokens,
        out: AnyArray,
        coder: CoderLike | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> Spent:
        """See `token_encoder.TokenEncoder`. A coder codes in NumPy.

        Raises:
            ValueError: `out` has another shape or dtype, or an id is not in the vocabulary.
        """
        offsets, kept = self.offsets(tokens), self.tower.kept(tokens.ids)
        self._check(tokens, int(offsets[-1]), out, coder)
        batches = batching.plan(tokens.lengths, max_tokens=self.max_tokens, token_budget=self._budget)
        call = _Call(encoder=self, tokens=tokens, offsets=offsets, kept=kept, out=out, coder=coder)
        padding = 0
        halved = 0
        # Closed at once, whatever `on_batch` raises: others wait for the threads.
        with closing(self._each(batches, call.run)) as done:
            for batch, again in done:
                lengths = tokens.lengths[batch.passages]
                padding += int(lengths.max() * len(lengths) - lengths.sum())
                halved += again
                if on_batch is not None:
                    on_batch(len(batch.passages))
        return Spent(padding=padding, filler=0, compiled=0, loaded=0, halved=halved)

    def _each(
        self, batches: Sequence[batching.Batch], run: Callable[[npt.NDArray[np.int64]], int]
    ) -> Generator[tuple[batching.Batch, int]]:
        """Runs batches, side by side on a processor, and gives each with what `run` gave, in order."""
        if self.tower.device.type != "cpu":
            for batch in batches:
                yield batch, run(batch.passages)
            return
        with _one_thread_each() as threads:
            pool = ThreadPoolExecutor(max(1, min(threads, len(batches))), thread_name_prefix="encoding")
            try:
                yield from zip(batches, pool.map(run, (b.passages for b in batches)), strict=True)
            finally:
                pool.shutdown(cancel_futures=True)

    def states(self, tokens: Tokens, passages: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """States of some texts run together, [texts, tokens of the longest, width]; padding's are none."""
        import torch

        lengths = tokens.lengths[passages]
        length = int(lengths.max())
        ids = np.full((len(passages), length), self.tower.padding, np.int64)
        mask = np.arange(length) < lengths[:, None]
        ids[mask] = np.concatenate([tokens.ids[tokens.offsets[p] : tokens.offsets[p + 1]] for p in passages])
        device = self.tower.device
        with self.computing():
            found = self.tower.run(
                torch.from_numpy(ids).to(device), torch.from_numpy(mask.astype(np.int64)).to(device)
            )
        if tuple(found.shape) != (*ids.shape, self.width):
            raise errors.EncoderError(
                f"the memory encoder gives states {list(found.shape)} for ids {list(ids.shape)}, wanted "
                f"{[*ids.shape, self.width]}: a row for every token; it cannot make memory"
            )
        values: npt.NDArray[np.float32] = found.float().cpu().numpy()
        return values

    @contextmanager
    def computing(self) -> Iterator[None]:
        """In the type of the memory: products in bfloat16, weights and sums between layers in float32."""
        import torch

        kind = self.tower.device.type
        with torch.inference_mode(), torch.autocast(kind, dtype=torch.bfloat16, enabled=self._bfloat16):
            yield

    def _check(self, tokens: Tokens, rows: int, out: AnyArray, coder: CoderLike | None) -> None:
        if coder is None:
            width, fits = self.width, out.dtype in STORED_DTYPES
        else:
            width, fits = coder.stored_width, out.dtype == coder.codec.stored_dtype
            fits = fits and coder.width == self.width
        if not fits or out.shape != (rows, width):
            raise ValueError(
                f"out is {out.dtype} {list(out.shape)}, wanted [{rows}, {width}] of a row per token, in a "
                f"type that stores the encoder's width {self.width}"
            )
        if len(tokens.ids) and not (tokens.ids.min() >= 0 and tokens.ids.max() < self.tower.vocabulary):
            raise ValueError(
                f"token ids run from {tokens.ids.min()} to {tokens.ids.max()}, wanted 0 to "
                f"{self.tower.vocabulary - 1}; were they made by this encoder's tokenizer?"
            )


class _Call:
    """One call of `TorchEncoder.encode`; its batches write into rows of their own."""

    def __init__(
        self,
        *,
        encoder: TorchEncoder,
        tokens: Tokens,
        offsets: npt.NDArray[np.int64],
        kept: npt.NDArray[np.bool_] | None,
        out: AnyArray,
        coder: Any,
    ) -> None:
        self._encoder, self._tokens, self._offsets = encoder, tokens, offsets
        self._kept, self._out, self._coder = kept, out, coder
        if coder is None:
            self._name = str(out.dtype)
            self._largest = float(ml_dtypes.finfo(out.dtype).max)  # type: ignore[no-untyped-call]
        else:
            self._name, self._largest = str(coder.codec.name), coder.largest

    def run(self, passages: npt.NDArray[np.int64]) -> int:
        """Computes and writes a batch. Returns how often it was halved, since the device was too small.

        Raises:
            DeviceMemoryError: one row is too much for it.
        """
        import torch

        try:
            states = self._encoder.states(self._tokens, passages)
        except torch.OutOfMemoryError as error:
            if len(passages) == 1:
                length = int(self._tokens.lengths[passages[0]])
                raise errors.DeviceMemoryError(
                    f"the device has too little memory for one row of {length:,} tokens of this encoder; "
                    "take a larger one, or end what else uses it"
                ) from error
            middle = len(passages) // 2
            return 1 + self.run(passages[:middle]) + self.run(passages[middle:])
        for row, passage in enumerate(passages):
            self._write(int(passage), states[row])
        return 0

    def _write(self, passage: int, states: npt.NDArray[np.float32]) -> None:
        first, stop = self._tokens.offsets[passage : passage + 2]
        values = states[: stop - first]
        if self._kept is not None:
            values = values[self._kept[first:stop]]
        peak = float(np.abs(values).max(initial=0))
        # Written so that NaN fails too.
        if not peak <= self._largest:
            raise errors.UnstorableError(
                f"passage {passage} has a memory value of magnitude {peak:.6g}, {self._name} holds up to "
                f"{self._largest:.6g}; "
                + ("store bfloat16 or float32" if np.isfinite(peak) else "are the weights whole?")
            )
        begin, end = self._offsets[passage : passage + 2]
        self._out[begin:end] = values if self._coder is None else self._coder.encode(values)


def offsets_of(tokens: Tokens, kept: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
    """Where the rows of each text begin, [texts + 1], of those of its tokens that are kept."""
    if kept is None:
        return tokens.offsets
    before = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(kept, out=before[1:])
    return before[tokens.offsets]


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Torch's operations take one thread each meanwhile; gives how many threads they took before.

    How many share an operation decides how its sums are split, and so the last bits.
    """
    import torch

    with _threads_lock:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield before
        finally:
            torch.set_num_threads(before)


def device_of(name: str) -> Any:
    """Torch's device by a name as for `sharding.named`; of several the first.

    Raises:
        EncoderError: there is none of that name here.
    """
    import torch

    if name == "all":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name.replace("gpu", "cuda"))
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise errors.EncoderError(f"there is no device {name} for PyTorch here: {reason:.160}") from error
    return found


def require_own_device(model_parallel: int | None) -> None:
    """Refuse to split a model that PyTorch runs.

    Raises:
        EncoderError: several devices were to share it.
    """
    if model_parallel is not None:
        raise errors.EncoderError(
            f"model parallel is {model_parallel}, and a memory encoder on PyTorch runs on one device; leave "
            "out --model-parallel"
        )
