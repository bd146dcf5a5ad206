"""One memory specification: what it refuses, and that cards and plans have its JSON as they ever had."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from encoders import EncoderError, batching, memory_spec
from encoders.memory_spec import MemorySpec
from encoders.t5_folder import memory_fingerprint
from examples.miniwiki import demo
from pipeline.components.settings import BuildSettings

GOLDEN = Path(__file__).parent / "golden" / "format-1"
# As corpus.json of a corpus has them, in this order.
WRITTEN = {
    "live_proportion": "1/3",
    "codec": "bfloat16",
    "compute_dtype": "bfloat16",
    "token_budget": 608,
    "max_tokens": 304,
    "passage_words": 200,
    "memory_template": "title: {title} context: {text}",
    "keep_sections": False,
    "retriever_template": "{title} {text}",
    "vector_dtype": "float32",
    "retriever_backend": None,
    "shard_passages": None,
    "split_bytes": 1 << 25,
}


def test_json_of_cards_and_plans() -> None:
    own = {name: WRITTEN[name] for name in memory_spec.SETTINGS if name != "memory_layers"}
    assert json.dumps(MemorySpec().to_json()) == json.dumps({**own, "batching": batching.VERSION})
    assert json.dumps(MemorySpec(batching=None).to_json()) == json.dumps(own)
    built = BuildSettings(sources=("a",), retriever="r", memory_encoder="m", memory=MemorySpec())
    assert json.dumps(built.deciding()) == json.dumps(WRITTEN)
    assert MemorySpec.from_json(built.deciding()) == MemorySpec(batching=None)


def test_golden_cards_are_read_and_written_as_they_are() -> None:
    cards = sorted(GOLDEN.glob("memory/*/memory.json"))
    assert len(cards) == 4
    for card in cards:
        written = json.loads(card.read_text())["settings"]
        assert json.dumps(MemorySpec.from_json(written).to_json()) == json.dumps(written)


def test_the_fingerprint_of_the_demos_reader() -> None:
    """Whoever changes what goes into it makes every corpus another encoder's."""
    spec = MemorySpec(live_proportion=Fraction(1, 2), max_tokens=96)
    made = memory_fingerprint(demo.MODELS / "glimmer-tiny", spec)
    assert made.hex == "4ecbe75cc9243f9bf1eb67b7a637d3b3a6ea4c627dfaf1f1e860e233d37c1e6c"
    for change in ({"token_budget": 1}, {"batching": None}):
        other = memory_fingerprint(demo.MODELS / "glimmer-tiny", replace(spec, **change))
        assert other == made


def test_changed() -> None:
    spec = MemorySpec(max_tokens=96, batching=None)
    other = spec.changed({"live_proportion": 0.25, "codec": "int8"})
    assert other == replace(spec, live_proportion=Fraction(1, 4), batching=batching.VERSION)
    assert spec.changed({}) == replace(spec, batching=batching.VERSION)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"live_proportion": "3/2"}, "live proportion 3/2 is above 1"),
        ({"live_proportion": "-1"}, "live proportion '-1' is no number"),
        ({"live_proportion": True}, "setting live_proportion is True, wanted str or int or float"),
        ({"compute_dtype": "int8"}, "unknown compute dtype 'int8'; known are float32, bfloat16"),
        ({"compute_dtype": 32}, "setting compute_dtype is 32, wanted str"),
        ({"token_budget": 0}, "token budget is 0, wanted 1 or more"),
        ({"max_tokens": 1}, "max tokens is 1, wanted 2 or more"),
        ({"max_tokens": 304.0}, r"setting max_tokens is 304\.0, wanted int"),
        ({"max_tokens": True}, "setting max_tokens is True, wanted int"),
        ({"memory_template": "{title}"}, "has no {text}"),
        ({"memory_layers": "4,,8"}, "memory layers are '4,,8', wanted numbers of layers with commas"),
        ({"memory_layers": "4,4"}, "memory layers are 4,4, wanted one or more, each once"),
        ({"memory_layers": True}, "setting memory_layers is True, wanted str or int"),
        ({"memory_template": None}, "setting memory_template is None, wanted str"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        MemorySpec().changed(change)


def test_what_is_not_whole_is_refused() -> None:
    for name in set(memory_spec.SETTINGS) - {"live_proportion", "memory_layers"}:
        raw = {key: value for key, value in MemorySpec().to_json().items() if key != name}
        with pytest.raises(EncoderError, match=f"setting {name} is missing"):
            MemorySpec.from_json(raw)
    with pytest.raises(EncoderError, match="setting batching is '1', wanted int"):
        MemorySpec.from_json({**MemorySpec().to_json(), "batching": "1"})


def test_of_an_encoder_that_is_no_t5() -> None:
    """Cards have its layers, as they were settled, in place of α."""
    spec = replace(MemorySpec(), live_proportion=None)
    assert "live_proportion" not in spec.to_json()
    assert MemorySpec.from_json(spec.to_json()) == spec
    several = spec.changed({"memory_layers": "4, 8,-1"})
    assert several.layers == (4, 8, -1)
    assert several.to_json()["memory_layers"] == "4,8,-1"
    assert MemorySpec.from_json(several.to_json()) == several
    assert spec.changed({"memory_layers": 12}).layers == (12,)


def test_a_settings_file_may_say_zero(tmp_path: Path) -> None:
    """0 is a live proportion, MemoryFiD's, and no missing value."""
    config = tmp_path / "build.toml"
    config.write_text("live_proportion = 0\nmax_tokens = 96\n")
    given = {"sources": ("jsonl:a",), "retriever": "r", "memory_encoder": "m"}
    built = BuildSettings.load(config, given)
    assert built.memory == MemorySpec(live_proportion=Fraction(0), max_tokens=96)
