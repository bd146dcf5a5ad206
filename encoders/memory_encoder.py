"""The memory encoder: passages in, every token's memory out.

H_i = MemEnc(P_i), the residual stream after the first (1-α)·L layers of T5 (PAPERS: The reader
family). Importing this loads neither jax nor transformers; loading an encoder does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from encoders import batching, fingerprint, model_folder, weights
from encoders.fingerprint import Fingerprint
from encoders.model_folder import ModelFolderError
from encoders.t5_config import T5Config, memory_layers
from encoders.template import MEMORY_TEMPLATE, PassageTemplate
from encoders.tokenizing import Tokenizer
from encoders.tokenizing import Tokens as Tokens

if TYPE_CHECKING:
    import jax

    from encoders.quantizing import CoderLike

COMPUTE_DTYPES = ("float32", "bfloat16")
STORED_DTYPES = tuple(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16))

# LUMEN and GLIMMER encode passages of up to 304 tokens (PAPERS: Tokens).
MAX_TOKENS = 304


class MemoryEncoder:
    """A loaded memory encoder. Made by `load`.

    Args:
        config: shape of the whole T5 encoder.
        layers: how many of its layers are run.
        template: how a passage becomes text; `template.render(title=..., section=..., text=...)`.
        fingerprint: hex digest of all that decides the numbers.
        description: what the digest was taken of; see `fingerprint.memory_description`.
        max_tokens: texts are cut to this, EOS included.
        token_budget: tokens of one batch; see `batching.plan`.
    """

    def __init__(
        self,
        *,
        config: T5Config,
        layers: int,
        template: PassageTemplate,
        print_of: Fingerprint,
        tokenizer: Tokenizer,
        run: Callable[..., Any],
        token_budget: int,
    ) -> None:
        self.config = config
        self.layers = layers
        self.width = config.d_model
        self.template = template
        self.fingerprint = print_of.hex
        self.description = print_of.description
        self.max_tokens = tokenizer.max_tokens
        self.token_budget = token_budget
        self._tokenizer = tokenizer
        self._run = run
        self._quantized: tuple[CoderLike, Callable[..., Any]] | None = None

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        live_proportion: Fraction,
        compute_dtype: str = "bfloat16",
        max_tokens: int = MAX_TOKENS,
        template: str = MEMORY_TEMPLATE,
        token_budget: int = batching.DEFAULT_TOKEN_BUDGET,
        devices: Sequence[jax.Device] | None = None,
        model_parallel: int | None = None,
    ) -> MemoryEncoder:
        """Loads the lower layers of a T5, from a folder or from the hub, onto jax's devices.

        Args:
            name_or_folder: a Hugging Face T5 in safetensors, or its hub name.
            live_proportion: α; the first (1-α)·L layers are loaded, the others are not even read.
            compute_dtype: "bfloat16" (what the papers store; fast wherever there are bf16 units)
                or "float32" (within rounding of transformers in float32). See `encoders.inference`.
            max_tokens: passages are cut to this, EOS included.
            template: fields {title}, {section}, {text}.
            token_budget: tokens of one batch on each device, padding included. The default is for
                CPUs; take 16,384 or more on an accelerator.
            devices: which to use; all local ones if not given. A batch's rows are split over them.
            model_parallel: devices that share one copy of the weights; None for as many as it takes
                to hold them. See `encoders.sharding`.

        Raises:
            ModelFolderError: the model cannot be loaded.
            ValueError: α gives no whole number of layers, or another argument is out of range.
        """
        batching.bucket_lengths(max_tokens)
        if token_budget < 1:
            raise ValueError(f"token_budget is {token_budget}, wanted a positive number")
        folder, config, layers, tensors, print_of = _examine(
            name_or_folder,
            live_proportion=live_proportion,
            compute_dtype=compute_dtype,
            max_tokens=max_tokens,
            template=template,
        )
        tokenizer = Tokenizer(folder, max_tokens=max_tokens)
        if tokenizer.size > config.vocab_size:
            raise ModelFolderError(
                f"{folder} has a tokenizer of {tokenizer.size:,} tokens for an embedding of "
                f"{config.vocab_size:,} rows; do they belong together?"
            )
        from encoders import inference, sharding

        encoder = inference.Encoder(
            config,
            lambda name: tensors[name].read(),
            layers=layers,
            compute_dtype=compute_dtype,
            mesh=sharding.mesh_for(
                config, layers, compute_dtype, devices=devices, model_parallel=model_parallel
            ),
        )
        return cls(
            config=config,
            layers=layers,
            template=PassageTemplate(template),
            print_of=print_of,
            tokenizer=tokenizer,
            run=inference.compile_memory(encoder),
            token_budget=token_budget * encoder.data_parallel,
        )

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of rendered passages, cut at max_tokens; EOS stays the last token, as
        transformers' truncation keeps it. An empty text is EOS alone."""
        return self._tokenizer(texts)

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Memory of a few rendered passages, [all their tokens, width] float32."""
        tokens = self.tokenize(texts)
        values = np.empty((len(tokens.ids), self.width), np.float32)
        self.encode(tokens, values)
        return values

    def encode(
        self,
        tokens: Tokens,
        out: npt.NDArray[Any],
        coder: CoderLike | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        """Computes the memory of every token, without padding, into `out`.

        Batches depend on the tokens given alone, so the same call gives the same bytes on the same
        kind of machine. Another choice of passages changes a token's memory by rounding only.

        Args:
            tokens: from `tokenize`.
            out: [tokens, width], float32, float16 or bfloat16; row t is the memory of
                tokens.ids[t], rounded to its dtype once, from float32. With a coder, stored rows
                [tokens, coder.stored_width] of its codec's stored dtype.
            coder: of `storage.codecs`; what leaves the device is its codes.
            on_batch: called after each batch with the number of passages it wrote.

        Raises:
            ValueError: `out` has another shape or dtype, or an id is not in the vocabulary.
            OverflowError: a value is beyond `out`'s dtype or the coder (trained T5s have values that float16
                cannot hold), or not finite. What was written by then is to be discarded.
        """
        self._check(tokens, out, coder)
        quantize = None if coder is None else self._quantizer(coder)
        batches = batching.plan(tokens.lengths, max_tokens=self.max_tokens, token_budget=self.token_budget)
        # The next batch is sent to the device before the last one's output is waited for.
        waiting: tuple[batching.Batch, Any] | None = None
        for batch in batches:
            dtype = out.dtype if coder is None else None
            sent = (batch, self._run(*_padded(tokens, batch), dtype, quantize))
            if waiting is not None:
                self._write(*waiting, tokens, out, coder, on_batch)
            waiting = sent
        if waiting is not None:
            self._write(*waiting, tokens, out, coder, on_batch)

    def _quantizer(self, coder: CoderLike) -> Callable[..., Any]:
        """Made once a coder: its tables stay on the device."""
        if self._quantized is None or self._quantized[0] is not coder:
            from encoders import quantizing

            self._quantized = (coder, quantizing.quantizer(coder))
        return self._quantized[1]

    def _check(self, tokens: Tokens, out: npt.NDArray[Any], coder: CoderLike | None) -> None:
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
        if len(tokens.ids) and not (tokens.ids.min() >= 0 and tokens.ids.max() < self.config.vocab_size):
            raise ValueError(
                f"token ids run from {tokens.ids.min()} to {tokens.ids.max()}, wanted 0 to "
                f"{self.config.vocab_size - 1}; were they made by this encoder's tokenizer?"
            )

    def _write(
        self,
        batch: batching.Batch,
        result: Any,
        tokens: Tokens,
        out: npt.NDArray[Any],
        coder: CoderLike | None,
        on_batch: Callable[[int], None] | None,
    ) -> None:
        values, peaks = (np.asarray(array) for array in result)
        if coder is None:
            name, largest = str(out.dtype), float(ml_dtypes.finfo(out.dtype).max)  # type: ignore[no-untyped-call]
        else:
            name, largest = str(coder.codec.name), coder.largest
        for row, passage in enumerate(batch.passages):
            # Written so that NaN fails too.
            if not peaks[row] <= largest:
                raise OverflowError(
                    f"passage {passage} has a memory value of magnitude {peaks[row]:.6g}, "
                    f"{name} holds up to {largest:.6g}; "
                    + ("store bfloat16 or float32" if np.isfinite(peaks[row]) else "are the weights whole?")
                )
            begin, end = tokens.offsets[passage], tokens.offsets[passage + 1]
            out[begin:end] = values[row, : end - begin]
        if on_batch is not None:
            on_batch(len(batch.passages))


def memory_fingerprint(
    name_or_folder: str | Path,
    *,
    live_proportion: Fraction,
    compute_dtype: str = "bfloat16",
    max_tokens: int = MAX_TOKENS,
    template: str = MEMORY_TEMPLATE,
) -> Fingerprint:
    """The fingerprint that `MemoryEncoder.load` would have, without loading the model.

    Args and Raises: as for `MemoryEncoder.load`.
    """
    return _examine(
        name_or_folder,
        live_proportion=live_proportion,
        compute_dtype=compute_dtype,
        max_tokens=max_tokens,
        template=template,
    )[-1]


def _examine(
    name_or_folder: str | Path,
    *,
    live_proportion: Fraction,
    compute_dtype: str,
    max_tokens: int,
    template: str,
) -> tuple[Path, T5Config, int, dict[str, model_folder.Tensor], Fingerprint]:
    """Folder, config, number of layers, their tensors, and the fingerprint."""
    if compute_dtype not in COMPUTE_DTYPES:
        raise ValueError(f"compute_dtype is {compute_dtype!r}, wanted one of {', '.join(COMPUTE_DTYPES)}")
    if max_tokens < 2:
        raise ValueError(f"max_tokens is {max_tokens}, wanted 2 or more: a token and EOS")
    PassageTemplate(template)
    folder = model_folder.resolve(name_or_folder)
    config = weights.read_config(folder)
    layers = memory_layers(config.layers, live_proportion)
    tensors = weights.find(folder, config, layers)
    description = fingerprint.memory_description(
        config=config,
        layers=layers,
        tensors=tensors,
        tokenizer_files=model_folder.find_tokenizer_files(folder),
        max_tokens=max_tokens,
        template=template,
        compute_dtype=compute_dtype,
    )
    return folder, config, layers, tensors, fingerprint.of(description)


def _padded(tokens: Tokens, batch: batching.Batch) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """ids [rows, length] and lengths [rows]; filler rows are one token long."""
    return tokens.padded(batch.passages, rows=batch.rows, length=batch.length)
