"""A retriever as its own library, sentence-transformers, runs it; and how it read what it was given.

Importing this loads no framework; a `Tower` does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.model_folder import ModelFolderError
from encoders.retriever_folder import QUERY, RetrieverFolder
from encoders.tokenizing import Read, unknown_id
from encoders.transformers_output import silenced

# Ids that a model was given, and which are no padding: [rows, tokens] both.
_Given: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]
# Of the first token's state, which no Pooling reads: folders may lack its weights.
_UNREAD = "pooler."


class Tower:
    """The model as sentence-transformers runs it, texts of similar length together.

    Args:
        folder: the model's.
        batch_size: texts of a batch.
        device: as for `sharding.named`; the first of several is taken.

    Raises:
        ModelFolderError: it cannot be loaded, or its files lack weights.
    """

    def __init__(self, folder: RetrieverFolder, *, batch_size: int, device: str) -> None:
        with silenced():
            import torch
            from sentence_transformers import SentenceTransformer

            try:
                model = SentenceTransformer(
                    str(folder.path),
                    # None: an accelerator if there is one. Torch has another word for the kind.
                    device=None if device == "all" else device.replace("gpu", "cuda"),
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"dtype": torch.float32, "use_safetensors": True},
                )
            except Exception as error:  # whatever the modules' own loaders raise
                reason = " ".join(str(error).split())
                raise ModelFolderError(f"{folder.path} cannot be loaded as a retriever: {reason}") from error
            place = folder.place(folder.modules[0])
            require_all_weights(folder.path, place, folder.shapes(folder.modules[0]), model[0].model)
        self.model: Any = model.float().eval()
        self.model.max_seq_length = folder.max_tokens
        self.model.truncate_dim = folder.truncate_dim
        self.dim: int = self.model.get_embedding_dimension()
        self._prompts = folder.prompts
        self._batch_size = batch_size
        self._alone = threading.Lock()
        self._unknown = unknown_id(self.model.tokenizer)

    def batches(
        self, texts: Sequence[str], role: str, *, count: bool
    ) -> Iterator[tuple[Any, npt.NDArray[np.float32], Read | None]]:
        encode = self.model.encode_query if role == QUERY else self.model.encode_document
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            batch = [texts[i] for i in rows]
            # Where a text is cut is a state of the library's tokenizer, and what is watched one of its model.
            with self._alone:
                with self._watched(count) as given:
                    vectors = encode(
                        batch,
                        prompt=self._prompts[role],
                        batch_size=len(rows),
                        show_progress_bar=False,
                        convert_to_numpy=True,
                    )
                read = self._read(batch, role, given) if count else None
            yield rows, vectors, read

    @contextmanager
    def _watched(self, count: bool) -> Iterator[list[_Given]]:
        """Keeps what the first module is given meanwhile."""
        given: list[_Given] = []

        def see(_: object, features: tuple[dict[str, Any], ...]) -> None:
            ids, real = (features[0][name].cpu().numpy() for name in ("input_ids", "attention_mask"))
            given.append((ids, real.astype(bool)))

        hook = self.model[0].register_forward_pre_hook(see) if count else None
        try:
            yield given
        finally:
            if hook is not None:
                hook.remove()

    def _read(self, texts: list[str], role: str, given: list[_Given]) -> Read:
        """How a batch was read: from what the model was given, and from the texts uncut.

        A text that was cut is as long as the limit, and so as the longest of its batch. So where that is
        below the limit nothing was cut, and no text is looked at again.
        """
        lengths = np.concatenate([real.sum(axis=1) for _, real in given])
        longest = int(lengths.max())
        cut = np.zeros(1, np.int64)
        if longest >= self._limit(role):
            with silenced():  # of texts that are too long
                whole = self.model.preprocess(
                    texts,
                    prompt=self._prompts[role],
                    task=role,
                    processing_kwargs={"text": {"truncation": False}},
                )
            cut = np.maximum(whole["attention_mask"].cpu().numpy().sum(axis=1) - longest, 0)
        unknown = 0
        if self._unknown is not None:
            unknown = sum(int(np.count_nonzero(real & (ids == self._unknown))) for ids, real in given)
        return Read(
            texts=len(texts),
            tokens=int(lengths.sum()),
            texts_cut=int(np.count_nonzero(cut)),
            tokens_cut=int(cut.sum()),
            tokens_unknown=unknown,
        )

    def _limit(self, role: str) -> int:
        """The least that may be the limit of this role."""
        own = getattr(self.model[0], f"{role}_length", None)
        text = (getattr(self.model[0], "processing_kwargs", None) or {}).get("text") or {}
        limits = (self.model.max_seq_length, own, text.get("max_length"))
        return min(int(limit) for limit in limits if limit is not None)


def require_all_weights(path: Path, place: Path, stored: Iterable[str], model: Any) -> None:
    """Refuse a model of which the library has made up weights: it starts what it does not find at random.

    Names tell at once where all are there. Where they do not, since the library renames some, it is asked.

    Args:
        path: the folder, for messages.
        place: where the Transformer's files are.
        stored: names of its tensors.
        model: transformers' own.
    """
    names = {name.removeprefix(f"{model.base_model_prefix}.") for name in stored}
    if all(name in names or name.startswith(_UNREAD) for name, _ in model.named_parameters()):
        return
    _, told = type(model).from_pretrained(
        str(place),
        config=model.config,
        output_loading_info=True,
        local_files_only=True,
        use_safetensors=True,
    )
    missing = sorted(name for name in told["missing_keys"] if not name.startswith(_UNREAD))
    if missing:
        raise ModelFolderError(
            f"{path} lacks {len(missing):,} of its weights ({missing[0]}, ...), which would be "
            "random; copy or save the model again"
        )
