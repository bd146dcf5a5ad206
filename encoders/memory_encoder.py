"""The memory encoder: passages in, every token's memory out.

H_i = MemEnc(P_i), the residual stream after the first (1-α)·L layers of T5 (PAPERS: The reader
family). Importing this loads neither jax nor transformers; loading an encoder does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import numpy.typing as npt

from encoders import batching, compiling, errors, t5_folder
from encoders.aliases import AnyArray, AnyDtype
from encoders.fingerprint import Fingerprint
from encoders.memory_spec import MemorySpec
from encoders.model_folder import ModelFolderError
from encoders.template import PassageTemplate
from encoders.token_encoder import Spent as Spent
from encoders.token_encoder import encoded
from encoders.tokenizing import Tokenizer
from encoders.tokenizing import Tokens as Tokens

if TYPE_CHECKING:
    import jax

    from encoders.quantizing import CoderLike, Function

STORED_DTYPES = tuple(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16))

# Batches that lie on the device behind the one whose output is waited for.
AHEAD = 1


class MemoryEncoder:
    """A loaded memory encoder. Made by `load`.

    Args:
        width: d, of a token's memory.
        vocab_size: token ids are below this.
        layers: how many layers are run.
        template: how a passage becomes text; `template.render(title=..., section=..., text=...)`.
        fingerprint: hex digest of all that decides the numbers.
        description: what the digest was taken of; see `fingerprint.memory_description`.
        max_tokens: texts are cut to this, EOS included.
        token_budget: tokens of one batch; see `batching.plan`.
    """

    def __init__(
        self,
        *,
        width: int,
        vocab_size: int,
        layers: int,
        template: PassageTemplate,
        print_of: Fingerprint,
        tokenizer: Tokenizer | None,
        max_tokens: int,
        run: Callable[..., Sequence[jax.Array]],
        token_budget: int,
    ) -> None:
        self.layers = layers
        self.width, self.vocab_size = width, vocab_size
        self.template = template
        self.fingerprint = print_of.hex
        self.description = print_of.description
        self.max_tokens = max_tokens
        self.token_budget = token_budget
        self._tokenizer = tokenizer
        self._run = run
        self._quantized: tuple[CoderLike, Function] | None = None
        # Learned from a device without enough memory, so that it is not tried again with every batch.
        self._most_tokens = token_budget + self.max_tokens
        self._ahead = AHEAD

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        memory: MemorySpec,
        *,
        devices: Sequence[jax.Device] | None = None,
        model_parallel: int | None = None,
    ) -> MemoryEncoder:
        """Loads the lower layers of a T5, from a folder or from the hub, onto jax's devices.

        Args:
            name_or_folder: a Hugging Face T5 in safetensors, or its hub name.
            memory: how passages become memory; the first (1-α)·L layers are loaded, the others are not
                even read.
            devices: which to use; all local ones if not given. A batch's rows are split over them. See
                `sharding.named`.
            model_parallel: devices that share one copy of the weights; None for as many as it takes
                to hold them. See `encoders.sharding`.

        Raises:
            ModelFolderError: the model cannot be loaded.
            EncoderError: α gives no whole number of layers.
        """
        folder, config, layers, tensors, print_of = t5_folder.examine(name_or_folder, memory)
        tokenizer = Tokenizer(folder, max_tokens=memory.max_tokens)
        if tokenizer.size > config.vocab_size:
            raise ModelFolderError(
                f"{folder} has a tokenizer of {tokenizer.size:,} tokens for an embedding of "
                f"{config.vocab_size:,} rows; do they belong together?"
            )
        from encoders import inference, sharding

        compiling.use_kept()
        encoder = inference.Encoder(
            config,
            lambda name: tensors[name].read(),
            layers=layers,
            compute_dtype=memory.compute_dtype,
            mesh=sharding.mesh_for(
                config, layers, memory.compute_dtype, devices=devices, model_parallel=model_parallel
            ),
        )
        return cls(
            width=config.d_model,
            vocab_size=config.vocab_size,
            layers=layers,
            template=PassageTemplate(memory.template),
            print_of=print_of,
            tokenizer=tokenizer,
            max_tokens=memory.max_tokens,
            run=inference.compile_memory(encoder),
            token_budget=memory.token_budget * encoder.data_parallel,
        )

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of rendered passages, cut at max_tokens; EOS stays the last token, as
        transformers' truncation keeps it. An empty text is EOS alone."""
        assert self._tokenizer is not None
        return self._tokenizer(texts)

    def offsets(self, tokens: Tokens) -> npt.NDArray[np.int64]:
        """Where the memory of each text begins, [texts + 1]: every token has a row."""
        return tokens.offsets

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Memory of a few rendered passages, [all their tokens, width] float32."""
        return encoded(self, self.tokenize(texts))

    def encode(
        self,
        tokens: Tokens,
        out: AnyArray,
        coder: CoderLike | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> Spent:
        """Computes the memory of every token, without padding, into `out`.

        Batches depend on the tokens given alone, so the same call gives the same bytes on the same
        kind of machine. Another choice of passages changes a token's memory by rounding only. Where the
        device's memory does not suffice, batches are halved, as often as it takes, for this call and those
        that follow: then the bytes are within rounding of the same.

        Args:
            tokens: from `tokenize`.
            out: [tokens, width], float32, float16 or bfloat16; row t is the memory of
                tokens.ids[t], rounded to its dtype once, from float32. With a coder, stored rows
                [tokens, coder.stored_width] of its codec's stored dtype.
            coder: of `storage.codecs`; what leaves the device is its codes.
            on_batch: called after each batch with the number of passages it wrote.

        Raises:
            ValueError: `out` has another shape or dtype, or an id is not in the vocabulary.
            UnstorableError: a value is beyond `out`'s dtype or the coder (trained T5s have values that
                float16 cannot hold), or not finite. What was written by then is to be discarded.
            DeviceMemoryError: one row is too much for the device.
        """
        self._check(tokens, out, coder)
        quantize = None if coder is None else self._quantizer(coder)
        dtype = out.dtype if coder is None else None
        planned = self._planned(tokens)
        batches = deque(planned)
        sent: deque[tuple[batching.Batch, Sequence[jax.Array]]] = deque()
        halved = 0
        with compiling.counted() as count:
            while batches or sent:
                try:
                    while batches and len(sent) <= self._ahead:
                        batch, *rest = batching.capped(batches.popleft(), self._most_tokens)
                        batches.extendleft(reversed(rest))
                        # Noted before it is sent, so that one whose sending fails is among those that go
                        # back.
                        sent.append((batch, ()))
                        sent[-1] = (batch, self._send(tokens, batch, dtype, quantize))
                    batch = sent[0][0]
                    # This waits. XLA runs behind the calls, and what fails of a batch on the device shows
                    # here.
                    result = [np.asarray(array) for array in sent[0][1]]
                except RuntimeError as error:
                    if not _is_out_of_memory(error):
                        raise
                    self._retreat(batch, error)
                    # All that was under way, in its order, in front of what was not: nothing of it has been
                    # written.
                    batches.extendleft(waiting for waiting, _ in reversed(sent))
                    sent.clear()
                    halved += 1
                    continue
                sent.popleft()
                self._write(batch, result, tokens, out, coder, on_batch)
        if count.compiled:
            compiling.keep_new()
        waste = batching.waste(planned, tokens.lengths)
        return Spent(
            padding=waste.padding,
            filler=waste.filler,
            compiled=count.compiled,
            loaded=count.loaded,
            halved=halved,
        )

    def _planned(self, tokens: Tokens) -> list[batching.Batch]:
        """Which passages run together."""
        return batching.plan(tokens.lengths, max_tokens=self.max_tokens, token_budget=self.token_budget)

    def _send(
        self, tokens: Tokens, batch: batching.Batch, dtype: AnyDtype | None, quantize: Function | None
    ) -> Sequence[jax.Array]:
        """Memory and peaks of a batch, under way from the host to the device and back."""
        result = self._run(*_padded(tokens, batch), dtype, quantize)
        for array in result:
            array.copy_to_host_async()
        return result

    def _retreat(self, batch: batching.Batch, error: RuntimeError) -> None:
        """Ask less of the device, now and from here on; what it was at is computed again.

        Raises:
            DeviceMemoryError: there is no less.
        """
        if batch.rows > 1:
            self._most_tokens = batch.rows // 2 * batch.length
        elif self._ahead:
            self._ahead = 0
        else:
            raise errors.DeviceMemoryError(
                f"the device has too little memory for one row of {batch.length:,} tokens of this encoder; "
                "take a larger one, or end what else uses it"
            ) from error

    def _quantizer(self, coder: CoderLike) -> Function:
        """Made once a coder: its tables stay on the device."""
        if self._quantized is None or self._quantized[0] is not coder:
            from encoders import quantizing

            self._quantized = (coder, quantizing.quantizer(coder))
        return self._quantized[1]

    def _check(self, tokens: Tokens, out: AnyArray, coder: CoderLike | None) -> None:
        if coder is not None:
            wanted = (len(tokens.ids), coder.stored_width)
            if coder.width != self.width or out.shape != wanted or out.dtype != coder.codec.stored_dtype:
                raise ValueError(
                    f"out is {out.dtype} {list(out.shape)} and the coder of width {coder.width}, wanted "
                    f"{coder.codec.stored_dtype} {list(wanted)} and the encoder's width {self.width}"
                )
        elif out.shape != (len(tokens.ids), self.width) or out.dtype not in STORED_DTYPES:
            raise ValueError(
                f"out is {out.dtype} {list(out.shape)}, wanted float32, float16 or bfloat16 "
                f"[{len(tokens.ids)}, {self.width}]: a row per token"
            )
        if len(tokens.ids) and not (tokens.ids.min() >= 0 and tokens.ids.max() < self.vocab_size):
            raise ValueError(
                f"token ids run from {tokens.ids.min()} to {tokens.ids.max()}, wanted 0 to "
                f"{self.vocab_size - 1}; were they made by this encoder's tokenizer?"
            )

    def _write(
        self,
        batch: batching.Batch,
        result: Sequence[AnyArray],
        tokens: Tokens,
        out: AnyArray,
        coder: CoderLike | None,
        on_batch: Callable[[int], None] | None,
    ) -> None:
        values, peaks = result
        if coder is None:
            name, largest = str(out.dtype), float(ml_dtypes.finfo(out.dtype).max)  # type: ignore[no-untyped-call]
        else:
            name, largest = str(coder.codec.name), coder.largest
        # Passages come first in a batch; the filler rows behind them are never looked at.
        for row, passage in enumerate(batch.passages):
            # Written so that NaN fails too.
            if not peaks[row] <= largest:
                raise errors.UnstorableError(
                    f"passage {passage} has a memory value of magnitude {peaks[row]:.6g}, "
                    f"{name} holds up to {largest:.6g}; "
                    + ("store bfloat16 or float32" if np.isfinite(peaks[row]) else "are the weights whole?")
                )
            begin, end = tokens.offsets[passage], tokens.offsets[passage + 1]
            out[begin:end] = values[row, : end - begin]
        if on_batch is not None:
            on_batch(len(batch.passages))


def _padded(tokens: Tokens, batch: batching.Batch) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """ids [rows, length] and lengths [rows]; filler rows are one token long."""
    return tokens.padded(batch.passages, rows=batch.rows, length=batch.length)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """XLA has one class of errors, and tells the kinds apart in words."""
    return "RESOURCE_EXHAUSTED" in str(error)
