"""A small encyclopedia in MediaWiki's export format, made from tables of facts, with its own truth.

`python -m examples.miniwiki dump OUT` writes a dump, `... tasks OUT_DIR` questions about it in KILT's
format, `... models OUT_DIR` the small models of the demo (they are in `examples.miniwiki.models`, which
alone imports torch).
"""

from examples.miniwiki.articles import article_of as article_of
from examples.miniwiki.export import FILE_NAMES as FILE_NAMES
from examples.miniwiki.export import FORMS as FORMS
from examples.miniwiki.export import DumpTruth as DumpTruth
from examples.miniwiki.export import page_ids as page_ids
from examples.miniwiki.export import write_dump as write_dump
from examples.miniwiki.invented import invented_entities as invented_entities
from examples.miniwiki.pages import WikiPage as WikiPage
from examples.miniwiki.pages import count_articles as count_articles
from examples.miniwiki.pages import drafts as drafts
from examples.miniwiki.pages import pages as pages
from examples.miniwiki.questions import Question as Question
from examples.miniwiki.questions import questions as questions
from examples.miniwiki.tasks import write_tasks as write_tasks
