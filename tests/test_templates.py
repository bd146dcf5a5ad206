"""Templates that carry text: by language, by parameters that are named, and by the shape of their call."""

from __future__ import annotations

import pytest

from pipeline.text import wikitext
from pipeline.text.wikitext import Namespaces


def text_of(markup: str, language: str = "en", title: str = "Springfield") -> str:
    found = wikitext.sections(markup, namespaces=Namespaces(), title=title, language=language)
    return "\n".join(section.text for section in found)


@pytest.mark.parametrize(
    ("language", "markup", "expected"),
    [
        ("en", "{{formatnum:6000}} {{formatnum:1234567.5}} {{cvt|12345|km}}", "6,000 1,234,567.5 12,345 km"),
        ("de", "{{formatnum:6000}} {{formatnum:-1234.5}} {{convert|2500|km}}", "6.000 -1.234,5 2.500 km"),
        ("fr", "{{formatnum:6000}} {{formatnum:0.5}} {{convert|2500|km}}", "6 000 0,5 2 500 km"),
        ("es", "{{formatnum:6000}} {{formatnum:60000}}", "6000 60.000"),
        ("pl", "{{formatnum:6000}} {{formatnum:60000}}", "6000 60 000"),
        ("qq", "{{formatnum:6000}} {{convert|2500|e6acre}}", "6000 2500 ×10^6 acre"),
        ("fr", "{{convert|5|to|10|nmi}}, {{convert|3|by|4|m}}", "5–10 nmi, 3 × 4 m"),
        ("fr", "né {{birth date|1999|3|5}}, {{date|2001|8}}", "né 5 mars 1999, août 2001"),
        ("de", "{{birth date|1999|3|5|df=y}} {{as of|2001|7|lc=y}}", "5. März 1999 Juli 2001"),
        ("es", "{{death date|1999|3|5}}", "5 de marzo de 1999"),
        ("ru", "{{date|1999|3|5}}; {{date|1999|3}}", "5 марта 1999; март 1999"),
        ("ja", "{{birth date|1999|3|5}}生まれ", "1999年3月5日生まれ"),
        ("vi", "{{birth date|1999|3|5}}", "5 tháng 3 năm 1999"),
        ("qq", "{{birth date|1999|3|5}} {{as of|1999|3}}", "1999-03-05 1999-03"),
        ("simple", "{{birth date|1999|3|5}} {{as of|1999|3}}", "March 5, 1999 As of March 1999"),
        ("sv", "{{born|1999}} {{died|2001}}", "* 1999 † 2001"),
    ],
)  # fmt: skip
def test_numbers_and_dates_by_language(language: str, markup: str, expected: str) -> None:
    assert text_of(markup, language) == expected


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("{{lang|2=le ''chat''|1=fr}} {{lang|code=fr|text=le chien}}", "le chat le chien"),
        ("{{convert|1=5|2=km|3=mi}}, {{frac|1=1|2=2}}, {{nowrap|1=a=b}}", "5 km, 1/2, a=b"),
        ("{{birth date|year=1999|month=3|day=5}}", "March 5, 1999"),
        ("{{nihongo|english=Tokyo|kanji=東京|romaji=Tōkyō}}", "Tokyo (東京, Tōkyō)"),
        ("{{nihongo|Go|碁||extra2=board game}}", "Go (碁, board game)"),
        ("{{quote|1=To be = not to be.|2=Hamlet}}", "To be = not to be."),
        ("{{nowrap|{{nowrap|1=a=b}} c}}", "a=b c"),  # the inner sign is no name's
        ("{{PAGENAME}} is {{lc:{{FULLPAGENAME}}}}, not {{PAGENAME:Shelbyville}}.",
         "Springfield is springfield, not Shelbyville."),
        ("{{SEITENNAME}} {{НАЗВАНИЕСТРАНИЦЫ}}", "Springfield Springfield"),
        ("One<section begin=x /> and two<section end=x/> of <section begin='y'/>it.", "One and two of it."),
    ],
)  # fmt: skip
def test_named_parameters_and_magic_words(markup: str, expected: str) -> None:
    assert text_of(markup) == expected


def test_a_title_is_no_markup() -> None:
    assert text_of("'''{{PAGENAME}}''' is", title="''C'' [[x]] = a|b") == "''C'' [[x]] = a|b is"


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        # Part of the sentence
        ("Elle {{référence souhaitée|vivait dans un château}} alors.", "Elle vivait dans un château alors."),
        ("Stał tam {{fakt|zamek}} króla.", "Stał tam zamek króla."),
        ("{{نیازمند منبع|این جمله منبع ندارد.}} ادامه", "این جمله منبع ندارد. ادامه"),
        ("「{{要検証範囲|江戸時代に始まった}}」とされる。", "「江戸時代に始まった」とされる。"),
        ("これは{{補助漢字|噓}}である。", "これは噓である。"),
        ("Она {{нет АИ 2|была построена в двенадцатом веке|29|04|2016}} там.",
         "Она была построена в двенадцатом веке там."),
        ("Man sprach {{de|Deutsch}} {{lang-cu3|слово}} hier{{en}}.", "Man sprach Deutsch слово hier."),
        # Numbers and units
        ("Es wiegt {{Gewicht|12,5|kg}} und {{Zahl|440000}} davon.", "Es wiegt 12,5 kg und 440000 davon."),
        ("تبلغ {{تحويل|15|to|20|km|mi}} طولا", "تبلغ 15–20 km طولا"),
        # Quotations and lists that stand alone
        ("Er sagte:\n{{Zitat groß|Ich kam, sah und siegte.|Caesar}}\nDanach",
         "Er sagte:\nIch kam, sah und siegte.\nDanach"),
        ("{{Cytat|treść=Litwo, ojczyzno moja, ty jesteś jak zdrowie.|autor=Mickiewicz}}",
         "Litwo, ojczyzno moja, ty jesteś jak zdrowie."),
        ("{{vers|\nÜber allen Gipfeln\nist Ruh, in allen\nWipfeln spürest du}}\nx",
         "Über allen Gipfeln ist Ruh, in allen Wipfeln spürest du\nx"),
        ("{{div-spalten|20em|\n* [[Ulm]]\n* [[Trier]]\n}}\nx", "Ulm\nTrier\nx"),
        ("{{Q|Quanto maggiore sarà la libertà!}}", "Quanto maggiore sarà la libertà!"),
    ],
)  # fmt: skip
def test_unknown_calls_that_are_text(markup: str, expected: str) -> None:
    assert text_of(markup, "xx") == expected


