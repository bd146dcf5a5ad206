"""`python -m benchmarks.cuts [FILE.jsonl ...]`: where passages are cut, script by script.

Of every cut: whether it is inside a grapheme cluster, and whether it is at a sentence's end. An end counts as
near where it is among the words that the splitter may choose from. Without files the texts are made
of the sentences below, drawn at random with their numbers changed. A file has `title` and `text` a line.

Sentences are found by a list of signs of its own, and clusters by the package `regex`: neither asks the
splitter's own tables.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import regex

from pipeline.text import passages, words

# Two or three plain sentences each, as an encyclopedia has them.
SENTENCES = {
    "English": "The river is {} kilometres long. It flows into the sea near the old town. Who built it?",
    "Greek": "Ο ποταμός έχει μήκος {} χιλιόμετρα. Εκβάλλει στη θάλασσα κοντά στην πόλη. Η πόλη είναι παλιά.",
    "Russian": "Длина реки {} километров. Она впадает в море у старого города. Кто его построил?",
    "Armenian": "Գետի երկարությունը {} կիլոմետր է։ Այն թափվում է ծովը հին քաղաքի մոտ։ Քաղաքը մեծ է։",
    "Georgian": "მდინარის სიგრძე {} კილომეტრია. იგი ზღვას ძველ ქალაქთან ერთვის. ქალაქი დიდია.",
    "Hebrew": "אורך הנהר {} קילומטרים. הוא נשפך לים ליד העיר העתיקה. מי בנה אותה?",
    "Arabic": "يبلغ طول النهر {} كيلومترا. يصب في البحر قرب المدينة القديمة. من بناها؟",
    "Urdu": "دریا کی لمبائی {} کلومیٹر ہے۔ یہ پرانے شہر کے قریب سمندر میں گرتا ہے۔ شہر بڑا ہے۔",
    "Hindi": "नदी की लंबाई {} किलोमीटर है। यह पुराने शहर के पास समुद्र में गिरती है। शहर बड़ा है।",
    "Bengali": "নদীটির দৈর্ঘ্য {} কিলোমিটার। এটি পুরানো শহরের কাছে সমুদ্রে পড়ে। শহরটি বড়।",
    "Tamil": "ஆற்றின் நீளம் {} கிலோமீட்டர். இது பழைய நகரத்தின் அருகே கடலில் கலக்கிறது. நகரம் பெரியது.",
    "Amharic": "የወንዙ ርዝመት {} ኪሎ ሜትር ነው። ከጥንታዊቷ ከተማ አጠገብ ወደ ባሕር ይፈስሳል። ከተማዋ ትልቅ ናት።",
    "Korean": "강의 길이는 {} 킬로미터이다. 오래된 도시 근처에서 바다로 흘러든다. 도시는 크다.",
    "Chinese": "这条河长{}公里。它在古城附近流入大海，城市很大。谁建造了它？",
    "Japanese": "川の長さは{}キロメートルである。古い町の近くで海に注ぐ。町は大きく、港がある。",
    "Thai": "แม่น้ำยาว {} กิโลเมตร ไหลลงทะเลใกล้เมืองเก่า เมืองนี้ใหญ่และมีท่าเรือ ",
    "Lao": "ແມ່ນ້ຳຍາວ {} ກິໂລແມັດ ໄຫຼລົງທະເລໃກ້ເມືອງເກົ່າ ເມືອງນີ້ໃຫຍ່ ",
    "Khmer": "ទន្លេនេះមានប្រវែង{}គីឡូម៉ែត្រ។ វាហូរចូលសមុទ្រនៅជិតទីក្រុងចាស់។ ទីក្រុងនេះធំណាស់។",
    "Burmese": "မြစ်သည်ကီလိုမီတာ{}ရှည်သည်။ မြို့ဟောင်းအနီးတွင်ပင်လယ်ထဲသို့စီးဝင်သည်။ မြို့သည်ကြီးမားသည်။",
    "Tibetan": "གཙང་པོ་འདིའི་རིང་ཚད་སྤྱི་ལེ་{}ཡིན། གྲོང་ཁྱེར་རྙིང་པའི་ཉེ་འགྲམ་དུ་རྒྱ་མཚོར་འབབ། གྲོང་ཁྱེར་ཆེན་པོ་ཡིན།",
    "Javanese": "ꦏꦭꦶꦲꦶꦏꦶꦢꦮꦤꦺ{}ꦏꦶꦭꦺꦴꦩꦺꦠꦼꦂ꧉ꦩꦶꦭꦶꦤꦺꦩꦼꦚꦁꦱꦼꦒꦫ꧉ꦏꦸꦛꦤꦺꦒꦼꦝꦺ꧉",
}
_WITHOUT_BLANKS = ("Chinese", "Japanese", "Khmer", "Burmese", "Javanese")
_DIGITS = {
    "Hindi": "०१२३४५६७८९", "Bengali": "০১২৩৪৫৬৭৮৯", "Urdu": "۰۱۲۳۴۵۶۷۸۹", "Khmer": "០១២៣៤៥៦៧៨៩",
    "Burmese": "၀၁၂၃၄၅၆၇၈၉", "Tibetan": "༠༡༢༣༤༥༦༧༨༩",
}  # fmt: skip
# An end of a sentence, and the quotes and brackets that go with it. A point ends one before a blank alone.
# Thai and Lao have no sign, and a blank between sentences.
_END = re.compile(r"(?:[.?!](?=\s|\Z)|[;;؟۔।॥။។៕།።։。！？｡꧉᱾᱿꯫])[\"'”’»」』)）]*")
# Passages are not all full, or there is no choice where to cut.
_LEAST_WORDS = 4_050


def text_of(script: str) -> str:
    """A text of `_LEAST_WORDS` words or more, the same on every call."""
    drawn = random.Random(script)
    digits = str.maketrans("0123456789", _DIGITS.get(script, "0123456789"))
    # Sentences with their sign; a script without signs gives one piece.
    parts = re.findall(r".+?(?:[.?!;;؟۔।။།።։。！？꧉](?:\s|(?=\S)|\Z)|\Z)", SENTENCES[script])
    glue = "" if script in _WITHOUT_BLANKS else " "
    pieces: list[str] = []
    count = 0
    while count < _LEAST_WORDS:
        number = str(drawn.randrange(2, 5000)).translate(digits)
        piece = glue.join(drawn.choice(parts).strip().format(number) for _ in range(3))
        pieces.append(piece)
        count += words.count_words(piece)
    return glue.join(pieces)


def cuts(text: str, size: int = passages.PASSAGE_WORDS) -> dict[str, int]:
    """Counts of a text's cuts: all, inside a cluster, with a sentence's end near, and at one of those."""
    clusters = {0, *(found.end() for found in regex.finditer(r"\X", text))}
    ends = {len(text[: found.end()].rstrip()) for found in _END.finditer(text)}
    spans = words.word_spans(text)
    last_of = [stop for _, stop in spans]
    counts = {"cuts": 0, "inside a cluster": 0, "sentence near": 0, "at its end": 0}
    done = position = 0
    pieces = list(passages.split_text(text, size))
    for number, (piece, taken) in enumerate(pieces[:-1]):
        start = text.index(piece, position)
        position = start + len(piece)
        left, remaining = len(spans) - done, len(pieces) - number
        even, slack = round(left / remaining), int(size * passages.SLACK)
        low = max(1, even - slack, left - size * (remaining - 1))
        high = min(size, even + slack, left - (remaining - 1))
        near = any(last_of[done + take - 1] in ends for take in range(low, high + 1))
        done += taken
        following = len(text) - len(text[position:].lstrip())
        counts["cuts"] += 1
        counts["inside a cluster"] += not {position, following} <= clusters
        counts["sentence near"] += near
        counts["at its end"] += near and position in ends
    return counts


def main(files: list[str]) -> None:
    texts = {script: text_of(script) for script in SENTENCES}
    if files:
        lines = [
            line for file in files for line in Path(file).read_text("utf-8").splitlines() if line.strip()
        ]
        texts = {record["title"]: record["text"] for record in map(json.loads, lines)}
    print("| text | cuts | inside a cluster | with a sentence's end near | of these, at one |")
    print("|---|---|---|---|---|")
    for title, text in texts.items():
        found = cuts(text)
        near = found["sentence near"]
        share = f"{found['at its end'] / near:.0%}" if near else "-"
        print(f"| {title} | {found['cuts']} | {found['inside a cluster']} | {near} | {share} |")


if __name__ == "__main__":
    main(sys.argv[1:])
