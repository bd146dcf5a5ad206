"""Who takes part: ours, and the peers, each with the batches that suit it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.encoder.work import MAX_TOKENS, Work
from encoders import attention, batching, inference

# Passages of a batch that is padded to the longest possible, as one would do it first.
PADDED_ROWS: Final = 16


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some passages, as ids and mask [rows, length]."""

    passages: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.int32]


def padded(work: Work, budget: int) -> Iterator[Batch]:
    """In the order given, all as long as the longest possible; whatever the budget."""
    for start in range(0, len(work.passages), PADDED_ROWS):
        some = np.arange(start, min(start + PADDED_ROWS, len(work.passages)))
        ids, mask = work.padded(some, MAX_TOKENS)
        yield Batch(passages=some, ids=ids, mask=mask)


def by_length(work: Work, budget: int) -> Iterator[Batch]:
    """Sorted, padded to the longest of each batch, as many as the budget of tokens holds."""
    order = np.argsort(-work.lengths, kind="stable")
    while len(order):
        longest = int(work.lengths[order[0]])
        some, order = np.split(order, [max(1, budget // longest)])
        ids, mask = work.padded(some, longest)
        yield Batch(passages=some, ids=ids, mask=mask)


def in_buckets(work: Work, budget: int) -> Iterator[Batch]:
    """As `batching.plan` has it: few shapes, each compiled once."""
    for planned in batching.plan(work.lengths, max_tokens=MAX_TOKENS, token_budget=budget):
        ids, mask = work.padded(planned.passages, planned.length)
        filler = ((0, planned.rows - len(ids)), (0, 0))
        mask = np.pad(mask, filler)
        mask[len(ids) :, 0] = 1  # a filler row is one token long
        yield Batch(passages=planned.passages, ids=np.pad(ids, filler), mask=mask)


class Contender:
    """An encoder of batches.

    Attributes:
        name: in the tables.
        dtypes: those it can compute in, of "float32" and "bfloat16".
        batches: how passages are put together.
    """

    name: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    batches: Callable[[Work, int], Iterator[Batch]] = staticmethod(by_length)

    def __init__(self, work: Work, dtype: str, budget: int) -> None:
        self.work, self.dtype = work, dtype
        self.prepared = list(type(self).batches(work, budget))
        self.load()

    def load(self) -> None:
        raise NotImplementedError

    def encode(self, batch: Batch) -> Any:
        """[rows, tokens, d], wherever it is computed; `ready` brings it here."""
        raise NotImplementedError

    def ready(self, result: Any) -> npt.NDArray[np.float32]:
        return np.asarray(result, np.float32)

    def run(self) -> None:
        """All batches, each until its values are on the host."""
        for batch in self.prepared:
            self.ready(self.encode(batch))

    def largest_error(self, reference: Sequence[npt.NDArray[np.float32]]) -> float:
        """max|a - b| / max|b| of all passages; NaN if there is one."""
        largest, scale = 0.0, 0.0
        for batch in self.prepared:
            values = self.ready(self.encode(batch))
            for row, passage in enumerate(batch.passages):
                wanted = reference[passage]
                error = np.abs(values[row, : len(wanted)] - wanted).max()
                largest = float(error) if np.isnan(error) else max(largest, float(error))
                scale = max(scale, float(np.abs(wanted).max()))
        return largest / scale

    @property
    def waste(self) -> float:
        """Share of the tokens computed that are padding or filler."""
        return 1 - self.work.tokens / sum(batch.ids.size for batch in self.prepared)


class Ours(Contender):
    name = "memcorpus"
    batches = staticmethod(in_buckets)
    kernel: ClassVar[str | None] = None

    def load(self) -> None:
        config, layers = self.work.config, self.work.config.layers
        state = {name.removeprefix("encoder."): t for name, t in self.work.model.state_dict().items()}
        self._encoder = inference.Encoder(
            config, lambda name: state[name].float().numpy(), layers=layers, compute_dtype=self.dtype
        )
        self._program = inference.program(
            config,
            layers,
            compute_dtype=self.dtype,
            mesh=self._encoder.mesh,
            finish=partial(_stored, dtype=np.dtype(self.dtype)),
            kernel=self.kernel,
        )

    def encode(self, batch: Batch) -> Any:
        return self._program(self._encoder.weights, batch.ids, batch.mask.sum(1).astype(np.int32))


def _stored(h: Any, real: Any, *, dtype: np.dtype[Any]) -> Any:
    return h.astype(dtype)


class OursAtOnce(Ours):
    name = "memcorpus, rows at once"
    kernel = attention.AT_ONCE


class Transformers(Contender):
    name = "transformers, sorted"

    def load(self) -> None:
        import copy

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = copy.deepcopy(self.work.model).to(self._device, getattr(torch, self.dtype))

    def encode(self, batch: Batch) -> Any:
        ids, mask = (torch.tensor(a, device=self._device).long() for a in (batch.ids, batch.mask))
        with torch.inference_mode():
            return self._model(input_ids=ids, attention_mask=mask).last_hidden_state

    def ready(self, result: Any) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = result.cpu().float().numpy()
        return values


class TransformersPadded(Transformers):
    name = "transformers, padded"
    batches = staticmethod(padded)


class Compiled(Transformers):
    name = "torch.compile, sorted"

    def load(self) -> None:
        super().load()
        self._model = torch.compile(self._model, dynamic=True)


class _Ids(torch.nn.Module):
    """The model as a function of two tensors, for exporters."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Any, mask: Any) -> Any:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


_EXAMPLE = (torch.ones(2, 16, dtype=torch.long), torch.ones(2, 16, dtype=torch.long))


class OnnxRuntime(Contender):
    name = "ONNX Runtime, sorted"
    dtypes = ("float32",)  # its CPU kernels have no bfloat16

    def load(self) -> None:
        import onnxruntime

        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "encoder.onnx"
        axes = {0: "rows", 1: "tokens"}
        torch.onnx.export(
            _Ids(self.work.model),
            _EXAMPLE,
            path,
            input_names=["ids", "mask"],
            output_names=["memory"],
            dynamic_axes={"ids": axes, "mask": axes, "memory": axes},
            dynamo=False,  # the newer exporter cannot decompose T5's position buckets (torch 2.13)
        )
        self._session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())

    def encode(self, batch: Batch) -> Any:
        inputs = {"ids": batch.ids.astype(np.int64), "mask": batch.mask.astype(np.int64)}
        return self._session.run(None, inputs)[0]


class OpenVino(Contender):
    name = "OpenVINO, sorted"

    def load(self) -> None:
        import openvino

        converted = openvino.convert_model(_Ids(self.work.model), example_input=_EXAMPLE)
        hint = {"float32": "f32", "bfloat16": "bf16"}[self.dtype]
        self._model = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": hint})

    def encode(self, batch: Batch) -> Any:
        return self._model((batch.ids.astype(np.int64), batch.mask.astype(np.int64)))[0]


class CTranslate2(Contender):
    name = "CTranslate2, sorted"

    def load(self) -> None:
        import ctranslate2
        from ctranslate2.converters.transformers import T5Loader
        from ctranslate2.specs import common_spec, transformer_spec

        config = self.work.config
        # Its converter knows whole T5s; the encoder's half of it takes what is written out here.
        encoder = transformer_spec.TransformerEncoderSpec(
            config.layers,
            config.heads,
            pre_norm=True,
            activation=common_spec.Activation.GELUTanh,
            ffn_glu=True,
            relative_attention_bias=True,
            rms_norm=True,
        )
        spec = transformer_spec.TransformerEncoderModelSpec(encoder)
        T5Loader().set_stack(spec.encoder, self.work.model.encoder)
        spec.register_vocabulary([f"<{i}>" for i in range(config.vocab_size)])
        spec.config.unk_token = "<2>"
        self._folder = tempfile.TemporaryDirectory()
        spec.validate()
        spec.save(self._folder.name)
        device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        self._encoder = ctranslate2.Encoder(
            self._folder.name, device=device, compute_type=self.dtype, intra_threads=torch.get_num_threads()
        )

    def encode(self, batch: Batch) -> Any:
        import ctranslate2

        lengths = ctranslate2.StorageView.from_array(batch.mask.sum(1).astype(np.int32))
        ids = ctranslate2.StorageView.from_array(batch.ids)
        return self._encoder.forward_batch(ids, lengths=lengths).last_hidden_state

    def ready(self, result: Any) -> npt.NDArray[np.float32]:
        import ctranslate2

        return np.array(result.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu))


ALL: Final = (
    Ours,
    OursAtOnce,
    TransformersPadded,
    Transformers,
    Compiled,
    OnnxRuntime,
    OpenVino,
    CTranslate2,
)
