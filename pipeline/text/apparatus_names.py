"""What Wikipedias call their sections that are no prose, by language.

Names are those of each wiki's manual of style and what its articles use beside them; exact, in lower case.
Behind " / " stand names that an article may well tell of ("Sources" of a river): under those a list is
no prose, and paragraphs are.
"""

from __future__ import annotations

from typing import Final

# Codes of wikis that write as another does.
SAME: Final = {
    "simple": "en", "nb": "no", "nn": "no", "bs": "hr", "sh": "sr", "zh-yue": "zh", "yue": "zh", "wuu": "zh",
    "gan": "zh", "zh-classical": "zh", "lzh": "zh", "als": "de", "gsw": "de", "bar": "de", "be-x-old": "be",
    "be-tarask": "be", "ext": "es", "arz": "ar", "ary": "ar", "mzn": "fa", "pnb": "ur", "sco": "en",
    "zh-min-nan": "nan", "fil": "tl", "mai": "hi", "bh": "hi",
}  # fmt: skip

NAMES: Final = {
    "en": "see also|references|reference|external links|external link|further reading|notes|footnotes|"
    "footnote|citations|works cited|cited works|works consulted|references cited|literature cited|"
    "sources cited|explanatory notes|explanatory footnotes|general references|cited references|"
    "general sources|notes and references|notes and sources|sources and references|further information|"
    "endnotes|further reading and external links|web links|weblinks|web sources|online sources|"
    "online references|inline citations|related articles|related pages|other websites|additional reading|"
    "suggested reading|recommended reading|selected references|external sources|external references|"
    "other links|sources and further reading|bibliography and references|reference list|references list|"
    "related topics|sources and notes|general bibliography / sources|bibliography|literature|links|"
    "reading list|gallery|primary sources|secondary sources|image gallery",
    "de": "siehe auch|einzelnachweise|einzelnachweis|weblinks|weblink|anmerkungen|fußnoten|endnoten|"
    "belege|quellenangaben|quellenangabe|referenzen|weiterführende literatur|externe links|"
    "externe weblinks|einzelnachweise und fußnoten|fuß- und endnoten|literaturverzeichnis / literatur|"
    "quellen|nachweise|literaturhinweise|literaturauswahl|links|galerie|bildergalerie",
    "nds": "kiek ok|kiek ok bi|weblenken|footnoten|enkelde nawiesen|belege|borns|born / literatur|böker",
    "lb": "kuckt och|um spaweck|referenzen|referenzen an notten|notten|fousnouten / literatur|quellen",
    "fr": "voir aussi|notes et références|références|référence|liens externes|lien externe|"
    "articles connexes|article connexe|notes|note|notes, sources et références|sources et références|"
    "références et notes|notes et sources|pour en savoir plus|pour approfondir|liens internes|"
    "lien interne|lectures complémentaires|ouvrages connexes|pages connexes / annexes|bibliographie|"
    "sources|liens|galerie|ouvrages|sources bibliographiques|bibliographie indicative|"
    "bibliographie sélective",
    "oc": "vejatz tanben|nòtas|ligams extèrnes|ligams|referéncias|nòtas e referéncias|"
    "articles connèxes / bibliografia|fonts|annèxas",
    "wa": "hårdêyes difoû|loyén difoû|sourdants|notes",
    "br": "gwelet ivez|gwelout ivez|notennoù|liammoù diavaez|notennoù ha daveennoù|daveennoù|notenn|"
    "pennadoù kar / levrlennadur|mammennoù",
    "es": "véase también|vease también|véase tambien|vease tambien|ver también|referencias|referencia|"
    "enlaces externos|enlace externo|vínculos externos|notas|nota|notas al pie|lecturas adicionales|"
    "lectura adicional|lecturas recomendadas|bibliografía adicional|bibliografía complementaria|"
    "citas y referencias|artículos relacionados|fuentes y referencias|para saber más / bibliografía|"
    "fuentes|enlaces|galería|galería de imágenes|bibliografía utilizada|citas",
    "ast": "ver tamién|referencies|enllaces esternos|notes|notes y referencies / bibliografía|fontes",
    "an": "se veiga tamién|veyer tamién|referencias|vinclos externos|notas / bibliografía|fuents",
    "it": "note|voci correlate|altri progetti|collegamenti esterni|collegamento esterno|riferimenti|"
    "vedi anche|note e riferimenti|riferimenti bibliografici|note bibliografiche|approfondimenti|"
    "voce correlata / bibliografia|fonti|letteratura|galleria d'immagini|galleria fotografica|"
    "opere correlate",
    "scn": "vidi macari|talìa macari|noti|riferimenti|liami di fora|lijami esterni|"
    "culligamenti esterni / bibbliugrafìa|bibliografìa",
    "pt": "ver também|veja também|vide também|referências|referência|ligações externas|ligação externa|"
    "links externos|notas|nota|notas de rodapé|referências bibliográficas|leitura adicional|"
    "leituras adicionais|leitura complementar|artigos relacionados|páginas externas|"
    "bibliografia complementar / bibliografia|fontes|galeria|galeria de imagens|literatura",
    "nl": "zie ook|externe link|externe links|externe koppeling|externe koppelingen|externe verwijzing|"
    "externe verwijzingen|referenties|referentie|noten|noot|voetnoten|voetnoot|eindnoten|bronvermelding|"
    "bronnen, noten en/of referenties|bronnen, noten en referenties|verder lezen|aanbevolen literatuur|"
    "weblinks / bronnen|bron|literatuur|bibliografie|links|galerij|literatuurlijst|afbeeldingen",
    "af": "sien ook|kyk ook|verwysings|eksterne skakels|bronnelys|voetnotas|voetnote|notas|nota|"
    "bronverwysings|verdere leeswerk / bronne|literatuur|bibliografie",
    "fy": "sjoch ek|keppelings om utens|eksterne keppelings|noaten|boarnen, noaten en referinsjes|"
    "boarnen, noaten en/of referinsjes|ferwizings / boarnen|literatuer",
    "pl": "zobacz też|zobacz także|przypisy|przypis|linki zewnętrzne|link zewnętrzny|uwagi|odnośniki|"
    "powiązane artykuły / bibliografia|źródła|literatura|linki|galeria|literatura uzupełniająca",
    "szl": "przipisy|připisy|uobocz tyż|linki zewnyntrzne / bibliografijo",
    "ru": "см. также|смотри также|смотрите также|примечания|примечание|ссылки|ссылка|сноски|комментарии|"
    "внешние ссылки|примечания и ссылки|ссылки и примечания|для дополнительного чтения|"
    "связанные статьи / литература|источники|библиография|галерея|источники и литература|"
    "литература и источники|использованная литература|дополнительная литература|рекомендуемая литература",
    "uk": "див. також|дивись також|дивіться також|примітки|примітка|посилання|виноски|зовнішні посилання|"
    "джерела та література|література та джерела|коментарі|додаткова література / література|джерела|"
    "бібліографія|галерея",
    "be": "гл. таксама|глядзіце таксама|глядзі таксама|зноскі|спасылкі|заўвагі|вонкавыя спасылкі|"
    "знешнія спасылкі|крыніцы і заўвагі / літаратура|крыніцы|галерэя",
    "bg": "вижте също|виж също|бележки|източници|външни препратки|препратки|бележки и източници|"
    "източници и бележки|допълнителна литература|външни връзки / литература|библиография|галерия",
    "mk": "наводи|надворешни врски|поврзано|белешки|видете исто така|видете и|видете уште|"
    "наводи и белешки|фусноти|надворешни линкови|поврзани статии / литература|извори|галерија|"
    "библиографија",
    "sr": "види још|погледајте још|погледај још|такође погледајте|референце|спољашње везе|напомене|"
    "спољне везе|белешке|фусноте|даље читање|додатна литература|vidi još|reference|spoljašnje veze|"
    "vanjske veze|vanjski linkovi|napomene|beleške|povezano|povezani članci|eksterni linkovi / "
    "литература|извори|библиографија|галерија|literatura|izvori|bibliografija|galerija",
    "hr": "vidi još|vidi također|također pogledajte|pogledajte također|pogledati|bilješke|napomene|"
    "reference|referenca|fusnote|izvori|vanjske poveznice|vanjska poveznica|vanjski linkovi|"
    "povezani članci|povezano|dodatna literatura / literatura|bibliografija|galerija",
    "sl": "glej tudi|sklici|sklici in opombe|opombe in sklici|zunanje povezave|zunanja povezava|opombe|"
    "reference|nadaljnje branje / viri|literatura|galerija|bibliografija",
    "hsb": "hlej tež|nóžki|noty|eksterne wotkazy|wotkazy / žórła|literatura",
    "dsb": "glědaj teke|nožki|eksterne wótkaze / žrědła|literatura",
    "sv": "se även|se också|referenser|referens|externa länkar|extern länk|noter|not|fotnoter|källor|"
    "källa|externa referenser|vidare läsning|källförteckning|webbkällor|tryckta källor|allmänna källor|"
    "källhänvisningar|fotnoter och källor|externa källor / litteratur|länkar|galleri|bilder",
    "no": "se også|referanser|referanse|eksterne lenker|eksterne lenkjer|ekstern lenke|eksterne linker|"
    "noter|fotnoter|sjå også|sjå òg|se òg|referansar|kilder og referanser|videre lesning|notar|fotnotar|"
    "kjelder|bakgrunnsstoff|eksterne kilder|noter og referanser|notater|eksterne kjelder / litteratur|"
    "kilder|galleri|bibliografi",
    "da": "se også|referencer|reference|eksterne henvisninger|ekstern henvisning|noter|fodnoter|"
    "eksterne links|eksternt link|kilder og henvisninger|kildehenvisninger|noter og referencer|"
    "referencer og noter|henvisninger|videre læsning|yderligere læsning|eksterne kilder / litteratur|"
    "kilder|galleri|kilde",
    "fo": "sí eisini|keldur|slóðir|ávísingar|keldur og ávísingar|slóðir úteftir|útvísandi slóðir / "
    "bókmentir",
    "is": "tengt efni|tenglar|heimildir|tilvísanir|sjá einnig|tengill|ytri tenglar|neðanmálsgreinar|"
    "tilvísanir og heimildir|frekari lestur|neðanmálstilvísanir / bækur|ítarefni",
    "fi": "katso myös|lähteet|viitteet|aiheesta muualla|huomautukset|lähteet ja viitteet|"
    "viitteet ja lähteet|alaviitteet|ulkoiset linkit|ulkoisia linkkejä|linkkejä|lisätietoja|lähde|"
    "lisää luettavaa / kirjallisuutta|kirjallisuus|galleria|linkit",
    "et": "vaata ka|viited|välislingid|välislink|märkused|joonealused märkused|lisalugemist|"
    "seotud artiklid / kirjandus|allikad|galerii|pildid",
    "lv": "skatīt arī|skat. arī|atsauces|ārējās saites|ārējā saite|piezīmes|piezīmes un atsauces|"
    "atsauces un piezīmes|papildu literatūra / literatūra|avoti|galerija",
    "lt": "taip pat skaitykite|taip pat žiūrėkite|taip pat žr.|šaltiniai|išnašos|nuorodos|pastabos|"
    "išorinės nuorodos|susiję straipsniai / literatūra|galerija|bibliografija",
    "cs": "související články|související stránky|podívejte se také|reference|externí odkazy|"
    "externí odkaz|poznámky|odkazy|související rozcestníky|viz též|další četba|poznámky a reference|"
    "poznámky pod čarou / literatura|zdroje|galerie|bibliografie|prameny|použitá literatura|"
    "doporučená literatura",
    "sk": "pozri aj|referencie|externé odkazy|externý odkaz|poznámky|iné projekty|referencie a poznámky|"
    "poznámky a referencie|pozri tiež|súvisiace články|odkazy / literatúra|zdroje|zdroj|galéria",
    "hu": "lásd még|lásd itt is|kapcsolódó lapok|jegyzetek|jegyzet|források|forrás|külső hivatkozások|"
    "hivatkozások|további információk|további irodalom|kapcsolódó szócikkek|megjegyzések|lábjegyzetek|"
    "források és jegyzetek|külső linkek|külső források|ajánlott irodalom / irodalom|képek|galéria|"
    "bibliográfia",
    "ro": "vezi și|vezi şi|note|referințe|referinţe|legături externe|legătură externă|"
    "lectură suplimentară|lecturi suplimentare|note și referințe|note de completare|note explicative|"
    "note şi referinţe / bibliografie|surse|galerie|galerie de imagini",
    "sq": "shiko edhe|shih edhe|shikoni edhe|shih dhe|referime|referimet|referenca|referencat|"
    "lidhje të jashtme|shënime|shënime dhe referime|lexime të mëtejshme|lidhjet e jashtme|"
    "burime të jashtme / burimet|burime|bibliografia|literatura|galeria",
    "tr": "ayrıca bakınız|ayrıca bakın|ayrıca bkz.|kaynakça|kaynak|dış bağlantılar|dış bağlantı|notlar|"
    "not|dipnotlar|konuyla ilgili yayınlar|referanslar|ek okuma|okuma önerileri|notlar ve kaynakça|"
    "dış kaynaklar|kaynakça ve notlar / kaynaklar|galeri|bibliyografya|edebiyat",
    "az": "həmçinin bax|həmçinin baxın|istinadlar|xarici keçidlər|qeydlər|istinad|qeydlər və istinadlar|"
    "əlavə ədəbiyyat|xarici keçid|mənbələr / mənbə|ədəbiyyat|qalereya|şəkillər|həmçinin",
    "tt": "искәрмәләр|тышкы сылтамалар|шулай ук карагыз|шулай ук кара|сылтамалар|искәрмә / әдәбият|"
    "чыганаклар",
    "ba": "иҫкәрмәләр|һылтанмалар|шулай уҡ ҡарағыҙ|тышҡы һылтанмалар / әҙәбиәт|сығанаҡтар",
    "cv": "асăрхавсем|каçăсем|çавăн пекех пăхăр|çавăн пекех пăх / вуламалли|литература",
    "kk": "дереккөздер|дереккөз|сыртқы сілтемелер|тағы қараңыз|тағы қара|сілтемелер|ескертпелер|"
    "пайдаланылған әдебиет|түсініктемелер / әдебиет|әдебиеттер|галерея",
    "ky": "шилтемелер|тышкы шилтемелер|дагы караңыз|эскертүүлөр|колдонулган адабияттар / адабият|"
    "адабияттар|булактар",
    "uz": "yana qarang|manbalar|havolalar|izohlar|eslatmalar|tashqi havolalar|adabiyotlar roʻyxati|"
    "ilovalar / adabiyotlar|adabiyot|galereya",
    "tg": "нигаред низ|эзоҳ|пайвандҳо|пайвандҳои беруна|ҳамчунин нигаред|эзоҳҳо|сарчашмаҳо / адабиёт|"
    "манбаъ|манбаъҳо",
    "mn": "мөн үзэх|эшлэл|гадаад холбоос|лавлах бичиг|зүүлт тайлбар|тэмдэглэл|цахим холбоос / ном зүй|"
    "эх сурвалж",
    "el": "δείτε επίσης|δες επίσης|βλέπε επίσης|παραπομπές|εξωτερικοί σύνδεσμοι|εξωτερικές συνδέσεις|"
    "σημειώσεις|υποσημειώσεις|παραπομπές - σημειώσεις|παραπομπές και σημειώσεις|"
    "σημειώσεις και παραπομπές|αναφορές|περαιτέρω ανάγνωση|περαιτέρω διάβασμα|σύνδεσμοι|"
    "προτεινόμενη βιβλιογραφία|αναφορές και σημειώσεις / πηγές|βιβλιογραφία|συλλογή εικόνων|γκαλερί",
    "la": "notae|nexus externi|nexus interni|bibliographia addita|vide etiam|notae et fontes|"
    "nexus externus|nexus interni et externi|lege etiam|nexus / bibliographia|fontes|pinacotheca|"
    "plura legere si cupis",
    "ca": "vegeu també|veure també|referències|referència|enllaços externs|enllaç extern|notes|nota|"
    "bibliografia complementària|bibliografia addicional|bibliografia recomanada|articles relacionats|"
    "notes al peu|lectures addicionals / bibliografia|fonts|enllaços|galeria|galeria d'imatges|vegeu",
    "gl": "véxase tamén|ver tamén|notas|ligazóns externas|ligazón externa|outros artigos|referencias|"
    "ligazóns internas|outros proxectos / bibliografía|fontes|galería de imaxes",
    "eu": "ikus, gainera|ikus ere|ikus gainera|erreferentziak|kanpo estekak|kanpo loturak|kanpo-estekak|"
    "oharrak|ohar eta erreferentziak|oharrak eta erreferentziak / bibliografia|iturriak|irudi galeria",
    "eo": "vidu ankaŭ|referencoj|eksteraj ligiloj|ekstera ligilo|eksteraj ligoj|ekstera ligo|notoj|"
    "piednotoj|vidu|rete|referencoj kaj notoj|notoj kaj referencoj|ligiloj / literaturo|fontoj|"
    "bibliografio|galerio",
    "ia": "vide etiam|referentias|ligamines externe|notas / bibliographia|fontes",
    "io": "videz anke|referi|extera ligili|noti|ligilo / literaturo|fonti",
    "vo": "logolös i|yüms plödik",
    "cy": "gweler hefyd|cyfeiriadau|dolenni allanol|dolen allanol|nodiadau|troednodiadau|darllen pellach|"
    "nodiadau a chyfeiriadau / llyfryddiaeth|ffynonellau|dolenni",
    "ga": "féach freisin|féach chomh maith|tagairtí|naisc sheachtracha|nótaí|naisc|nasc seachtrach|"
    "fonótaí|léitheoireacht bhreise / foinsí|leabharliosta",
    "gd": "faic cuideachd|iomraidhean|ceanglaichean a-mach|ceangal a-mach|notaichean|"
    "ceanglaichean taobh a-muigh",
    "mt": "ara wkoll|referenzi|ħoloq esterni|noti|link estern|links esterni / biblijografija|sorsi",
    "id": "lihat pula|lihat juga|referensi|pranala luar|catatan|catatan kaki|bacaan lanjutan|"
    "bacaan lebih lanjut|rujukan|pranala|catatan dan referensi|tautan luar|artikel terkait|"
    "referensi dan catatan|catatan penjelas / sumber|daftar pustaka|bibliografi|galeri|kepustakaan|"
    "pustaka",
    "ms": "lihat juga|lihat pula|rujukan|pautan luar|nota|nota kaki|catatan|bacaan lanjut|"
    "bacaan lanjutan|bacaan tambahan|sumber rujukan / sumber|bibliografi|galeri",
    "jv": "uga delengen|deleng uga|pranala njaba|cathetan|cathetan suku|réferènsi|rujukan|referensi|"
    "pranala jaba / sumber|kapustakan|daftar pustaka",
    "su": "tempo ogé|tingali ogé|baca ogé|rujukan|dicutat tina|sumber jeung rujukan|tutumbu kaluar|"
    "tumbu kaluar|tutumbu luar|catetan / sumber|pustaka",
    "tl": "tingnan din|mga sanggunian|sanggunian|mga kawing panlabas|mga panlabas na kawing|"
    "mga ugnay panlabas|panlabas na kawing|mga tala|talababa|talasanggunian|mga panlabas na link|"
    "mga nota|karagdagang pagbabasa / bibliyograpiya|mga pinagkunan",
    "ceb": "ang mga gi basihan niini|mga reperensiya|mga sumpay sa gawas|tan-awa usab|mga pakisayran|"
    "mga sumpay",
    "war": "mga kasarigan|mga sumpay ha gawas|kitaa liwat|mga reperensya|pinambasaran",
    "mg": "jereo koa|jereo ihany koa|loharano|rohy ivelany|fanamarihana|naoty|rohy",
    "sw": "tazama pia|angalia pia|marejeo|viungo vya nje|tanbihi|marejeleo|viungo vya njee|maelezo|"
    "kusoma zaidi / vyanzo|bibliografia",
    "yo": "ẹ tún wo|itokasi|àwọn ìtọ́kasí|ìtọ́kasí|àwọn itokasi|àwọn ìjápọ̀ látìta|àwọn ìjápọ̀ látòde",
    "ha": "manazarta|duba kuma|hanyoyin haɗi na waje|bayanan kula|hanyoyin waje|diba kuma",
    "ig": "hụkwa|edensibia|njikọ mpụta|ntụaka|njikọ mpụga|ihe edeturu",
    "so": "tixraac|xigasho|sidoo kale eeg|xiriir dibadeed|isku xirka bannaanka",
    "ht": "gade tou|referans|lyen deyò|lyen ekstèn|nòt|lyen andeyò",
    "ku": "binêre|çavkanî|girêdanên derve|têbînî|girêdanên derveyî|hemwateyî|mijarên têkildar / "
    "bîbliyografî|lîteratûr",
    "vi": "xem thêm|tham khảo|liên kết ngoài|chú thích|ghi chú|đọc thêm|chú giải|nguồn tham khảo|"
    "tài liệu tham khảo|liên kết|tham khảo và chú thích|chú thích và tham khảo|chú thích nguồn / thư mục|"
    "nguồn|hình ảnh|thư viện ảnh|sách tham khảo",
    "ja": "関連項目|脚注|外部リンク|出典|参考文献|注釈|注|註|註釈|脚註|関連文献|脚注・出典|参照|参考資料|"
    "参考書籍|参考図書|参考サイト|関連記事|関連リンク|引用|引用文献|出典・脚注|脚注・参考文献|脚注欄|"
    "リンク|主要参考文献|補注|補註|注記|文献案内|関連書籍 / ギャラリー|文献|資料|画像",
    "zh": "参见|參見|参考文献|參考文獻|外部链接|外部連結|外部連接|外部连接|外部链結|参考资料|參考資料|"
    "参考來源|参考来源|參考來源|注释|註釋|注釋|註解|注解|脚注|腳註|脚註|备注|備註|附注|附註|注|註|"
    "延伸阅读|延伸閱讀|相关条目|相關條目|参看|參看|参阅|參閱|参照|參照|另見|另见|资料来源|資料來源|引用|"
    "引用来源|參考书目|参考书目|參考書目|扩展阅读|擴展閱讀|進階閱讀|深入阅读|深入閱讀|相关链接|相關連結|"
    "外部資源|外部资源|链接|連結|參考|参考|参考资料与注释|睇埋|出面網頁|出面連結|攷 / 文献|文獻|来源|"
    "來源|書目|书目|画廊|畫廊|图集|圖集",
    "ko": "같이 보기|함께 보기|각주|외부 링크|외부링크|바깥 고리|바깥 링크|참고 문헌|참고문헌|주석|출처|"
    "참고 자료|참고자료|관련 항목|더 보기|더 읽어보기|읽어보기|참조|각주 및 참고 문헌|주해|내용주|인용주|"
    "관련 문서|외부 고리 / 문헌|갤러리|자료|사진",
    "ar": "انظر أيضا|انظر أيضًا|انظر أيضاً|انظر ايضا|أنظر أيضا|طالع أيضا|اقرأ أيضا|اقرأ أيضًا|مراجع|المراجع|"
    "مراجع ومصادر|مصادر ومراجع|المراجع والمصادر|المصادر والمراجع|وصلات خارجية|روابط خارجية|وصلة خارجية|"
    "ملاحظات|ملاحظات ومراجع|هوامش|الهوامش|هامش|حواشي|قراءة موسعة|قراءات إضافية|قراءة إضافية|للاستزادة|"
    "ملاحظات ومصادر|مراجع خارجية|مصادر خارجية|وصلات|استشهادات|ثبت المراجع|شوف كمان|لينكات برانيه|مصادر|"
    "المصادر / معرض صور|معرض الصور|ببليوغرافيا|بيبليوغرافيا|كتب",
    "fa": "جستارهای وابسته|جستارهای‌وابسته|منابع|منبع|پانویس|پانویس‌ها|پیوند به بیرون|پیوندهای بیرونی|"
    "یادداشت‌ها|یادداشت|برای مطالعهٔ بیشتر|برای مطالعه بیشتر|مطالعهٔ بیشتر|مطالعه بیشتر|پی‌نوشت|پی‌نوشت‌ها|"
    "نیز ببینید|همچنین ببینید|ارجاعات|فهرست منابع|پیوند بیرونی|منابع و پانویس|پانویس و منابع|"
    "منابع و پی‌نوشت / کتابشناسی|کتاب‌شناسی|کتابنامه|نگارخانه|گالری تصاویر",
    "ckb": "ئەمانەش ببینە|سەرچاوەکان|بەستەرە دەرەکییەکان|پەراوێزەکان|تێبینییەکان|بەستەری دەرەکی|"
    "ژێدەرەکان|سەرچاوە|ژێدەر|هەروەھا ببینە|ھەروەھا ببینە",
    "ps": "سرچينې|سرچینې|باندنۍ تړنې|دا هم وګورئ|اړوند لیکنې|لمنليکونه|بهرنۍ تړنې|ياداښتونه",
    "sd": "حوالا|ٻاهريان ڳنڍڻا|پڻ ڏسو|خارجي ڳنڍڻا|ٻاهرين ڳنڍڻا|وڌيڪ ڏسو",
    "ug": "پايدىلانغان مەنبەلەر|مەنبەلەر|سىرتقى ئۇلىنىشلار|مۇناسىۋەتلىك تېمىلار",
    "he": "ראו גם|ראה גם|הערות שוליים|הערת שוליים|הערות|קישורים חיצוניים|קישור חיצוני|לקריאה נוספת|"
    "ביאורים|מקורות והערות|הערות ומקורות|הערות שולים / ביבליוגרפיה|מקורות|גלריה|גלריית תמונות",
    "yi": "זעט אויך|רעפערענצן|דרויסנדע לינקען|דרויסנדיקע לינקען|רעפערענצען|הערות|באמערקונגען|"
    "וועבלינקען / ביבליאגראפיע|מקורות",
    "ur": "مزید دیکھیے|مزید دیکھئے|مزید دیکھیں|نیز دیکھیے|حوالہ جات|حوالے|حوالہ|بیرونی روابط|مزید پڑھیے|"
    "بیرونی ربط|حواشی|ملاحظات|مزید مطالعہ|نوٹ|متعلقہ مضامین|خارجی روابط|ہور دیکھو|باہرلے جوڑ / کتابیات|"
    "مآخذ|ماخذ|نگار خانہ",
    "hi": "इन्हें भी देखें|इन्हे भी देखें|इसे भी देखें|यह भी देखें|ये भी देखें|सन्दर्भ|संदर्भ|सन्दर्भ सूची|संदर्भ सूची|बाहरी कड़ियाँ|"
    "बाहरी कड़ियां|बाहरी कड़ी|बाह्य सूत्र|टिप्पणी|टिप्पणियाँ|टिप्पणियां|पाद टिप्पणी|पाद-टिप्पणी|अतिरिक्त पठन|आगे पढ़ें|"
    "टीका-टिप्पणी|सन्दर्भ और टिप्पणियाँ|बाह्य कड़ियाँ / ग्रन्थसूची|ग्रंथसूची|स्रोत|सन्दर्भ ग्रन्थ|चित्र दीर्घा|दीर्घा",
    "mr": "हे सुद्धा पहा|हेसुद्धा पाहा|हे सुद्धा पाहा|हेही पाहा|हे पण पहा|संदर्भ|संदर्भ आणि नोंदी|बाह्य दुवे|बाह्यदुवे|"
    "बाह्य दुवा|नोंदी|टीप|तळटीपा|टिपा|संदर्भ यादी|संदर्भ व नोंदी / स्रोत|संदर्भग्रंथ|चित्रदालन",
    "ne": "यो पनि हेर्नुहोस्|यी पनि हेर्नुहोस्|सन्दर्भ सामग्रीहरू|सन्दर्भ|सन्दर्भहरू|बाह्य लिङ्कहरू|बाह्य कडीहरू|सन्दर्भ सूची|"
    "बाह्य लिङ्क|टिप्पणी|बाह्य कडी|सन्दर्भ सामग्री|यो पनि हेर्नुहोला|टिप्पणीहरू",
    "sa": "सम्बद्धाः लेखाः|बाह्यसम्पर्कतन्तुः|सन्दर्भाः|बाह्यानुबन्धाः|उल्लेखाः|टिप्पणी|सम्बद्धलेखाः|आधारः|"
    "इमानि अपि पश्यन्तु",
    "bn": "আরও দেখুন|আরো দেখুন|তথ্যসূত্র|তথ্যসূত্রসমূহ|বহিঃসংযোগ|বহিঃসংযোগসমূহ|টীকা|পাদটীকা|আরও পড়ুন|আরো পড়ুন|"
    "টীকা ও তথ্যসূত্র|তথ্যসূত্র ও টীকা|সূত্র|বহিসংযোগ|গ্রন্থসূত্র|উদ্ধৃতি|টিকা|মন্তব্য|অতিরিক্ত পঠন|অধিক পঠন / "
    "গ্রন্থপঞ্জি|উৎস|চিত্রশালা|গ্যালারি",
    "as": "তথ্য সংগ্ৰহ|তথ্যসূত্ৰ|লগতে চাওক|বাহ্যিক সংযোগ|তথ্য উৎস|টোকা|লগতে পঢ়ক",
    "pa": "ਹਵਾਲੇ|ਇਹ ਵੀ ਦੇਖੋ|ਇਹ ਵੀ ਵੇਖੋ|ਬਾਹਰੀ ਲਿੰਕ|ਬਾਹਰੀ ਕੜੀਆਂ|ਬਾਹਰਲੇ ਲਿੰਕ|ਨੋਟ|ਨੋਟਸ|ਹੋਰ ਪੜ੍ਹੋ|ਹਵਾਲਾ|ਬਾਹਰੀ ਲਿੰਕਸ / ਸਰੋਤ",
    "gu": "સંદર્ભ|સંદર્ભો|આ પણ જુઓ|બાહ્ય કડીઓ|નોંધ|નોંધો|વધુ વાંચન|બાહ્ય કડી|સંદર્ભ સૂચિ|આ પણ જૂઓ|પૂરક વાચન / સ્ત્રોત",
    "ta": "மேற்கோள்கள்|மேற்கோள்|வெளி இணைப்புகள்|வெளியிணைப்புகள்|வெளி இணைப்பு|இவற்றையும் பார்க்கவும்|இவற்றையும் பார்க்க|"
    "இதனையும் காண்க|மேலும் காண்க|குறிப்புகள்|அடிக்குறிப்புகள்|உசாத்துணை|உசாத்துணைகள்|சான்றுகள்|மேலும் படிக்க|ஆதாரங்கள்|"
    "உசாத்துணை நூல்கள்|இவற்றையும் காண்க|மேற்கோள்களும் குறிப்புகளும் / நூற்பட்டியல்|படங்கள்",
    "te": "మూలాలు|మూలం|ఇవి కూడా చూడండి|బయటి లింకులు|బయటి లంకెలు|బయటి లింకు|గమనికలు|వనరులు|నోట్స్|వెలుపలి లంకెలు|"
    "ఇతర లింకులు|మూలాలు, వనరులు|ఉల్లేఖనలు|ఇంకా చదవండి|బాహ్య లంకెలు / చిత్రమాలిక|చిత్ర మాలిక",
    "kn": "ಉಲ್ಲೇಖಗಳು|ಇವನ್ನೂ ನೋಡಿ|ಬಾಹ್ಯ ಕೊಂಡಿಗಳು|ಹೊರಗಿನ ಸಂಪರ್ಕಗಳು|ಬಾಹ್ಯ ಸಂಪರ್ಕಗಳು|ಉಲ್ಲೇಖ|ಟಿಪ್ಪಣಿಗಳು|ಇದನ್ನೂ ನೋಡಿ|"
    "ಹೆಚ್ಚಿನ ಓದಿಗೆ|ಆಕರಗಳು|ಹೊರಗಿನ ಕೊಂಡಿಗಳು|ಬಾಹ್ಯ ಕೊಂಡಿ",
    "ml": "അവലംബം|അവലംബങ്ങൾ|ഇതും കാണുക|ഇവയും കാണുക|പുറത്തേക്കുള്ള കണ്ണികൾ|പുറത്തേയ്ക്കുള്ള കണ്ണികൾ|പുറം കണ്ണികൾ|കുറിപ്പുകൾ|"
    "കുറിപ്പ്|കൂടുതൽ വായനയ്ക്ക്|ബാഹ്യകണ്ണികൾ|പുറമെ നിന്നുള്ള കണ്ണികൾ / ഗ്രന്ഥസൂചി|ചിത്രശാല",
    "si": "ආශ්‍රිත|මූලාශ්‍ර|බාහිර සබැඳි|මේවාත් බලන්න|මේවත් බලන්න|සටහන්|යොමු කිරීම්|බාහිර සබැදි|වැඩිදුර කියවීම්",
    "th": "ดูเพิ่ม|ดูเพิ่มเติม|อ้างอิง|แหล่งข้อมูลอื่น|เชิงอรรถ|หมายเหตุ|รายการอ้างอิง|อ่านเพิ่ม|อ่านเพิ่มเติม|"
    "หนังสืออ่านเพิ่มเติม|แหล่งอ้างอิง|เอกสารอ้างอิง|บทความที่เกี่ยวข้อง|เชิงอรรถและอ้างอิง|หมายเหตุและอ้างอิง|ข้อมูลอ้างอิง|"
    "แหล่งข้อมูล|หนังสืออ้างอิง|ลิงก์ภายนอก / บรรณานุกรม|คลังภาพ|ระเบียงภาพ",
    "lo": "ອ້າງອີງ|ເບິ່ງເພີ່ມ|ແຫຼ່ງຂໍ້ມູນອື່ນ|ເອກະສານອ້າງອີງ|ລິ້ງຄ໌ພາຍນອກ|ໝາຍເຫດ|ເບິ່ງຕື່ມ",
    "my": "ကိုးကား|ကိုးကားချက်|ကိုးကားချက်များ|ပြင်ပလင့်ခ်များ|ပြင်ပလင့်များ|ဤသည်လည်း ကြည့်ပါ|ရှုပါ|မှတ်စု|မှတ်စုများ|"
    "ပြင်ပ လင့်ခ်များ|ဆက်စပ်ဖတ်ရှုရန်|ကြည့်ရန်|ထပ်မံဖတ်ရှုရန်|အကိုးအကား",
    "km": "ឯកសារយោង|ឯកសារ​យោង|មើលផងដែរ|តំណភ្ជាប់ក្រៅ|តំណភ្ជាប់ខាងក្រៅ|កំណត់សម្គាល់|សូមមើលផងដែរ|តំណក្រៅ|មើល​ផង​ដែរ|"
    "តំណភ្ជាប់​ខាងក្រៅ|ឯកសារពិគ្រោះ|មើលបន្ថែម|ប្រភព",
    "bo": "ཟུར་མཆན།|དཔྱད་གཞི།|ཕྱི་ཕྱོགས་དྲ་མཐུད།|ཟིན་བྲིས།",
    "am": "ማጣቀሻ|ማጣቀሻዎች|ዋቢ ምንጮች|ዋቢ መጻሕፍት|የውጭ መያያዣዎች|የውጭ መያያዣ|ደግሞ ይዩ|ዋቢ|የውጭ ማያያዣዎች|ተጨማሪ ንባብ|የውጭ አገናኞች|ምንጮች|"
    "ምንጭ",
    "hy": "տես նաև|տե՛ս նաև|տե´ս նաև|ծանոթագրություններ|ծանոթագրություն|արտաքին հղումներ|արտաքին հղում|"
    "նշումներ|հղումներ|աղբյուրներ և ծանոթագրություններ|հավելյալ գրականություն / գրականություն|աղբյուրներ|"
    "պատկերասրահ",
    "ka": "იხილეთ აგრეთვე|იხილეთ ასევე|სქოლიო|რესურსები ინტერნეტში|შენიშვნები|გარე ბმულები|ბმულები|"
    "სქოლიო და წყაროები|ინტერნეტრესურსები / ლიტერატურა|წყაროები|გალერეა",
    "nan": "chham-oa̍t|chham-khó|chham-khó chu-liāu|gōa-pō͘ liân-kiat|chù-kái|goā-pō͘ liân-kiat|"
    "chham-khó bûn-hiàn",
}  # fmt: skip
