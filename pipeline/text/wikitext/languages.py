"""How a language writes numbers and dates: what templates of units and dates need to read right in it.

A language that is not here gets what is right in any: digits without groups, dates as 1999-03-05.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

_WHOLE = re.compile(r"([+\-−]?)(\d{1,18})(?:\.(\d{1,18}))?", re.ASCII)


@dataclass(frozen=True)
class Language:
    """A language as templates see it.

    Attributes:
        code: of the wiki, as in `xml:lang`.
        group, decimal: signs between thousands and before the fraction.
        grouped_from: digits from which a number has groups; some languages write 6000 and 60 000.
        months: twelve names, as they stand in a date with its day.
        alone: twelve names without a day, where they differ.
        date, month_date: formats of `day`, `month` (its name), `number` (of the month) and `year`.
    """

    code: str
    group: str = ""
    decimal: str = "."
    grouped_from: int = 4
    months: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    date: str = "{year}-{number:02}-{day:02}"
    month_date: str = "{year}-{number:02}"

    @property
    def is_english(self) -> bool:
        return self.code in ("en", "simple")

    def number(self, written: str) -> str:
        """A number as it is typed for a template, "1234.5", with the language's signs: "1 234,5"."""
        found = _WHOLE.fullmatch(written)
        if found is None:
            return written
        sign, whole, fraction = found.groups()
        # "0123" is no count of anything.
        if len(whole) >= self.grouped_from and whole[0] != "0" and self.group:
            whole = f"{int(whole):,}".replace(",", self.group)
        return sign + whole + (self.decimal + fraction if fraction else "")

    def day(self, year: str, month: int, day: int) -> str:
        name = self.months[month - 1] if self.months else ""
        return self.date.format(year=year, number=month, month=name, day=day)

    def month(self, year: str, month: int) -> str:
        names = self.alone or self.months
        return self.month_date.format(year=year, number=month, month=names[month - 1] if names else "")


_SIGNS = {  # thousands and decimals by language
    (",", "."): "en simple ja zh zh-yue zh-classical wuu ko th he mt ga cy ms hi ta te ml kn mr gu pa ur",
    (".", ","): "de nl id tr da el ro hr sr sh sl bs is gl eu vi ca az mk fo lb jv su tl it es pt an ast oc",
    (" ", ","): "fr ru uk be pl cs sk sv fi nb no nn bg hu et lv lt kk ky hy ka uz tg tt ba cv af eo sq br",
}
_LONG = "es pt pl bg lv hy ka it ca gl eu hu et be".split()  # no groups in four digits
_MONTHS = {
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "ca": "gener febrer març abril maig juny juliol agost setembre octubre novembre desembre",
    "sv": "januari februari mars april maj juni juli augusti september oktober november december",
    "da": "januar februar marts april maj juni juli august september oktober november december",
    "no": "januar februar mars april mai juni juli august september oktober november desember",
    "fi": "tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta "
    "lokakuuta marraskuuta joulukuuta",
    "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada "
    "grudnia",
    "cs": "ledna února března dubna května června července srpna září října listopadu prosince",
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "uk": "січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня",
    "bg": "януари февруари март април май юни юли август септември октомври ноември декември",
    "sr": "јануар фебруар март април мај јун јул август септембар октобар новембар децембар",
    "el": "Ιανουαρίου Φεβρουαρίου Μαρτίου Απριλίου Μαΐου Ιουνίου Ιουλίου Αυγούστου Σεπτεμβρίου Οκτωβρίου "
    "Νοεμβρίου Δεκεμβρίου",
    "tr": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
    "id": "Januari Februari Maret April Mei Juni Juli Agustus September Oktober November Desember",
    "ro": "ianuarie februarie martie aprilie mai iunie iulie august septembrie octombrie noiembrie decembrie",
    "hu": "január február március április május június július augusztus szeptember október november december",
    "hi": "जनवरी फ़रवरी मार्च अप्रैल मई जून जुलाई अगस्त सितम्बर अक्टूबर नवम्बर दिसम्बर",
    "bn": "জানুয়ারি ফেব্রুয়ারি মার্চ এপ্রিল মে জুন জুলাই আগস্ট সেপ্টেম্বর অক্টোবর নভেম্বর ডিসেম্বর",
    "ar": "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
    "fa": "ژانویه فوریه مارس آوریل مه ژوئن ژوئیه اوت سپتامبر اکتبر نوامبر دسامبر",
    "he": "ינואר פברואר מרץ אפריל מאי יוני יולי אוגוסט ספטמבר אוקטובר נובמבר דצמבר",
    "en": "January February March April May June July August September October November December",
}
_ALONE = {
    "fi": "tammikuu helmikuu maaliskuu huhtikuu toukokuu kesäkuu heinäkuu elokuu syyskuu lokakuu marraskuu "
    "joulukuu",
    "pl": "styczeń luty marzec kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad grudzień",
    "cs": "leden únor březen duben květen červen červenec srpen září říjen listopad prosinec",
    "ru": "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
    "uk": "січень лютий березень квітень травень червень липень серпень вересень жовтень листопад грудень",
    "el": "Ιανουάριος Φεβρουάριος Μάρτιος Απρίλιος Μάιος Ιούνιος Ιούλιος Αύγουστος Σεπτέμβριος Οκτώβριος "
    "Νοέμβριος Δεκέμβριος",
}
_DATES = {
    "en": "{month} {day}, {year}",
    "de": "{day}. {month} {year}",
    "da": "{day}. {month} {year}",
    "no": "{day}. {month} {year}",
    "fi": "{day}. {month} {year}",
    "cs": "{day}. {month} {year}",
    "es": "{day} de {month} de {year}",
    "pt": "{day} de {month} de {year}",
    "ca": "{day} de {month} de {year}",
    "sr": "{day}. {month} {year}.",
    "hu": "{year}. {month} {day}.",
    "he": "{day} ב{month} {year}",
    "ja": "{year}年{number}月{day}日",
    "zh": "{year}年{number}月{day}日",
    "ko": "{year}년 {number}월 {day}일",
    "vi": "{day} tháng {number} năm {year}",
}
_MONTH_DATES = {
    "es": "{month} de {year}",
    "pt": "{month} de {year}",
    "hu": "{year}. {month}",
    "ja": "{year}年{number}月",
    "zh": "{year}年{number}月",
    "ko": "{year}년 {number}월",
    "vi": "tháng {number} năm {year}",
}
# Codes that write as another does.
_AS = {"simple": "en", "nb": "no", "zh-yue": "zh", "wuu": "zh", "ms": "id"}


@functools.lru_cache(maxsize=64)
def of(code: str) -> Language:
    """The language of a wiki's code: "fr", "zh-yue", "pt-BR"; an empty one is English."""
    code = code.lower() or "en"
    base = code.partition("-")[0]
    family = _AS.get(code) or _AS.get(base) or base
    group, decimal = next((signs for signs, codes in _SIGNS.items() if base in codes.split()), ("", "."))
    months = tuple(_MONTHS.get(family, "").split())
    named = Language(code=code, group=group, decimal=decimal, grouped_from=5 if base in _LONG else 4)
    if not months and family not in _DATES:
        return named
    return Language(
        code=code,
        group=group,
        decimal=decimal,
        grouped_from=named.grouped_from,
        months=months,
        alone=tuple(_ALONE.get(family, "").split()),
        date=_DATES.get(family, "{day} {month} {year}"),
        month_date=_MONTH_DATES.get(family, "{month} {year}"),
    )


ENGLISH = of("en")
