"""Languages are told by script and common words, on published sentences and real dialogues."""

# ruff: noqa: RUF001

import gzip
import json

import pytest
from hypothesis import given, settings

from raysafe.errors import ConfigError
from raysafe.guards.guard import Exchange, Message
from raysafe.guards.languages import LANGUAGES, LanguageConfig, identify
from raysafe.guards.pipeline import Pipeline
from tests.examples import examples
from tests.guards.chunks import assert_chunks_change_nothing, chunked, streamed, whole
from tests.real_data import HH_RLHF

# Article 1 of the Universal Declaration of Human Rights, as the United Nations publish it
ARTICLE_1 = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience "
    "and should act towards one another in a spirit of brotherhood.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
    "und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di "
    "coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
    "consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en "
    "geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och samvete och "
    "bör handla gentemot varandra i en anda av broderskap.",
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og samvittighed, "
    "og de bør handle mod hverandre i en broderskabets ånd.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím a mají "
    "spolu jednat v duchu bratrství.",
    "ro": "Toate ființele umane se nasc libere și egale în demnitate și în drepturi. Ele sunt înzestrate cu rațiune și "
    "conștiință și trebuie să se comporte unele față de altele în spiritul fraternității.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve "
    "birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler.",
    "id": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka dikaruniai akal dan "
    "hati nurani dan hendaknya bergaul satu sama lain dalam semangat persaudaraan.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Mọi con người đều được tạo hoá "
    "ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình bằng hữu.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю і "
    "повинні діяти у відношенні один до одного в дусі братерства.",
    "bg": "Всички хора се раждат свободни и равни по достойнство и права. Те са надарени с разум и съвест и следва да "
    "се отнасят помежду си в дух на братство.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "ar": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً وعليهم أن يعامل بعضهم بعضاً.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "zh": "人人生而自由,在尊严和权利上一律平等。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
}
ENGLISH = LanguageConfig(allow=("en",), stream_step=40).build()


@pytest.mark.parametrize("language", ARTICLE_1)
def test_a_published_sentence_is_told(language: str) -> None:
    assert identify(ARTICLE_1[language]) == language


@pytest.mark.parametrize("text", ["", "ok", "12 + 30 = 42", "Berlin", "def f(x): return x"])
def test_too_little_to_tell_is_no_language(text: str) -> None:
    assert identify(text) is None
    assert whole(ENGLISH, text)[0] == "allow"


@pytest.mark.parametrize("language", ARTICLE_1)
def test_a_guard_passes_its_own_language_and_stops_others(language: str) -> None:
    own = LanguageConfig(allow=(language,)).build()
    assert whole(own, ARTICLE_1[language])[0] == "allow"
    assert whole(ENGLISH, ARTICLE_1[language])[0] == ("allow" if language == "en" else "block")


def test_a_foreign_name_or_phrase_in_a_text_passes() -> None:
    text = "The word for peace is мир in Russian, and in German people say Guten Tag when they meet."
    assert whole(ENGLISH, text)[0] == "allow"


def test_only_what_users_write_is_judged_of_a_request() -> None:
    messages = (Message("system", ARTICLE_1["de"]), Message("user", ARTICLE_1["en"]))
    assert Pipeline([ENGLISH]).check(Exchange("r", "k", "m", messages), "input").action == "allow"


@settings(max_examples=examples(100), deadline=None)
@given(chunked([*(text[:60] for text in ARTICLE_1.values()), " the house is on the hill and they like it "]))
def test_chunks_change_nothing(chunks: list[str]) -> None:
    assert_chunks_change_nothing(ENGLISH, chunks)


def test_an_answer_that_changes_its_language_is_stopped() -> None:
    text = ARTICLE_1["en"] + " " + ARTICLE_1["de"] * 8
    action, _, left = streamed(LanguageConfig(allow=("en",)).build(), [text[i : i + 9] for i in range(0, len(text), 9)])
    assert action == "block"
    assert len(left) < len(text)


def test_a_language_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="'xx' is not known"):
        LanguageConfig(allow=("xx",))
    assert len(LANGUAGES) == 32


@pytest.mark.skipif(not HH_RLHF.exists(), reason="hh-rlhf is not there")
def test_real_english_passes() -> None:
    """False positives on 500 real dialogues between people and an assistant."""
    with gzip.open(HH_RLHF, "rt", encoding="utf-8") as lines:
        dialogues = [json.loads(line)["chosen"] for line, _ in zip(lines, range(500), strict=False)]
    stopped = sum(whole(ENGLISH, dialogue)[0] != "allow" for dialogue in dialogues)
    assert stopped <= 5
