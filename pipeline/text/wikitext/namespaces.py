"""Names of a wiki's namespaces, local and canonical, and which of them a title or a link is in.

The names are the wiki's own ("Datei", "Файл"): they come from the `<siteinfo>` of a dump. The
canonical English names hold on every wiki, and well-known local names of files and categories are
added where siteinfo is silent, because old and hand-made exports have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAIN, FILE, TEMPLATE, CATEGORY = 0, 6, 10, 14
MEDIA = -2

# https://www.mediawiki.org/wiki/Manual:Namespace#Built-in_namespaces
ENGLISH: Mapping[int, str] = {
    -2: "Media",
    -1: "Special",
    1: "Talk",
    2: "User",
    3: "User talk",
    4: "Project",
    5: "Project talk",
    6: "File",
    7: "File talk",
    8: "MediaWiki",
    9: "MediaWiki talk",
    10: "Template",
    11: "Template talk",
    12: "Help",
    13: "Help talk",
    14: "Category",
    15: "Category talk",
}
# What the English Wikipedia adds; for exports that name no namespaces at all.
_WIKIPEDIA: Mapping[int, str] = {
    4: "Wikipedia",
    5: "Wikipedia talk",
    100: "Portal",
    101: "Portal talk",
    108: "Book",
    118: "Draft",
    119: "Draft talk",
    710: "TimedText",
    828: "Module",
    829: "Module talk",
}
# Local names and old aliases, from the languages' message files of MediaWiki.
_FILE_ALIASES = (
    "Image|Bild|Datei|Fichier|Archivo|Imagen|Ficheiro|Imagem|Arquivo|Immagine|Файл|Изображение|"
    "Зображення|Выява|ファイル|画像|파일|그림|文件|檔案|档案|图像|圖像|图片|圖片|ملف|صورة|پرونده|تصویر|"
    "קובץ|תמונה|Plik|Grafika|Bestand|Afbeelding|Fil|Billede|Tiedosto|Kuva|Dosya|Resim|Tập tin|Hình|"
    "Soubor|Súbor|Obrázok|Fájl|Kép|Fișier|Imagine|Berkas|Gambar|Αρχείο|Εικόνα|Слика|Датотека|"
    "Dosiero|Fitxategi|Irudi|Fitxer|Imatge|चित्र|ไฟล์|ภาพ|Datoteka|Slika|Vaizdas|Attēls|Fail|Pilt|"
    "Картинка|Mynd|Skeudenn|Delwedd|চিত্র|படிமம்|దస్త్రం|Պատկեր|სურათი|Fasciculus|Imago|Sinnambal|"
    "Şəkil|Fayl|Сурет|Skedari|Figura|Tampa|Ffeil|Íomhá"
)
_CATEGORY_ALIASES = (
    "Kategorie|Catégorie|Categoría|Categoria|Категория|Категорія|Катэгорыя|分类|分類|カテゴリ|분류|تصنيف|"
    "رده|קטגוריה|Kategoria|Categorie|Kategori|Luokka|Thể loại|Kategória|Kategória|Κατηγορία|"
    "Категорија|Kategorio|श्रेणी|หมวดหมู่|Kategorija|Kategorija|Flokkur|Rummad|বিষয়শ্রেণী|பகுப்பு|వర్గం|"
    "Կատեգորիա|კატეგორია|Kategoriya|Санат|Catagóir|Zer|Kuva"
)


def _normal(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def _aliases() -> dict[str, int]:
    names = {_normal(name): CATEGORY for name in _CATEGORY_ALIASES.split("|")}
    names |= {_normal(name): FILE for name in _FILE_ALIASES.split("|")}
    return names


_KNOWN = _aliases()


@dataclass(frozen=True)
class Namespaces:
    """A wiki's namespaces.

    Args:
        local: key to local name, as siteinfo gives them; empty where a dump has no siteinfo, and
            then the English Wikipedia's names are taken.
    """

    local: Mapping[int, str] = field(default_factory=dict)
    _keys: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        keys = dict(_KNOWN)
        keys |= {_normal(name): key for key, name in ENGLISH.items()}
        if not self.local:
            keys |= {_normal(name): key for key, name in _WIKIPEDIA.items()}
        # The wiki's own names win over aliases that were borrowed from other languages.
        keys |= {_normal(name): key for key, name in self.local.items() if name}
        object.__setattr__(self, "_keys", keys)

    def key(self, prefix: str) -> int | None:
        """The namespace that `prefix` (what stands before a colon) names, or None."""
        return self._keys.get(_normal(prefix))

    def of_title(self, title: str) -> int:
        """The namespace of a page title; "2001: A Space Odyssey" is in the main one (0)."""
        prefix, colon, _ = title.partition(":")
        return (self.key(prefix) or MAIN) if colon else MAIN
