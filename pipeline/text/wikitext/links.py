"""What a link reads as."""

from __future__ import annotations

import re

from pipeline.text.wikitext.namespaces import CATEGORY, FILE, MEDIA, Namespaces

# A link to a file by its look, for local names of the namespace that nobody told us.
_MEDIA_FILE = re.compile(
    r"[^:]{2,20}:.*\.(?:jpe?g|png|svg|gif|tiff?|webp|ogg|oga|ogv|webm|mp3|wav|pdf|djvu|mid|xcf|stl)",
    re.IGNORECASE,
)
# The language links that old dumps still hold at the end of a page: "[[fr:Titre]]".
LANGUAGES = frozenset(
    """
        aa ab ace ady af ak als alt am an ang ar arc arz as ast atj av avk awa ay az azb ba ban bar
        bat-smg bcl be be-tarask be-x-old bg bh bi bjn bm bn bo bpy br bs bug bxr ca cbk-zam cdo ce
        ceb ch cho chr chy ckb co cr crh cs csb cu cv cy da de din diq dsb dty dv dz ee el eml en eo
        es et eu ext fa ff fi fiu-vro fj fo fr frp frr fur fy ga gag gan gcr gd gl glk gn gom gor
        got gu gv ha hak haw he hi hif ho hr hsb ht hu hy hyw hz ia id ie ig ii ik ilo inh io is it
        iu ja jam jbo jv ka kaa kab kbd kbp kg ki kj kk kl km kn ko koi kr krc ks ksh ku kv kw ky la
        lad lb lbe lez lfn lg li lij lld lmo ln lo lrc lt ltg lv mai map-bms mdf mg mh mhr mi min mk
        ml mn mnw mr mrj ms mt mus mwl my myv mzn na nah nap nds nds-nl ne new ng nl nn no nov nqo
        nrm nso nv ny oc olo om or os pa pag pam pap pcd pdc pfl pi pih pl pms pnb pnt ps pt qu rm
        rmy rn ro roa-rup roa-tara ru rue rw sa sah sat sc scn sco sd se sg sh shn si simple sk sl
        sm sn so sq sr srn ss st stq su sv sw szl szy ta tcy te tet tg th ti tk tl tn to tpi tr ts
        tt tum tw ty tyv udm ug uk ur uz ve vec vep vi vls vo wa war wo wuu xal xh xmf yi yo za zea
        zh zh-classical zh-min-nan zh-yue zu
    """.split()
)
_OPENING = re.compile(r"[(（]")


def is_hidden(target: str, namespaces: Namespaces, *, labelled: bool) -> bool:
    """Whether a link shows nothing in the text: files, categories, links to other languages."""
    prefix, colon, _ = target.partition(":")
    if not colon or not prefix.strip():
        return False
    key = namespaces.key(prefix)
    if key is not None:
        return key in (FILE, CATEGORY, MEDIA) and not (key == MEDIA and labelled)
    if not labelled and prefix.strip().lower() in LANGUAGES:
        return True
    return _MEDIA_FILE.fullmatch(target.strip()) is not None


def text_of(target: str, label: str | None) -> str:
    """What `[[target]]` or `[[target|label]]` shows."""
    if label is None:
        return target.strip().removeprefix(":").removeprefix("#").replace("_", " ")
    if label.strip():
        return label
    # The pipe trick, which MediaWiki resolves when a page is saved: "[[Help:Title (field)|]]".
    name = target.strip().removeprefix(":")
    name = name.partition(":")[2] or name
    if name.endswith((")", "）")) and (opening := list(_OPENING.finditer(name))):
        before, inside = name[: opening[-1].start()].rstrip(" "), name[opening[-1].end() : -1]
        if before and ")" not in inside and "）" not in inside:
            return before
    return name.partition(", ")[0]
