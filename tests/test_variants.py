"""Language variants read as MediaWiki shows them to a reader who chose none."""

from __future__ import annotations

import pytest

from pipeline.text import wikitext
from pipeline.text.wikitext import Namespaces


def text_of(markup: str) -> str:
    return "\n".join(s.text for s in wikitext.sections(markup, namespaces=Namespaces()))


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        # Flags
        ("-{A|zh-cn:博客;zh-tw:部落格}-好", "博客好"),
        ("-{A|文}-好", "文好"),
        ("-{S|zh-cn:博客;zh-tw:部落格}-好", "博客好"),
        ("-{bar|zh-cn:博客;zh-tw:部落格}-好", "博客好"),
        ("-{bar|文}-好", "文好"),
        ("-{R|zh-cn:博客;zh-tw:部落格}-好", "zh-cn:博客;zh-tw:部落格好"),
        ("-{zh-mo|澳門}-好-{sr-el|tekst}--{zh-hant; zh-cn|文}-", "澳門好tekst文"),
        ("-{D|zh-cn:程序;zh-tw:程式}-。", "大陆：程序；臺灣：程式。"),
        ("甲-{H|zh-cn:博客;zh-tw:部落格}-乙-{T|zh-cn:标题}-丙", "甲乙丙"),
        ("甲-{-|zh-cn:博客}-乙-{+|zh-cn:博客}-丙-{A;H|a}-", "甲乙丙"),
        ("甲-{}-乙", "甲乙"),
        # Rules
        ("-{Mission: Impossible}-好", "Mission: Impossible好"),
        ("-{https://example.org/?a;b}- 好", "https://example.org/?a;b 好"),
        ("-{R|Alien: Covenant; part}-好", "Alien: Covenant; part好"),
        ("-{zh-cn:a; b; zh-tw:c}-好", "a; b好"),
        ("-{zh-cn:R&amp;D部; zh-tw:R&amp;D}-", "R&D部"),
        ("-{zh-cn:&lt;甲&gt;;zh-tw:乙}-", "<甲>"),
        ('-{zh-cn:<b style="color:red;width:1em">甲</b>;zh-tw:乙}-', "甲"),
        ("-{zh-tw:乙;zh-cn:甲}-好", "甲好"),  # in the language's order, not the page's
        ("-{zh-hk:丙;zh-tw:乙}-好", "乙好"),
        ("-{zh-tw:乙;}-好", "乙好"),
        ("-{甲=>zh-cn:乙;丙=>zh-tw:丁}-好", "乙好"),
        ("-{sr-el:Beograd; sr-ec:Београд}-", "Београд"),
        ("-{kk-latn:Astana;kk-cyrl:Астана}- -{uz-cyrl:Тошкент;uz-latn:Toshkent}-", "Астана Toshkent"),
        ("-{ku-arab:كورد;ku-latn:Kurd}- -{tg-latn:x;tg-cyrl:ш}- -{iu-latn:a;ike-cans:ᐃ}-", "Kurd ш ᐃ"),
        # What stands in them and around them
        ("-{zh-cn:甲-{乙}-丙-{zh-cn:丁;zh-tw:戊}-;zh-tw:己}-", "甲乙丙丁"),
        ("-{zh-cn:{{nowrap|甲}};zh-tw:{{lang|zh|乙}}}-丙", "甲丙"),
        ("{{nowrap|-{zh-cn:甲;zh-tw:乙}-}}丙", "甲丙"),
        ("{{lang|zh|-{R|甲}-}}丙 [[a|-{zh-cn:乙;zh-tw:丁}-]]", "甲丙 乙"),
        ("[[-{zh-cn:甲;zh-tw:乙}-]]丙", "甲丙"),
        ("-{zh-cn:[[甲|乙]];zh-tw:[[丙]]}-丁", "乙丁"),
        ("a -{never closed and [[b|c]]", "a -{never closed and c"),
        ("a }- b -{{{nowrap|c}}}- d", "a }- b -c- d"),  # a parameter, with its default
        ("== -{zh-cn:甲;zh-tw:乙}- ==\n丙", "丙"),
    ],
)  # fmt: skip
def test_variant_reads_as(markup: str, expected: str) -> None:
    assert text_of(markup) == expected


def test_a_heading_has_the_form_too() -> None:
    (section,) = wikitext.sections("== -{zh-cn:甲;zh-tw:乙}- ==\n丙", namespaces=Namespaces())
    assert section.path == ("甲",)
