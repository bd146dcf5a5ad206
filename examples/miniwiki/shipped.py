"""The demo's models as they are shipped in `trained/`: their names, and the sizes they were made for.

Known to whoever uses them, without PyTorch, which trained them.
"""

from __future__ import annotations

from typing import Final

GTR_NAME: Final = "gtr-tiny"
GLIMMER_NAME: Final = "glimmer-tiny"
# α, and words and tokens of a passage.
LIVE: Final = "1/2"
PASSAGE_WORDS: Final = 48
MAX_TOKENS: Final = 96