@pytest.mark.parametrize(
    "call",
    [
        "a{{anm|Eine Fußnote, die ein ganzer Satz ist.}}",  # tied to the word before it
        "a.{{фн|Примечание из нескольких слов.}}",
        "a {{flagge|Italien}} [[Rom]]",
        "a ({{wymowa|ˈaɪn ˈvɔɐt}})",
        "a {{bild|a b c.jpg|Ein Bild mit einer Unterschrift.}}",
        "a {{quelle|Titel eines Buches|http://example.org}}",
        "a {{kasten|a=1|b=2|c=3|d=4|e=Ein ganzer Satz in einem Kasten.}}",
        "a {{siehe|Kategorie:Tiere}} b",
        "a {{seitenzahl}} {{#if:a b c d|e f g h}}",
        "a<ref>b</ref>{{seite|12}} c",
    ],
)
def test_unknown_calls_that_are_none(call: str) -> None:
    shown = text_of(call, "xx").replace("()", "").split()
    assert shown in (["a"], ["a."], ["a", "Rom"], ["a", "b"], ["a", "c"])


@pytest.mark.parametrize(
    "notice",
    [
        "{{Dieser Artikel|behandelt die Stadt. Zum Fluss siehe [[Ulm (Fluss)]].}}",
        "{{Achtung|Dieser Satz verweist auf [[eine Seite]] und steht allein.}}",
        "{{Infobox Stadt\n| name = Ulm\n| text = Ein ganzer Satz, der steht.\n| a = b\n| c = d\n| e = f\n}}",
        "{{Überarbeiten|grund=zu kurz}}",
        "* {{dmoz|Regional/Europe/Germany}}",
    ],
)
def test_notices_and_boxes_are_none(notice: str) -> None:
    assert text_of(f"{notice}\nUlm ist eine Stadt.", "de") == "Ulm ist eine Stadt."


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("Nome = Charles|Cognome = Krauthammer|Sesso = M|LuogoNascita = New York|"
         "GiornoMeseNascita = 13 marzo|AnnoNascita = 1950|Attività = giornalista|Nazionalità = statunitense",
         "Charles Krauthammer (New York, 13 marzo 1950) è un giornalista statunitense."),
        ("Nome = Ada|Cognome = Negri|Sesso = F|LuogoNascita = [[Lodi]]|GiornoMeseNascita = 3 febbraio|"
         "AnnoNascita = 1870|LuogoMorte = Milano|GiornoMeseMorte = 11 gennaio|AnnoMorte = 1945|"
         "Attività = poetessa|Attività2 = scrittrice|Nazionalità = italiana|"
         "PostNazionalità = , la prima all'Accademia",
         "Ada Negri (Lodi, 3 febbraio 1870 – Milano, 11 gennaio 1945) è stata una poetessa e scrittrice "
         "italiana, la prima all'Accademia."),
        ("Nome=Eva|Sesso=F|AnnoNascita=1900|Attività=attrice|Nazionalità=ceca",
         "Eva (1900) è un'attrice ceca."),
        ("Nome=Gino|Sesso=M|Attività=scultore|Attività2=pittore|Attività3=poeta|Nazionalità=italiano|Punto=no",
         "Gino è uno scultore, pittore e poeta italiano"),
        ("Nome=Ugo|AnnoMorte=1200|FineIncipit=fu il primo vescovo", "Ugo (1200) fu il primo vescovo."),
    ],
)  # fmt: skip
def test_first_sentence_of_an_italian_biography(parameters: str, expected: str) -> None:
    assert text_of("{{Bio|" + parameters + "}}\nSeguono altre.", "it") == f"{expected} Seguono altre."


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("بغداد، {{x}}، عاصمة {{y}}؛ النهاية {{z}}؟", "بغداد، عاصمة؛ النهاية؟"),
        ("दिल्ली {{x}}। फिर {{y}}, {{z}}, आगे", "दिल्ली। फिर, आगे"),
        ("አዲስ {{x}}፣ ከተማ {{y}}።", "አዲስ፣ ከተማ።"),
        ("東京（{{x}}、{{y}}）は、{{z}}、都市。{{w}}。", "東京は、都市。"),
        ("A city, {{x}}, {{y}}, {{z}}, and more. {{w}}.", "A city, and more."),
        ("Ռոման {{x}}՝ քաղաք", "Ռոման՝ քաղաք"),
    ],
)
def test_holes_in_other_scripts(markup: str, expected: str) -> None:
    assert text_of(markup) == expected
