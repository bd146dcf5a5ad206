"""MediaWiki markup to plain text in sections."""

from pipeline.wikitext.namespaces import Namespaces as Namespaces
from pipeline.wikitext.sections import MAX_WIKITEXT_CHARS as MAX_WIKITEXT_CHARS
from pipeline.wikitext.sections import WikitextError as WikitextError
from pipeline.wikitext.sections import is_redirect as is_redirect
from pipeline.wikitext.sections import sections as sections
