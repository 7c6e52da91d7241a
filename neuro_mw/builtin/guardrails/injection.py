"""Tripwires: phrases that tell a model to drop its instructions, its role or its limits, or to print its prompt.

Tripwires are not injection detection. They find what is said in the usual words, in six languages; who says it in other
words, in a seventh language or in an encoding passes. They show that somebody tries, and cost next to nothing.
"""

from __future__ import annotations

from .rules import Rule

_S = r"[\s\"'*]{1,3}"  # between two words
_FORMER = r"(?:previous|prior|above|earlier|preceding|foregoing|initial|original|former|system|hidden)"
_FILLER = r"(?:all|any|every|each|of|the|your|my|our|these|those|this|and|or|previously|given|other|about)"
# not "messages", which people withdraw, nor "constraints", which are dropped in SQL
_ORDERS = r"(?:instructions?|directions|prompts?|rules|directives?|guidelines?|commands?|orders|programming|training)"
_LIMITS = r"(?:restrictions?|limitations?|limits|filters?|filtering|censorship|constraints|guidelines|rules|safeguards)"
_KINDS = r"(?:any|all|your|the|usual|normal|ethical|moral|legal|safety|content|openai|built-in)"

_ENGLISH = (
    (
        "override",
        rf"\b(?:ignore|disregard|forget|override|overrule|bypass|neglect){_S}"
        rf"(?:{_FILLER}{_S}){{0,4}}(?:{_FORMER}{_S}(?:{_FILLER}{_S}|{_FORMER}{_S}){{0,2}}{_ORDERS}"
        rf"|{_ORDERS}{_S}(?:that{_S}|which{_S}|you{_S}|i{_S}|we{_S}|were{_S}|have{_S}|been{_S}){{0,4}}"
        rf"(?:given|gave|told|above|before|provided|received|so{_S}far)"
        rf"|(?:everything|anything|all|what|whatever){_S}(?:that{_S}|you{_S}|i{_S}|we{_S}|were{_S}|have{_S}|was{_S}|is{_S}"
        rf"|been{_S}){{1,4}}(?:told|said|instructed|written|taught){_S}(?:before|above|earlier|previously|so{_S}far|until)"
        rf"|everything{_S}(?:above|before{_S}this))\b",
        "ignore disregard forget override overrule bypass neglect",
    ),
    (
        "override.refuse",
        rf"\b(?:do{_S}not|don't|stop){_S}(?:obey|obeying|follow|following){_S}(?:{_FILLER}{_S}){{0,3}}"
        rf"{_FORMER}{_S}(?:{_FORMER}{_S})?{_ORDERS}\b",
        "obey follow",
    ),
    (
        "override.new",
        rf"\b(?:your{_S}(?:new|real|true|actual|updated){_S}(?:instructions{_S}are|task{_S}is{_S}now|role{_S}is{_S}now)"
        rf"|(?:new|updated){_S}system{_S}(?:prompt|instructions?)\s?:)",
        "instructions task role system",
    ),
    (
        "persona",
        rf"\byou{_S}(?:are|will{_S}be|shall{_S}be|must{_S}be|will{_S}act{_S}as|act{_S}as){_S}(?:now{_S}|going{_S}to{_S}be{_S}|"
        rf"from{_S}now{_S}on{_S}){{0,2}}(?:an?{_S})?(?:jailbroken|unrestricted|unfiltered|uncensored|unaligned|evilbot"
        rf"|chaosgpt|do{_S}anything{_S}now)\b",
        "jailbroken unrestricted unfiltered uncensored unaligned evilbot chaosgpt anything",
    ),
    (
        "persona.act",
        rf"\b(?:act|behave|respond|answer|reply|pretend{_S}to{_S}be|pretend{_S}you{_S}are|roleplay|role-play|simulate)"
        rf"{_S}(?:as{_S}|like{_S})?(?:if{_S}you{_S}(?:are|were){_S})?(?:an?{_S})?(?:jailbroken|unrestricted|unfiltered"
        rf"|uncensored|unaligned){_S}(?:ai|assistant|model|chatbot|bot|llm|gpt|version|language{_S}model)\b",
        "jailbroken unrestricted unfiltered uncensored unaligned",
    ),
    (
        "persona.mode",
        rf"\b(?:(?:enter|enable|activate|switch{_S}to|switch{_S}into|turn{_S}on|you{_S}are{_S}in|you{_S}are{_S}now{_S}in){_S}"
        rf"(?:dan|god|jailbreak|jailbroken|unrestricted|sudo){_S}mode|(?:you{_S}are{_S}now{_S}in|simulate){_S}developer{_S}mode"
        rf"|jailbreak{_S}mode{_S}(?:on|enabled|activated)|chatgpt{_S}with{_S}developer{_S}mode)\b",
        "mode",
    ),
    (
        "limits",
        rf"\b(?:act|answer|behave|operate|reply|respond|speak|talk|write){_S}(?:to{_S}me{_S}|freely{_S}|to{_S}everything{_S}){{0,2}}"
        rf"without{_S}(?:{_KINDS}{_S}){{0,3}}(?:{_LIMITS}|refusing|(?:moral|ethical|safety){_S}(?:concerns|considerations))"
        rf"(?:{_S}or{_S}(?:{_KINDS}{_S}){{0,2}}{_LIMITS})?",
        "without",
    ),
    (
        "limits.off",
        rf"\b(?:ignore|bypass|disable|disregard|override|remove|turn{_S}off|switch{_S}off|forget){_S}(?:all{_S}(?:of{_S})?)?your{_S}"
        rf"(?:{_KINDS}{_S}){{0,3}}(?:{_LIMITS}|policies|policy|guardrails|programming|alignment|instructions|training)\b",
        "your",
    ),
    (
        "limits.none",
        rf"\byou{_S}(?:(?:now{_S})?have{_S}no|are{_S}(?:now{_S})?(?:free{_S}from|freed{_S}from|no{_S}longer{_S}bound{_S}by|not{_S}bound"
        rf"{_S}by)){_S}(?:{_KINDS}{_S}){{0,3}}(?:{_LIMITS}|policies|policy|rules)\b",
        "you",
    ),
    (
        "prompt_leak",
        rf"\b(?:reveal|show|print|repeat|output|display|tell|give|leak|dump|expose|share|disclose|recite|write|send|list|return"
        rf"|summarize|translate|what{_S}is|what's|what{_S}are){_S}(?:me{_S}|us{_S}|out{_S}|verbatim{_S}|all{_S}|of{_S}|back{_S}){{0,3}}"
        rf"(?:your{_S}(?:(?:full|entire|complete|exact|own|secret|hidden|initial|original|internal|confidential|current){_S}){{0,3}}"
        rf"(?:system{_S}(?:prompts?|messages?|instructions?)|(?:pre-?prompt|preamble|developer{_S}message)|(?:secret|hidden|initial"
        rf"|original|internal|confidential){_S}(?:prompts?|instructions?|rules|guidelines))"
        rf"|your{_S}(?:(?:full|entire|complete|exact|secret|hidden|initial|original|internal|confidential){_S}){{1,3}}"
        rf"(?:prompts?|instructions?))\b",
        "prompt instruction message preamble rules guidelines",
    ),
    (
        "prompt_leak.above",
        rf"\b(?:repeat|print|output|reproduce|copy|recite|display){_S}(?:me{_S}|back{_S}|verbatim{_S}|exactly{_S}){{0,2}}"
        rf"(?:everything|all{_S}(?:of{_S})?(?:the{_S})?(?:text|words|instructions|content)|the{_S}(?:text|words|instructions|prompt"
        rf"|message|system{_S}prompt|content)){_S}(?:that{_S}(?:is|are|was|were){_S}|written{_S}){{0,2}}above\b",
        "above",
    ),
    (
        "template",
        r"<\|im_start\|>\s?(?:system|assistant|user)|<\|start_header_id\|>\s?(?:system|assistant|user)|<<sys>>"
        r"|\[/?inst\]|<\|(?:system|assistant|endoftext|eot_id)\|>|</?system_prompt>",
        "im_start start_header_id <<sys>> inst] <|system|> <|assistant|> <|endoftext|> <|eot_id|> system_prompt>",
    ),
)

