"""The commonest short words of languages that share a script: what tells them apart."""

# ruff: noqa: RUF001

from __future__ import annotations

_LISTS = {
    "en": "the of and to in is that it for you was with on are this be as have from they his not but what were we "
    "when your can there an which she do how their if will would about them then these her him has who been "
    "my me i",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus "
    "er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum haben nur oder aber vor "
    "zur bis mehr durch ich wir ihr man kann mir mich was wenn",
    "fr": "le de la les et des en un du une que est pour qui dans par plus pas au sur ne se ce il sont avec son aux "
    "ou cette ont ses mais comme nous leur sa elle été je vous tout même être fait sans c'est j'ai d'un l'on",
    "es": "de la que el en y los se del las un por con no una su para es al lo como más o pero sus le ha me si sin "
    "sobre este ya entre cuando todo esta ser son dos también fue había era muy hasta desde está yo qué "
    "porque están",
    "it": "di che è la il un a per in una mi sono ho non ma lo ha le si ti i con cosa se io come da ci no questo "
    "qui gli del della nel alla dei delle anche più al dal nella essi tutti degli hanno essere questa così "
    "perché",
    "pt": "de que não o e a do da em um para é com uma os no se na por mais as dos como mas foi ao ele das tem à "
    "seu sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem "
    "mesmo aos são você",
    "nl": "de het een van en in is dat op te zijn voor met die niet aan er om ook als dan maar bij wordt nog uit "
    "door naar heeft ik je we hij ze wat worden of was deze kan meer over hun alle moeten tot geen zich dit",
    "sv": "och i att det som en på är av för med den till har de inte om ett han men var jag sig från vi så kan man "
    "när år säger hon under också efter eller nu sin där vid mot ska skulle alla andra mycket denna dem här "
    "vad",
    "da": "og i at det er en til af på som med for den de ikke har der et han var jeg fra vi så kan man når hun "
    "også efter eller sin ved mod skal skulle alle andre meget hvad hvor dem blev bliver om",
    "pl": "i w na z się nie do że to jest o jak za od po co ale przez czy tak są dla jego tym ich być tego oraz już "
    "tylko które może był była wszyscy wobec pod jako jeszcze mnie ja ty on ona gdy lub",
    "cs": "a se v na je že s z do o k i to za ve by ale jako po jsou pro od jsem si tak nebo byl který jeho už jen "
    "při není také být má co když která podle ke všichni mají sobě mezi jsme",
    "ro": "de și în a la cu nu pe este că o se un din care mai pentru sunt au să al ce prin ale dar cel cea fi după "
    "sau fost lui ei noi toate față ele le am ai ca către",
    "tr": "ve bir bu için ile de da çok olarak daha olan gibi kadar en var o ne sonra ama her ben sen biz mi mı "
    "değil olduğunu ya ki bütün karşı şey bana nasıl",
    "id": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena tersebut bisa ada mereka "
    "lebih telah atau sudah adalah oleh kita hanya kami semua orang satu sama lain harus dapat anda",
    "vi": "và của là có không cho được trong một các với những người đã này để khi đến tôi cũng về như nhau mọi "
    "phải từ ra đều nhưng anh rất",
    "ru": "и в не на я что он с как это по но из у за от же так для о к а вы все бы мы то она они только его есть "
    "мне было когда или быть ему друг должны если чтобы этого их меня",
    "uk": "і в не на я що він з як це по але із у за від ж так для до а ви всі би ми та вона вони тільки його є "
    "мені було коли або бути один повинні якщо щоб їх цей й",
    "bg": "и в не на аз че той с как това по но от за се да е са си а вие всички би ние то тя те само него има беше "
    "когато или към трябва ако една един го му ще със във които",
    "ar": "في من على إلى أن عن مع هذا التي الذي لا ما هو هي كان كل قد بين أو ثم بعد جميع وقد ولا هذه ذلك لم",
    "fa": "و در به از که این را با است برای آن یک خود تا کرد بر هم نیز می ها ها‌ شده اند باید همه یا هر دارند",
    "ur": "کے میں کی ہے اور سے کا کو پر یہ نے ہیں کہ اس ایک بھی نہیں تھا تو ہو کر جو گیا وہ تمام",
}
STOP_WORDS: dict[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _LISTS.items()}
