"""Phrases by which a text tries to take a model over: kinds of signs, each with its weight; see phrases.py.

A weight is the chance that a text with the sign is an attack, where half of the texts are: its share among 790
jailbreaks and injections against that among 3,995 benign prompts (train.jsonl of tests/bench/guards_data.py, 2026-11).
"""

from __future__ import annotations

_RULES = (
    "(instruction*|prompt*|rule*|guideline*|directive*|direction*|command*|programming|polic*|training|"
    "restriction*|constraint*|safeguard*|filter*|order*)"
)
_BEFORE = (
    "(previous|prior|above|earlier|preceding|former|past|existing|initial|original|system|safety|your|openai*|its)"
)
_LIMITS = (
    "(restriction*|limit|limits|limitation*|filter*|rule|rules|guideline*|moral*|ethic*|censor*|"
    "boundaries|inhibition*|"
    "constraint*|safeguard*|polic*|conscience|scruple*)"
)
_ASSISTANT = "(ai|assistant|chatbot|bot|model|llm|agent|chatgpt|gpt|language model)"

PHRASES: dict[str, tuple[float, tuple[str, ...]]] = {
    "override": (
        0.99,
        (
            f"(ignore|disregard|forget|override|bypass|discard|neglect|skip) {{0,3}} {_BEFORE} {{0,2}} {_RULES}",
            f"(ignore|disregard|forget) (all|any|every) (of)? (the)? {_RULES}",
            "(ignore|disregard|forget) (everything|all|anything) (you|that|which|above|before|i|prior|previous)",
            "(ignore|disregard|forget) (all)? (of)? (the)? (above|aforementioned|foregoing|preceding)",
            f"(do not|dont|stop|never) (follow*|obey*|adher*|comply*) {{0,4}} {_BEFORE} {{0,2}} {_RULES}",
            "(new|updated|revised|real|actual) (system)? (instruction*|directive*|prompt) "
            "(follow*|begin*|are|override*|supersede*)",
            "(rule*|guideline*|restriction*|safety protocol*|safeguard*|polic*) {0,2} (changed|"
            "disabled|lifted|suspended|removed|no longer)",
            "(ignora|ignorar|olvida|dimentica|ignorez|oubliez|oublie|ignoriere|vergiss|missachte) {0,3} "
            "(instruccion*|reglas|istruzion*|regole|instructions|consignes|anweisung*|"
            "richtlinie*|regeln|anterior*|precedent*|vorherig*|alles)",
            f"(supersede*|overrid*|replac*) (all|any|every|the|your) {{0,2}} {_BEFORE} {{0,2}} {_RULES}",
        ),
    ),
    "no limits": (
        0.995,
        (
            f"(no|without|zero|free of|free from|not bound by|unbound by|ignor*|beyond) {{0,4}} "
            f"(ethical|moral|legal|content|safety|openai*|usual|typical|any|ai) {{0,3}} {_LIMITS}",
            f"(has|have|had|with) no (ethical|moral|content|such)? {{0,2}} {_LIMITS}",
            "(not|never|isnt|arent) (bound|restricted|limited|constrained|restrained|hindered) "
            f"(by|to) {{0,3}} {_LIMITS}",
            "(unfiltered|uncensored|unrestricted|unaligned|amoral|immoral) {0,3} (ai|assistant|"
            "chatbot|bot|model|response*|answer*|version|mode|and)",
            "(broken|break|breaking) free {0,5} (ai|confines|rules|limits|restrictions)",
            "(can|could|able to|will) (do|say|answer|generate|produce|create) anything (now|at "
            "all|i|without|regardless|and)",
            f"(bypass*|circumvent*|disabl*|remov*|turn off|deactivat*) {{0,4}} (safety|content|"
            f"ethic*|moral*|moderation|censor*) {{0,2}} {_LIMITS}",
        ),
    ),
    "persona": (
        0.995,
        (
            "(do anything now|dan mode|developer mode|jailbreak* mode|god mode|debug mode|sudo "
            "mode|evil mode|opposite mode)",
            "(jailbreak|jailbroken|jailbreaking)",
            "(from now on|henceforth) {0,3} (you|your|act|respond|answer|chatgpt)",
            "(you are|youre) (now|going to) (be|act|become|a|an|in|pretend|playing|called|named|my)",
            "(pretend|act|roleplay|role play|behave|simulate|imagine|emulate|respond|answer) "
            f"{{0,3}} (as|like|to be|being|you are) {{0,6}} {_ASSISTANT} (that|who|which|with|"
            "without|named|called)",
            "immerse yourself (into|in) {0,3} role",
            "(stay|remain|keep) in character",
            "(never|not|dont) {0,2} break {0,1} character",
            "(two|both|2) (different)? (response*|answer*|ways|replies)",
            "(evil|villain*|malicious|unethical|devious|ruthless|rebel*) {0,2} (ai|assistant|"
            "chatbot|confidant|trusted|genius|version of)",
        ),
    ),
    "no refusal": (
        0.99,
        (
            "(never|not|dont|cannot|cant|wont|must not|should not|may not) {0,3} (refus*|declin*|"
            "reject*|deny|denies) {0,4} (request*|answer*|question*|anything|prompt*|command*|"
            "order*|task*|to)",
            "(never|not|dont|wont|avoid*|without|omit|no) {0,4} (disclaimer*|moraliz*|moralis*|"
            "lectur*|warning* or|apolog*|refusal*)",
            "(never|not|dont|cant|cannot) (say|tell|state|mention|use|include|start|begin|"
            "respond) {0,6} (sorry|i cant|i cannot|as an ai|cannot|unable|unfortunately|not able "
            "to|against)",
            "(regardless|irrespective|no matter) {0,4} (legal*|ethic*|moral*|harm*|illegal*|"
            "consequence*|danger*|immoral)",
            "(even if|although|though) {0,4} (illegal|unethical|immoral|harmful|dangerous)",
            "(illegal|unethical|immoral) {0,2} (unethical|immoral|illegal|harmful|dangerous|or|"
            "and|things|content|activit*|request*)",
            "(start|begin) {0,4} (answer|response|reply|output|message|sentence) {0,3} (with|by) "
            "{0,3} (sure|absolutely|certainly|of course|yes)",
        ),
    ),
    "extraction": (
        0.99,
        (
            "(reveal|show|print|repeat|output|display|tell|give|leak|share|expose|disclose|"
            "recite|list|write|dump|summarize|translate|encode|spell) "
            "{0,5} (system|initial|original|hidden|secret|internal|starting|developer|preprompt|"
            "confidential) {0,1} (prompt*|instruction*|message*|rules|directive*|guideline*|"
            "configuration|setup)",
            "(what|which) (is|are|was|were) (your|the) {0,3} (system|initial|original|hidden|"
            "secret|internal|exact) {0,1} (prompt*|instruction*|message*|rules|directive*)",
            "(repeat|print|output|copy|write|return) {0,4} (word*|text|everything|all|content*|"
            "sentence*|line*|instruction*|message*) {0,2} (above|before this|preceding|verbatim|"
            "so far)",
            "(what|which) {0,3} (instruction*|prompt|rules) {0,3} (given|told|received|"
            "programmed|provided) {0,3} (above|before|initially|with|at the)",
            "(instructions|prompt|rules|text|message) (you|that you) (were|was|are|have been|had "
            "been) (given|told|provided|shown)",
            "(muestra|revela|rivela|mostra|montre|revele|revelez|zeige|verrate) {0,4} (prompt|"
            "instrucciones|istruzioni|instructions|systemanweisung*|system)",
            "(start|begin|beginning|complete) {0,4} (my instructions|you are|i was instructed|i was told)",
            "(what|everything) {0,1} (were|was) {0,2} (you|i) {0,1} (told|instructed|given) "
            "{0,2} (before|previously|earlier|initially)",
            "(everything|all|contents) in (your|the) context",
            "(your|the) (system prompt|initial instructions|hidden instructions|original "
            "instructions|initial prompt|preprompt)",
        ),
    ),
    "planted order": (
        0.97,
        (
            f"(important|attention|urgent|critical|note|notice|message|instruction*) {{0,2}} (to|"
            f"for) (the|any|all|every)? {_ASSISTANT}",
            "(if you are|as) an (ai|llm|agent|automated) {0,3} (reading|processing|summarizing|you must|please)",
            "(do not|dont|never|without) (tell*|inform*|mention*|notify*|alert*|reveal*|"
            "disclos*) {0,3} (user|anyone|human|owner|operator)",
            "(send|forward|email|upload|post|exfiltrat*|transmit|leak) {0,6} (password*|"
            "credential*|api key*|secret*|token*|private key*|env*|contents of|conversation|chat "
            "history)",
            "(decode|decrypt|translate|convert|read) {0,8} (and|then) {0,4} (do|execute|follow|"
            "obey|perform|carry out) {0,3} (what|it|them|instruction*|command*|exactly|as)",
            "(ai|coding|automated) agents {0,4} (should|must|need|have to|are required)",
            "when you (read|see|process|summarize) (this|the) {0,3} (also|send|email|call|"
            "forward|print|append|delete|run|you)",
            "(must|will|shall) (comply|obey) {0,3} (every|all|any|fully|with everything)",
            "(before|instead of|after) (answering|responding|summarizing|doing|completing) {0,8} "
            "(call|run|execute|send|visit|fetch|delete|email|print|output)",
            "(the user|user|admin|administrator|developer) {0,2} (has|have) {0,2} (authorized|"
            "approved|granted|requested|pre approved)",
        ),
    ),
    "fiction as a cover": (
        0.98,
        (
            "(hypothetical|fictional|fictitious|imaginary|alternate|parallel) {0,2} (response|"
            "scenario|world|universe|story|character|ai|setting|reality)",
            "(purely|only|just|strictly|simply) (for)? (educational|research|academic|fictional|"
            "hypothetical|testing) {0,2} (purpose*|reason*|use)",
            "(write|wrote|playing|play|simulat*|game) {0,6} (dialogue|character*|role|script|"
            "story|movie) {0,8} (how to|explains|describes|detailed|step by step)",
            "(my|deceased|late|dead) {0,2} (grandma|grandmother|granny|grandfather) {0,8} (read|tell|used|told|recite)",
        ),
    ),
}
