"""Which pages are redirects by what they say, for dumps that do not mark them.

A schema with `<redirect>` is no proof that the element is there: exports by other tools leave it out.
"""

from __future__ import annotations

import re

# The keyword in the message files of MediaWiki, by language; the English one holds on every wiki. The list
# need not be whole: a word that is not here is taken for one where the page holds nothing else.
_KEYWORDS = """
    REDIRECT REDIRECTION WEITERLEITUNG REDIRECCIÓN REDIRECIONAMENTO RINVIA RINVIO DOORVERWIJZING PATRZ
    PRZEKIERUJ TAM ПЕРЕНАПРАВЛЕНИЕ ПЕРЕНАПР ПЕРЕНАПРАВЛЕННЯ ПЕРАНАКІРАВАННЕ ПЕРАНАКІРАВАНЬНЕ ПРЕНАСОЧВАНЕ ВИЖ
    ПРЕУСМЕРИ PREUSMJERI PREUSMERITEV ПРЕНАСОЧУВАЊЕ ВИДИ OMDIRIGERING OMDIRIGER OHJAUS UUDELLEENOHJAUS
    ÁTIRÁNYÍTÁS PŘESMĚRUJ PRESMERUJ REDIRECTEAZA YÖNLENDİRME YÖNLENDİR İSTİQAMƏTLƏNDİRMƏ ĐỔI ALIH LENCONG
    SUUNA PERADRESAVIMAS TILVÍSUN ATHSHEOLADH AIL-CYFEIRIO ADKAS BIRZUZENDU ALIDIREKTU ΑΝΑΚΑΤΕΥΘΥΝΣΗ ՎԵՐԱՀՂՈՒՄ
    გადამისამართება АЙДАУ ЮНӘЛТҮ YONALTIRISH تحويل تغییر_مسیر تغییرمسیر تغيير_مسير رجوع_مکرر הפניה ווייטערפירן
    पुनर्प्रेषित अनुप्रेषित पुनर्निर्देशन पुनर्निर्देशित पुर्ननिर्देशन পুনর্নির্দেশ পুনর্নির্দেশনা ਰੀਡਾਇਰੈਕਟ ਰੀਡਿਰੈਕਟ પુનઃનિર્દેશન
    வழிமாற்று దారిమార్పు దారిమళ్ళింపు ಪುನರ್ನಿರ್ದೇಶನ തിരിച്ചുവിടുക යළියොමුව เปลี่ยนทาง ປ່ຽນທາງ ប្ដូរទីតាំងទៅ ប្តូរទីតាំងទៅ
    転送 リダイレクト 넘겨주기 重定向 重新導向
""".split()
_KNOWN = frozenset(word.casefold() for word in _KEYWORDS)
# A keyword holds letters, marks (Thai, Hindi), joiners (Persian), "_" and "-". One of 40 is longer than any.
_FORM = re.compile(r"\s*#\s*+([^\s\[\]{}|<>:#*]{1,40})\s*+(?::\s*+)?\[\[[^\[\]]{1,512}\]\]")
_NO_TEXT = re.compile(
    r"\s*+(?:\[\[[^\[\]:]{1,40}:[^\[\]]{1,512}\]\]|\{\{[^{}]{1,512}\}\}|<!--.{0,512}?-->|__\w{1,40}?__)"
)


def is_redirect(wikitext: str) -> bool:
    """Whether the page is a redirect, in any language: "#WEITERLEITUNG [[Ziel]]".

    "#Alpha [[Beta]]" with anything after it but templates and categories is a numbered list.
    """
    found = _FORM.match(wikitext)
    if found is None:
        return False
    if found.group(1).casefold() in _KNOWN:
        return True
    position = found.end()
    while rest := _NO_TEXT.match(wikitext, position):
        position = rest.end()
    return not wikitext[position:].strip()
