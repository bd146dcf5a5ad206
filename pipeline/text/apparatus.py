"""Sections that are no prose: "See also", "References", "External links", in the language of the wiki.

They hold titles of other pages and books, and a retriever takes those for the best answer to anything. Names
are exact and few: what Wikipedias call these sections by their manuals of style. Some are what an article may
well tell of ("Sources" of a river): under those a list is apparatus, and paragraphs are prose.
"""

from __future__ import annotations

import functools
import re

# By language: names under which nothing is prose; then, behind " / ", those under which a list is none.
_NAMES = {
    "en": "see also|references|external links|external link|further reading|notes|footnotes|citations|"
    "notes and references|references and notes|footnotes and references|notes and citations|"
    "works cited|cited works|explanatory notes|general references|cited references|"
    "notes and sources|sources and references|references and sources|"
    "references and external links|external links and references|further information|endnotes|"
    "web links|inline citations / sources|bibliography|literature|links|reading list|"
    "select bibliography|selected bibliography|gallery",
    "de": "siehe auch|einzelnachweise|weblinks|anmerkungen|fußnoten|belege|"
    "anmerkungen und einzelnachweise|einzelnachweise und anmerkungen|quellen und einzelnachweise|"
    "weiterführende literatur|externe links / literatur|quellen|nachweise|literatur und quellen|"
    "literaturhinweise",
    "fr": "voir aussi|notes et références|références|liens externes|lien externe|articles connexes|"
    "notes|article connexe|notes, sources et références|sources et références|annexes / "
    "bibliographie|sources|liens",
    "es": "véase también|referencias|enlaces externos|notas|notas y referencias|referencias y notas|"
    "notas al pie|lecturas adicionales|bibliografía adicional / bibliografía|fuentes|enlaces",
    "it": "note|voci correlate|altri progetti|collegamenti esterni|riferimenti / bibliografia|fonti",
    "pt": "ver também|referências|ligações externas|notas|notas e referências|"
    "referências bibliográficas|leitura adicional|notas de rodapé|links externos / bibliografia|fontes",
    "nl": "zie ook|externe link|externe links|externe koppeling|referenties|noten|voetnoten|"
    "bronnen, noten en/of referenties|bronvermelding|noten en referenties / bronnen|literatuur|bibliografie",
    "pl": "zobacz też|przypisy|linki zewnętrzne|uwagi / bibliografia|źródła",
    "ru": "см. также|примечания|ссылки|сноски|комментарии|примечания и ссылки / литература|источники|"
    "библиография",
    "uk": "див. також|примітки|посилання|виноски|джерела та література / література|джерела|бібліографія",
    "be": "гл. таксама|зноскі|спасылкі|заўвагі / літаратура|крыніцы",
    "bg": "вижте също|бележки|източници|външни препратки|препратки|бележки и източници / литература",
    "sr": "види још|референце|спољашње везе|напомене|спољне везе|vidi još|reference|spoljašnje veze|"
    "napomene / литература|извори|literatura|izvori",
    "hr": "vidi još|bilješke|izvori|vanjske poveznice|povezani članci|bilješke i izvori / literatura",
    "sl": "glej tudi|sklici|zunanje povezave|opombe|sklici in opombe / viri|literatura",
    "sv": "se även|referenser|externa länkar|noter|fotnoter|källor|noter och referenser / litteratur|"
    "källförteckning",
    "no": "se også|referanser|eksterne lenker|noter|fotnoter|eksterne lenkjer|sjå også / litteratur|kilder",
    "da": "se også|referencer|eksterne henvisninger|noter|fodnoter|eksterne links / litteratur|kilder",
    "fi": "katso myös|lähteet|viitteet|aiheesta muualla|huomautukset|lähteet ja viitteet / kirjallisuutta",
    "et": "vaata ka|viited|välislingid|märkused / kirjandus|allikad",
    "lv": "skatīt arī|atsauces|ārējās saites|piezīmes / literatūra",
    "lt": "taip pat skaitykite|šaltiniai|išnašos|nuorodos / literatūra",
    "cs": "související články|reference|externí odkazy|poznámky|odkazy / literatura|zdroje",
    "sk": "pozri aj|referencie|externé odkazy|poznámky|iné projekty / literatúra|zdroje",
    "hu": "lásd még|jegyzetek|források|külső hivatkozások|további információk|"
    "kapcsolódó szócikkek / irodalom",
    "ro": "vezi și|vezi şi|note|referințe|legături externe|lectură suplimentară|note și referințe / "
    "bibliografie|surse",
    "tr": "ayrıca bakınız|kaynakça|dış bağlantılar|notlar|dipnotlar|konuyla ilgili yayınlar / kaynaklar",
    "az": "həmçinin bax|istinadlar|xarici keçidlər|qeydlər / mənbə|ədəbiyyat",
    "el": "δείτε επίσης|παραπομπές|εξωτερικοί σύνδεσμοι|σημειώσεις|υποσημειώσεις / πηγές|βιβλιογραφία",
    "ca": "vegeu també|referències|enllaços externs|notes|notes i referències / bibliografia|fonts",
    "gl": "véxase tamén|notas|ligazóns externas|outros artigos|referencias / bibliografía",
    "eu": "ikus, gainera|erreferentziak|kanpo estekak|oharrak / bibliografia",
    "eo": "vidu ankaŭ|referencoj|eksteraj ligiloj|notoj / literaturo|fontoj",
    "id": "lihat pula|lihat juga|referensi|pranala luar|catatan|catatan kaki|bacaan lanjutan / "
    "sumber|daftar pustaka",
    "ms": "lihat juga|rujukan|pautan luar|nota / bacaan lanjut",
    "vi": "xem thêm|tham khảo|liên kết ngoài|chú thích|ghi chú|đọc thêm / thư mục|nguồn",
    "ja": "関連項目|脚注|外部リンク|出典|参考文献|注釈|注|脚註|関連文献|注釈・出典",
    "zh": "参见|參見|参考文献|參考文獻|外部链接|外部連結|参考资料|參考資料|注释|註釋|注釋|脚注|腳註|"
    "延伸阅读|延伸閱讀|相关条目|相關條目|参看|參看|外部連接|備註|资料来源|資料來源|引用|参考来源",
    "ko": "같이 보기|각주|외부 링크|참고 문헌|참고문헌|주석|출처|함께 보기|참고 자료",
    "ar": "انظر أيضا|انظر أيضًا|مراجع|المراجع|وصلات خارجية|مصادر|المصادر|ملاحظات|هوامش|قراءة موسعة",
    "fa": "جستارهای وابسته|منابع|پانویس|پیوند به بیرون|یادداشت‌ها|برای مطالعهٔ بیشتر|برای مطالعه بیشتر",
    "he": "ראו גם|הערות שוליים|קישורים חיצוניים|לקריאה נוספת|ביאורים",
    "ur": "مزید دیکھیے|حوالہ جات|بیرونی روابط|مزید پڑھیے",
    "hi": "इन्हें भी देखें|सन्दर्भ|संदर्भ|बाहरी कड़ियाँ|टिप्पणी|टिप्पणियाँ|यह भी देखें|बाहरी कड़ियां",
    "mr": "हे सुद्धा पहा|संदर्भ|बाह्य दुवे|हेसुद्धा पाहा|संदर्भ आणि नोंदी",
    "bn": "আরও দেখুন|তথ্যসূত্র|বহিঃসংযোগ|টীকা|আরো দেখুন|পাদটীকা|আরও পড়ুন",
    "ta": "மேற்கோள்கள்|வெளி இணைப்புகள்|இவற்றையும் பார்க்கவும்|குறிப்புகள்",
    "te": "మూలాలు|ఇవి కూడా చూడండి|బయటి లింకులు|బయటి లంకెలు",
    "ml": "അവലംബം|ഇതും കാണുക|പുറത്തേക്കുള്ള കണ്ണികൾ|കുറിപ്പുകൾ",
    "th": "ดูเพิ่ม|อ้างอิง|แหล่งข้อมูลอื่น|เชิงอรรถ|หมายเหตุ|รายการอ้างอิง|ดูเพิ่มเติม",
    "hy": "տես նաև|ծանոթագրություններ|արտաքին հղումներ|նշումներ / գրականություն|աղբյուրներ",
    "ka": "იხილეთ აგრეთვე|სქოლიო|რესურსები ინტერნეტში / ლიტერატურა",
    "kk": "дереккөздер|сыртқы сілтемелер|тағы қараңыз / әдебиет",
}
_AS = {"simple": "en", "nb": "no", "nn": "no", "bs": "hr", "sh": "sr", "zh-yue": "zh", "wuu": "zh"}
_NUMBER = re.compile(r"[\d.]{1,8}+\s++")


