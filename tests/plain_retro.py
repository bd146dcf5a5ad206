"""RETRO in plain NumPy and loops, float64, without masks or padding: what is not there is not computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from encoders.retro.config import GATED, RELATIVE, LanguageConfig, RetroConfig

Weights = dict[str, Any]


def norm(x: np.ndarray, scale: np.ndarray, epsilon: float) -> np.ndarray:
    return scale * x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


def cosines(distance: int, width: int) -> np.ndarray:
    angles = [distance / 10_000 ** (2 * i / width) for i in range(width // 2)]
    return np.array([*map(np.sin, angles), *map(np.cos, angles)])


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def turn(x: np.ndarray, place: int, theta: float) -> np.ndarray:
    """A pair of numbers, those of the same place in both halves of a head, turned by an angle."""
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
        angle = place / theta ** (2 * i / len(x))
        a, b = x[i], x[i + half]
        out[i] = a * np.cos(angle) - b * np.sin(angle)
        out[i + half] = b * np.cos(angle) + a * np.sin(angle)
    return out


def read(
    config: LanguageConfig,
    w: Weights,
    prefix: str,
    query: np.ndarray,
    keys: list[tuple[np.ndarray, int, int]],
    *,
    relative: bool,
    place: int = 0,
) -> np.ndarray:
    """One query's attention over (vector, distance, place) of its keys."""
    heads, d = config.heads, config.d_head
    q = w[f"{prefix}.q_proj.weight"] @ query
    out = []
    for head in range(heads):
        mine = slice(head * d, (head + 1) * d)
        rows = len(w[f"{prefix}.k_proj.weight"]) // d
        group = head * rows // heads
        theirs = slice(group * d, (group + 1) * d)
        scores, values = [], []
        for vector, distance, key_place in keys:
            k = (w[f"{prefix}.k_proj.weight"] @ vector)[theirs]
            values.append((w[f"{prefix}.v_proj.weight"] @ vector)[theirs])
            if relative:
                r = (w[f"{prefix}.r_proj.weight"] @ cosines(distance, config.d_model))[mine]
                content = (q[mine] + w[f"{prefix}.content_bias"][head]) @ k
                score = content + (q[mine] + w[f"{prefix}.position_bias"][head]) @ r
            else:
                theta = config.rotary_theta
                score = turn(q[mine], place, theta) @ turn(k, key_place, theta)
            scores.append(score / np.sqrt(d))
        out.append(softmax(np.array(scores)) @ np.array(values))
    return w[f"{prefix}.o_proj.weight"] @ np.concatenate(out)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def feed(config: LanguageConfig, w: Weights, prefix: str, h: np.ndarray) -> np.ndarray:
    x = norm(h, w[f"{prefix}.post_attention_layernorm.weight"], config.norm_epsilon)
    up = x @ w[f"{prefix}.mlp.up_proj.weight"].T
    if config.feed_forward == GATED:
        gate = x @ w[f"{prefix}.mlp.gate_proj.weight"].T
        inner = gate / (1 + np.exp(-gate)) * up
    else:
        inner = gelu(up)
    return h + inner @ w[f"{prefix}.mlp.down_proj.weight"].T


def attend(
    config: LanguageConfig, w: Weights, prefix: str, h: np.ndarray, sees: list[list[int]]
) -> np.ndarray:
    """Self-attention; `sees` lists for each place the places that it sees."""
    x = norm(h, w[f"{prefix}.input_layernorm.weight"], config.norm_epsilon)
    relative = config.positions == RELATIVE
    out = h.copy()
    for i, seen in enumerate(sees):
        if seen:
            keys = [(x[j], i - j, j) for j in seen]
            out[i] += read(config, w, f"{prefix}.self_attn", x[i], keys, relative=relative, place=i)
    return out


def encode(
    chosen: RetroConfig, w: Weights, tokens: np.ndarray, real: np.ndarray, chunk: dict[int, np.ndarray]
) -> dict[int, np.ndarray]:
    """States of one neighbour by place; `chunk` has H_u by place."""
    assert chosen.encoder is not None
    shape = chosen.encoder.as_language(chosen.language.vocab_size)
    places = [i for i in range(len(tokens)) if real[i]]
    table = w.get("encoder.embed_tokens.weight", w["model.embed_tokens.weight"])
    e = np.zeros((len(tokens), shape.d_model))
    e[places] = table[tokens[places]]
    sees = [places if i in places else [] for i in range(len(tokens))]
    for layer in range(shape.layers):
        prefix = f"encoder.layers.{layer}"
        e = attend(shape, w, prefix, e, sees)
        if layer == 0 and chosen.encoding == "conditioned" and chunk:
            x = norm(e, w[f"{prefix}.cross_layernorm.weight"], shape.norm_epsilon)
            asked = {
                i: norm(one, w["encoder.chunk_norm.weight"], shape.norm_epsilon) for i, one in chunk.items()
            }
            for place in places:
                keys = [(one, place - i, 0) for i, one in asked.items()]
                e[place] += read(shape, w, f"{prefix}.cross_attn", x[place], keys, relative=True)
        e = feed(shape, w, prefix, e)
    return {i: e[i] for i in places}


def retro(
    chosen: RetroConfig,
    weights: dict[str, np.ndarray],
    tokens: np.ndarray,
    lengths: np.ndarray,
    documents: np.ndarray,
    neighbours: Any = None,
) -> np.ndarray:
    """Logits of one row, NaN where there is no token. `neighbours` is (tokens or states, real) of [l, k,
    r]."""
    w: Weights = {name: np.asarray(one, np.float64) for name, one in weights.items()}
    config, m = chosen.language, chosen.chunk_tokens
    n = len(tokens)
    real = [p % m < lengths[p // m] for p in range(n)]
    of = [documents[p // m] for p in range(n)]
    sees = [[j for j in range(i + 1) if real[j] and of[j] == of[i]] if real[i] else [] for i in range(n)]
    h = w["model.embed_tokens.weight"][tokens]
    encoded: dict[tuple[int, int], dict[int, np.ndarray]] = {}
    for number in range(1, config.layers + 1):
        prefix = f"model.layers.{number - 1}"
        h = attend(config, w, prefix, h, sees)
        if neighbours is not None and number in chosen.cca_layers:
            values, there = neighbours
            if number == chosen.cca_layers[0]:
                for u in range(n // m):
                    chunk = {i: h[u * m + i] for i in range(lengths[u])}
                    for j in range(values.shape[1]):
                        if chosen.encodes:
                            found = encode(chosen, w, values[u, j], there[u, j], chunk)
                        else:
                            found = {i: values[u, j, i] for i in np.flatnonzero(there[u, j])}
                        encoded[u, j] = {
                            i: norm(e, w["memory_norm.weight"], config.norm_epsilon) for i, e in found.items()
                        }
            added = np.zeros_like(h)
            name = f"cca.{number}"
            x = norm(h, w[f"{name}.norm.weight"], config.norm_epsilon)
            for p in range(m - 1, n):
                u, i = divmod(p - (m - 1), m)
                keys = [
                    (e, i - place + m - 1, 0)
                    for j in range(values.shape[1])
                    for place, e in encoded[u, j].items()
                ]
                if keys and real[p] and of[p] == documents[u]:
                    added[p] = read(config, w, f"{name}.attention", x[p], keys, relative=True)
            h = h + added
        h = feed(config, w, prefix, h)
    x = norm(h, w["model.norm.weight"], config.norm_epsilon)
    head = w["model.embed_tokens.weight"] if config.tied else w["lm_head.weight"]
    out: np.ndarray = x @ head.T
    out[~np.array(real)] = np.nan
    return out
