"""MediaWiki markup to plain text in sections."""

from pipeline.text.wikitext.namespaces import Namespaces as Namespaces
from pipeline.text.wikitext.redirects import is_redirect as is_redirect
from pipeline.text.wikitext.sections import MAX_WIKITEXT_CHARS as MAX_WIKITEXT_CHARS
from pipeline.text.wikitext.sections import WikitextError as WikitextError
from pipeline.text.wikitext.sections import sections as sections