def _own(language: str) -> str | None:
    """The table of a language, whose code may name a country too: "pt-br"."""
    code = language.lower() or "en"
    base = code.partition("-")[0]
    return next((_NAMES[name] for name in (_AS.get(code), code, _AS.get(base), base) if name in _NAMES), None)


@functools.lru_cache(maxsize=64)
def _names(language: str) -> tuple[frozenset[str], frozenset[str]]:
    own = _own(language)
    # English names stand on every wiki, and an unknown language may borrow those of any.
    tables = [_NAMES["en"], own] if own is not None else list(_NAMES.values())
    always: set[str] = set()
    lists: set[str] = set()
    for table in tables:
        first, _, second = table.casefold().partition(" / ")  # a Greek word's last letter changes
        always.update(first.split("|"))
        lists.update(name for name in second.split("|") if name)
    return frozenset(always), frozenset(lists - always)


def knows(language: str) -> bool:
    """Whether the names of the language are here; else `wikitext` looks at what the sections hold."""
    return _own(language) is not None


def is_apparatus(heading: str, language: str, *, list_share: float) -> bool:
    """Whether what stands under a heading is no prose.

    Args:
        heading: as plain text.
        language: of the wiki, as in `xml:lang`; English where it is empty.
        list_share: of the section's paragraphs, how many are items of a list.
    """
    always, lists = _names(language)
    name = heading.strip(":.：。 ").casefold()
    if number := _NUMBER.match(name):
        name = name[number.end() :]
    return name in always or (name in lists and list_share > 0.5)
