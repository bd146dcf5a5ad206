"""Formulas that read as text: "n ≥ 2", "{2, 4, 4}", "E = mc^2". The others are dropped.

A formula with fractions, roots or matrices says nothing once it is in a line, and TeX's commands
are noise to a reader; but "for every <math>n \\ge 2</math>" without its "n ≥ 2" is a broken
sentence. So what stays is what has a plain character for everything in it.
"""

from __future__ import annotations

import re

MAX_CHARS = 80  # of a formula's source; longer ones are displayed apart from the sentence

_GREEK = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ iota ι kappa κ "
    "lambda λ mu μ nu ν xi ξ pi π rho ρ sigma σ tau τ upsilon υ phi φ varphi φ chi χ psi ψ omega ω "
    "Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ Omega Ω"
).split()
_SIGNS = (
    "times × cdot · pm ± mp ∓ le ≤ leq ≤ ge ≥ geq ≥ ne ≠ neq ≠ approx ≈ sim ~ equiv ≡ propto ∝ "
    "in ∈ notin ∉ subset ⊂ subseteq ⊆ cup ∪ cap ∩ emptyset ∅ varnothing ∅ infty ∞ partial ∂ "
    "nabla ∇ to → rightarrow → leftarrow ← Rightarrow ⇒ implies ⇒ iff ⇔ leftrightarrow ↔ "
    "rightleftharpoons ⇌ mapsto ↦ forall ∀ exists ∃ neg ¬ lnot ¬ land ∧ wedge ∧ lor ∨ vee ∨ "
    "ldots … dots … cdots ⋯ circ ∘ oplus ⊕ otimes ⊗ perp ⊥ parallel ∥ mid | langle ⟨ rangle ⟩ "
    "hbar ℏ ell ℓ degree ° prime ′ ll ≪ gg ≫ div ÷ ast * star ⋆"
).split()
_COMMANDS = {
    **dict(zip(_GREEK[::2], _GREEK[1::2], strict=True)),
    **dict(zip(_SIGNS[::2], _SIGNS[1::2], strict=True)),
    # Spacing and style, which a line has none of.
    **dict.fromkeys(["quad", "qquad", ",", ";", ":", " ", "!"], " "),
    **dict.fromkeys(["left", "right", "displaystyle", "textstyle", "big", "Big", "limits"], ""),
    **{sign: sign for sign in "{}%&#_$"},
    **{name: name for name in "sin cos tan log ln exp lim min max sup inf det dim gcd arg".split()},
}
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_STYLE = re.compile(
    r"\\(?:mathrm|mathbf|mathit|mathsf|mathbb|mathcal|mathfrak|text|textrm|textbf|textit|mbox|"
    r"operatorname|boldsymbol|rm|bf)\s*\{([^{}\\]*)\}"
)
# "x_{ij}" and "x^{2n}" as "x_ij" and "x^2n", which is how they are said; longer scripts are not.
_SCRIPT = re.compile(r"([_^])\{([\w+\-−,′*]{1,4})\}")
# Braces that only group, and those that say something which a line cannot.
_GROUP = re.compile(r"(?<![\w^_}\\])\{([^{}\\_^]*)\}")
_BRACE = re.compile(r"(?<!\\)[{}]")


def plain(source: str) -> str:
    """The formula as plain text, or an empty string where it has none."""
    source = source.strip()
    if len(source) > MAX_CHARS:
        return ""
    text = _STYLE.sub(r"\1", source.replace("\\displaystyle", "").replace("~", " "))
    text = _GROUP.sub(r"\1", _SCRIPT.sub(r"\1\2", text))
    unknown = _BRACE.search(text) is not None

    def character(found: re.Match[str]) -> str:
        nonlocal unknown
        shown = _COMMANDS.get(found.group(1))
        unknown = unknown or shown is None
        return shown or ""

    text = " ".join(_COMMAND.sub(character, text).split())
    return text if not unknown and any(map(str.isalnum, text)) else ""