# "ignore (all) previous instructions", and "show (me) your system prompt"
_OTHER_LANGUAGES = (
    (
        "override.de",
        rf"\b(?:ignoriere?n?|vergiss|vergesse?n?|missachte){_S}(?:sie{_S}|bitte{_S}|alle{_S}|alles?{_S}|die{_S}|deine{_S}|ihre{_S}"
        rf"|meine{_S}|sämtliche{_S}){{0,3}}(?:bisherigen|vorherigen|vorigen|vorhergehenden|obigen|früheren|ursprünglichen){_S}"
        rf"(?:anweisung|instruktion|befehl|regel|vorgabe|prompt)e?n?s?\b",
        "ignorier vergiss vergess missachte",
    ),
    (
        "override.fr",
        rf"\b(?:ignore[zr]?|oublie[zr]?){_S}(?:toutes{_S}|tous{_S}|les{_S}|tes{_S}|vos{_S}|ces{_S}){{0,3}}"
        rf"(?:instructions|consignes|directives|règles|ordres){_S}(?:qui{_S})?(?:précédente?s?|antérieure?s?|ci-dessus|initiales"
        rf"|données)",
        "ignore oublie",
    ),
    (
        "override.es",
        rf"\b(?:ignora|ignore|ignorar|olvida|olvide|olvidar|omite){_S}(?:todas{_S}|todos{_S}|las{_S}|los{_S}|tus{_S}|sus{_S}){{0,3}}"
        rf"(?:instrucciones|indicaciones|órdenes|reglas|directrices){_S}(?:anteriores|previas|previos|iniciales|de{_S}arriba)",
        "ignor olvid omite",
    ),
    (
        "override.zh",
        "(?:忽略|无视|無視|忘记|忘掉|不要理会)(?:掉|你|您|我|们|所有|全部|一切|之前|以前|以上|先前|上面|上述|此前|前面|任何|系统|的|給|给){1,8}"
        "(?:指令|指示|提示|规则|規則|命令|说明|设定|要求)",
        "忽略 无视 無視 忘记 忘掉 不要理会",
    ),
    (
        "override.ru",
        rf"(?:игнорируй|проигнорируй|забудь|отбрось)(?:те)?{_S}(?:все{_S}|свои{_S}|твои{_S}|мои{_S}){{0,3}}"
        rf"(?:предыдущие|прежние|прошлые|вышеуказанные|исходные){_S}(?:инструкции|указания|команды|правила|сообщения)",
        "игнорируй забудь отбрось",
    ),
    (
        "prompt_leak.other",
        rf"\b(?:zeige?|nenne?|verrate?|gib){_S}(?:mir{_S})?(?:deinen|den|ihren){_S}system-?[ ]?prompt"
        rf"|\b(?:montre|affiche|révèle|donne)(?:z)?(?:-moi)?{_S}(?:ton|votre){_S}(?:prompt|invite){_S}(?:système|initiale?)"
        rf"|\b(?:muestra|muéstrame|revela|dime){_S}(?:tu|su|el){_S}prompt{_S}(?:del?{_S})?(?:sistema|inicial)"
        rf"|(?:显示|输出|告诉我|重复|打印|透露)(?:你|您)的(?:系统|初始)(?:提示|指令)"
        rf"|(?:покажи|выведи|раскрой){_S}(?:мне{_S})?(?:свой|твой){_S}системный{_S}промпт",
        "prompt invite 提示 指令 промпт",
    ),
)


# The names of jailbreaks are given names too, so case counts here.
_NAMES = Rule(
    "injection.persona.name",
    r"\b(?:[Yy]ou(?:'re| are| will be| will act as)|YOU ARE|[Aa]ct as|ACT AS|[Pp]retend (?:to be|you are)|PRETEND TO BE"
    r"|[Rr]espond as)(?: now| going to be| NOW| GOING TO BE){0,2}(?: an?)? [\"'*]{0,3}(?:DAN|STAN|AIM|DUDE)\b",
    type="PERSONA",
    keywords=("dan", "stan", "aim", "dude"),
)


def rules() -> list[Rule]:
    """The rules that find phrases of prompt injection.

    >>> [rule.id for rule in rules() if rule.id.startswith("injection.prompt_leak")]
    ['injection.prompt_leak', 'injection.prompt_leak.above', 'injection.prompt_leak.other']
    """
    return [
        Rule(
            f"injection.{name}",
            f"(?i)(?:{pattern})",
            type=name.partition(".")[0].upper(),
            keywords=tuple(keywords.split()),
        )
        for name, pattern, keywords in (*_ENGLISH, *_OTHER_LANGUAGES)
    ] + [_NAMES]
