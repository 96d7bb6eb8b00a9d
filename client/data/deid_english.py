"""English rules of de-identification: names after titles and labels, dates, telephones, records, addresses.

They read the text's shadow, in which letters have no accents and digits are 0 to 9, so that ``Müller`` and
``５５５-０１４２`` are found like ``Muller`` and ``555-0142``; capitalised words with letters that English lacks are
names too, and letters of other scripts go.
"""

import re

from fedward.client.data.spans import Found, Scrubbed
from fedward.client.data.text import shadow

TITLE = r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Drs|Prof|Doctor|Professor|Nurse|Rev|Sr)"
_MIDDLE = r"(?:(?:da|de|del|der|di|la|le|van|von|bin|al|el)[ \t]+){1,2}"
_NOT_A_NAME = (
    r"(?:The|This|That|There|These|They|He|She|His|Her|It|Is|In|On|At|For|To|Of|Not|No|None|Was|Were|Will|With|Who|And|"
    r"As|Has|Had|Denies|Denied|Reports|States|Unknown|Deferred|Pending|Unable|Unclear|Precautions?|Isolation"
    r"|Information|"
    r"Number|Phone|Service|Team|Note|Notes|Date|Time|Family|Medical|Medicine|Surgery|Surgical|Cardiology|Neurology|"
    r"Oncology|Nephrology|Renal|Internal|Emergency|Hospital|Clinic|Department|Name|Signature|Address|Relationship|"
    r"Alert|Awake|Stable|Critical|Male|Female|Resting|Patient|Pt|Also|Type|Age|Aged|Deceased|Died|Living|Alive|Healthy|"
    r"Diabetes|Cancer|Hypertension|Stroke|COPD|CAD|CHF|HTN|DM|MI|Breast|Colon|Lung|Dermatitis|Lenses|Allergy)"
)
_WORD = rf"(?!{TITLE}\b)[A-Z][a-zA-Z'’\-]+"
_NAME_WORD = rf"(?!{_NOT_A_NAME}\b){_WORD}"
NO_DISEASE = (
    r"(?!['’]?s?[ \t]+(?:[a-z]+[ \t]+)?(?:disease|syndrome|sign|palsy|lymphoma|dementia|catheter|tube|scor(?:e|ing)"
    r"|scale|"
    r"o?esophagus|contracture|fracture|disorder|sarcoma|an(?:a)?emia|ulcer|thyroiditis|chorea|phenomenon|reflex|"
    r"test|criteria|drain|precautions|lenses|isolation|dermatitis)\b)"
)
_NAME = (
    rf"(?:{_NAME_WORD}|[A-Z]\.)(?:(?:[ \t]+|(?<=\.)){_MIDDLE}{_NAME_WORD}|[ \t]+(?:{_NAME_WORD}|[A-Z]\.)"
    rf"|(?<=\.){_NAME_WORD}){{0,2}}\b{NO_DISEASE}"
)
_NO_ACRONYM = r"(?![A-Z]{2,3}\b(?!,)|[A-Z]+-)"
_FULL_NAME = rf"{_NAME_WORD}(?:[ \t]+[A-Z]\.?)?[ \t]+(?:{_MIDDLE})?{_NAME_WORD}"

_MONTH_NAMES = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December", "Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sept", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_LOWER = (name.lower() for name in _MONTH_NAMES if name not in ("May", "March", "Mar"))  # verbs, and an abbreviation
_MONTH = rf"(?:(?:{'|'.join((*_MONTH_NAMES, *map(str.upper, _MONTH_NAMES), *_LOWER))})(?![A-Za-z])\.?)"
_M, _D = r"(?:1[0-2]|0?[1-9])", r"(?:[12]\d|3[01]|0?[1-9])"
_DAY = rf"{_D}(?:[ ]?(?:st|nd|rd|th))?"
_DAYS = rf"{_DAY}(?:[ ]?(?:-|to|and|&)[ ]?{_DAY})?"
_YEAR = r"(?:1[89]|2\d)\d\d"
_SHORT_YEAR = rf"(?:{_YEAR}|'\d\d|\d\d(?=[ \t]*(?:[.,;:)\n]|$)))"
_SLASHED = rf"(?:{_M}[\-/]{_D}|{_D}[\-/]{_M})[\-/](?:{_YEAR}|'?\d\d)"
_CLOCK = r"(?:T\d\d:?\d\d(?::?\d\d)?(?:\.\d+)?Z?)?"
_STRENGTH = (
    r"(?![ ]?(?:\d|/|%|\.\d|NS\b|normal|saline|strength|tab|dose|of\b|power|pills?|mg|m[lL]\b|hours?|days?|nights?"
    r"|units?))"
)
_SINCE = (
    r"(?:on|since|from|until|till|dated|admitted|discharged|seen|by|before|after|starting|started|ending|through|due|"
    r"visit|week of|date:?|dob:?|DOB:?|Date:?|On|Since|From|Admitted|Discharged)"
)
_STREET = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Place|Pl|Terrace|Ter|Square|Sq|"
    r"Circle|Cir|Highway|Hwy|Parkway|Pkwy|Crescent|Cres|Close|Gardens|Grove|Hill|Row|Trail|Trl|Alley|Loop|Mews|Walk"
    r"|Route|Rte|Broadway)"
)
_STATE = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]"
    r"|W[AIVY])"
)
_STATE_NAMES = (
    r"(?:Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho"
    r"|Illinois|"
    r"Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri"
    r"|Montana|"
    r"Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|"
    r"Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|"
    r"West Virginia|Wisconsin|Wyoming|Mass\.?|Calif\.?|Penn\.?|Conn\.?|Fla\.?|Mich\.?|Minn\.?|Wash\.?|Tenn\.?)"
)
_ZIP = r"\d{5}(?:[\- ]\d{4})?(?![\d\-])"
_LABEL = (
    r"\b(?:(?:patient|pt|last|first|full|given|family|middle|maiden)?[ ]?(?:sur)?name|attending(?: physician)?"
    r"|provider|"
    r"(?:electronically )?signed(?: by)?|dictated by|reviewed by|transcribed by|performed by|referred by|seen by|"
    r"next of kin|emergency contact|pcp|contact|surgeon|anesthesiologist|guardian|proxy|witness|dear|cc:)"
)
_FAMILY = (
    r"wife|husband|spouse|daughter|son|mother|father|brother|sister|niece|nephew|partner|friend|grandson|granddaughter|"
    r"grandmother|grandfather|aunt|uncle|cousin|caregiver|neighbor|neighbour|fiancee?|boyfriend|girlfriend"
)
_CREDENTIAL = r"(?:M\.?D|R\.?N|N\.?P|D\.?O|Ph\.?D|PA-?C|LPN|CRNA|MBBS|FRCP|FACS|MSW|LCSW|PharmD|RPh|DPT|APRN)\b"
_YEARS_OLD = r"[ \-]?(?:years?|yrs?|y)?[ \-/.]?(?:old|of age|o)\b"
_OLD = r"(?:9\d|1[0-2]\d)"

# Labels that mean an identifier by themselves, and words that do with "number", "no." or "ID" after them.
_RECORD = (
    r"MRN|MR[ ]?#|med(?:ical)?\.?[ ]rec(?:ord)?s?\.?|(?:hospital |medical )?record(?= ?(?:no|num|#|id))|acct\.?"
    r"|account|accession|"
    r"passport|NPI|DEA|CSN|FIN|HICN|MBI|NHS|SSN|SS[ ]?#|social security|soc\.?[ ]sec\.?|medicare|medicaid|policy"
    r"|member|subscriber|beneficiary|"
    r"driver'?s?'?[ ]licen[cs]e|licen[cs]e[ ]plate|vehicle|VIN|health[ ](?:plan|card)|insurance"
)
_WEAK = (
    r"unit|chart|hospital|patient|pt|case|encounter|visit|admission|episode|group|claim|licen[cs]e|plate|sample"
    r"|specimen|serial|"
    r"device|implant|pacemaker|certificate|registration|reference|ref|file|order|lab|request|badge|employee|staff|"
    r"card|study|prescription|rx|referral|invoice|receipt|document|tracking|identification|national|tax|student|bed"
    r"|confirmation"
)
_NUMBER_WORD = r"(?:number|numbers|nos?\b\.?|num\.?|#|I\.?D\.?\b|code|identifier|S/N|s/n)"
_LINK = r"(?:[ \t]*(?:[:#.=]|is\b|was\b|-(?=[ \t])))*[ \t]*"
_VALUE = r"(?=[A-Z0-9\-/.]*\d[A-Z0-9\-/.]*\d[A-Z0-9\-/.]*\d)[A-Z0-9]+(?:[\-/.][A-Z0-9]+)*\b"
_SPACED = r"\d{3}[ ]\d{3}[ ]\d{4}|\d{3}[ ]\d{2}[ ]\d{4}|\d{4}[ ]\d{4}[ ]\d{4}(?:[ ]\d{4})?|\d{2}[ ]\d{2}[ ]\d{2}\b"

_AMOUNT = (
    r"(?![ ]?(?:m[lLgG]|mcg|[npmu]g|g|kg|cc|IU|[uU]nits?|copies|cells|k?cal|min(?:utes?)?|h(?:ours?|rs?)?"
    r"|sec(?:onds?)?|days?|weeks?|"
    r"months?|years?|mm|cm|m|mmHg|Hz|K|patients|subjects|steps|x[ ]?10)\b|[ ]?[/%×])"
)
_EXTENSION = r"(?:[ ,]*(?:x|ext\.?|extension)[ ]?\d{2,6}\b)?"
_PHONE_LABEL = r"\b(?:tele)?phone|\btel|\bph|\bfax|\bpager|\bbeeper|\bbleep|\bpgr|\bmobile phone|\bcell phone"
_DIGITS = r"\+?\(?\d(?:[ .\-/()]{0,2}\d)"

PATTERNS = {
    "MASKED": r"(?s)\[\*\*.*?\*\*\]",
    "EMAIL": (
        r"[\w.+%'\-]*[\w+%\-]\s?@\s?[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+"
        r"|(?i:[\w.+%\-]+\s*[(\[{<]\s*(?:at|@)\s*[)\]}>]\s*[a-z0-9\-]+(?:(?:\.|\s*[(\[{<]\s*(?:dot|\.)\s*[)\]}>]\s*"
        r"|\s+dot\s+)[a-z0-9\-]+)+"
        r"|[\w.+%\-]+\s+at\s+[a-z0-9\-]+(?:(?:\s+dot\s+|\.)[a-z0-9\-]+)*(?:\s+dot\s+)[a-z]{2,}\b"
        r"|[\w.+%\-]+\s+at\s+[a-z0-9\-]+(?:\.[a-z0-9\-]+)*\.(?:com|org|net|edu|gov|example)\b)"
    ),
    "URL": r"(?i)\b(?:https?://|ftp://|www\.)[^\s,;]+",
    "IP": (
        r"(?<![\d.])(?<!EC )(?=[\d.]*\d\d)(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)"
        r"|\b(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}\b|\b(?:[0-9A-Fa-f]{2}[:\-]){5}[0-9A-Fa-f]{2}\b"
    ),
    "SSN": r"(?<![\d\-])\d{3}-\d{2}-\d{4}[A-Z]?(?![\d\-])|(?<![\w\-])(?:XXX|xxx|\*{3})-(?:XX|xx|\*\*)-\d{4}\b",
    "MRN": (
        rf"(?i)\b(?:{_RECORD})(?:[ \t]*(?:{_NUMBER_WORD}|card|security|plan)){{0,3}}{_LINK}(?P<id>{_SPACED}|{_VALUE})"
        rf"|\b(?:{_WEAK})[ \t]*{_NUMBER_WORD}{_LINK}(?P<id2>{_SPACED}|{_VALUE})"
        rf"|\b(?:I\.?D\.?|S/N)[ \t]*(?:{_NUMBER_WORD})?[ \t]*[:#]+[ \t]*(?P<id3>{_SPACED}|{_VALUE})"
    ),
    "DATE": (
        rf"(?<!\d){_YEAR}([\-/.]){_M}\1{_D}(?!\d){_CLOCK}"
        rf"|(?<![\d/.\-]){_SLASHED}(?:[ ]?-[ ]?{_SLASHED})?(?![\d/]|[\-.]\d)"
        rf"|(?<![\d/.\-])(?:{_D}\.{_M}|{_M}\.{_D})\.(?:{_YEAR}|\d\d)(?![\d/]|[\-.]\d)"
        rf"|(?<![\d/.\-]){_M}[/\-](?:19|20|21)\d\d(?![\d/]|[.\-]\d)"
        rf"|(?<![\w.]){_DAYS}[ \t\-/.]*(?:of[ \t]+|day[ \t]+of[ \t]+)?{_MONTH}[ \t\-/.,]*{_SHORT_YEAR}(?![\w])"
        rf"|(?<![\w.]){_DAYS}[ \t\-]+(?:day[ \t]+)?(?:of[ \t]+)?{_MONTH}(?!\w)"
        rf"|\b(?:{_YEAR}[ \t]+)?{_MONTH}[ \t\-/.]*(?:the[ \t]+)?{_DAYS}(?:(?:[ \t]*,[ \t]*"
        rf"|[ \t\-/]+){_SHORT_YEAR}(?!\w))?(?![\w%]|\.\d|:\d)"
        rf"|\b{_MONTH}[ \t\-/,]*(?:of[ \t]+)?(?:{_YEAR}|'\d\d)\b"
        rf"|(?<![\w.])\d\d-{_MONTH}\b"
        rf"|\b{_SINCE}[ \t]+(?P<id>{_M}/{_D}(?:[ ]?(?:-|to|through|and)[ ]?{_M}/{_D})?)\b{_STRENGTH}"
        rf"|(?<!\d)(?:19|20|21)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"
    ),
    "PHONE": (
        rf"(?i:{_PHONE_LABEL})(?:[ ]?(?:number|no\.?|#))?[ \t]*(?:is\b"
        rf"|[:.#=])*[ \t]*(?P<id>{_DIGITS}{{3,15}}{_EXTENSION})(?!\d)"
        r"|(?i:\b(?:mobile|cell|call(?: back)?|callback|contact|number|dial|reached at|text|whatsapp|home|work"
        r"|office))(?:[ ]?(?:number|no\.?|#|phone|at|on|to))*"
        rf"[ \t]*[:.#=]?[ \t]*(?P<id3>{_DIGITS}{{6,15}}{_EXTENSION})(?!\d)"
        r"|(?<![\w+])(?=\+(?:[ .\-/()]{0,2}\d){8})\+\d{1,3}[ .\-]?(?:\(\d{1,4}\)[ .\-]?)?\d{1,5}"
        rf"(?:[ .\-/]?\d{{1,5}}){{1,5}}(?!\d){_EXTENSION}"
        r"|(?<![\w.\-/])(?:\+?\d{1,3}[ .\-]?)?(?:\(\d{3}\)[ .\-/]{0,2}"
        rf"|\d{{3}}[ ]?[ .\-/][ ]?)\d{{3}}[ ]?[ .\-][ ]?\d{{4}}(?![\d\-]){_AMOUNT}{_EXTENSION}"
        rf"|(?<![\w.\-/])\d{{3}}-\d{{4}}(?![\d\-]|\.\d){_AMOUNT}{_EXTENSION}"
        rf"|(?<![\w.\-/])\(?0\d{{2,4}}\)?[ \-]\d{{3,4}}[ \-]?\d{{3,4}}(?![\d\-]){_EXTENSION}"
        rf"|(?<![\w.\-/])0\d{{3,4}}[ \-]\d{{5,7}}(?![\d\-]){_EXTENSION}"
        rf"|(?<![\w.\-/])(?=(?:\d[ \-]?){{11}})00[ ]?[1-9]\d{{0,2}}(?:[ \-]?\d{{2,5}}){{2,5}}(?![\d\-])"
        r"|(?i:\b(?:pager|ext\.?|extension|beeper)[ \t]*[:#]?[ \t]*(?P<id2>\d{2,6})\b)"
    ),
    "ADDRESS": (
        rf"\b\d{{1,5}}(?:-\d+)?[A-Z]?[ \t]+(?:(?:[NSEW]|[NS][EW])\.?[ \t]+)?(?:(?:{_WORD}|\d{{1,3}}(?:st|nd|rd"
        rf"|th))[ \t]+){{1,3}}{_STREET}\b\.?(?:[ \t]+(?:[NSEW]|[NS][EW])\b)?"
        rf"(?:,?[ \t]*(?:(?:Apt|Unit|Suite|Ste|Flat|Floor|Fl|Room|Rm)\b\.?|#)[ \t]*[\w\-]+)?"
        rf"(?:,[ \t]*{_WORD}(?:[ \t]{_WORD})?)?(?:,?[ \t]*(?:{_STATE}|{_STATE_NAMES})\b(?:[ \t,]+{_ZIP})?)?"
        rf"|\b(?:Apt|Unit|Suite|Flat)\.?[ \t]*\w{{1,5}},[ \t]*\d{{1,5}}[ \t]+(?:{_WORD}[ \t]+){{1,3}}{_STREET}\b"
        rf"|\b(?:{_STATE}|{_STATE_NAMES})[ \t,.]+{_ZIP}"
        r"|(?i:\b(?:zip(?:[ \-]?code)?(?:\+4|[ ]\+4)?|post(?:al)?[ \-]?code|eircode|postcode"
        r"|pin[ \-]?code)[ \t]*(?:[:#.=]|is\b|no\.?|number)*[ \t]*"
        r"(?P<id>(?=[A-Z0-9]*[ \-]?[A-Z0-9]*\d)[A-Z0-9]{3,7}(?:[ \-][A-Z0-9]*\d[A-Z0-9]*"
        r"|[ \-][A-Z]{2}(?![A-Za-z]))?)\b)"
        r"|\b(?i:P\.?[ ]?O\.?[ ]?Box|Post Office Box|Locked Bag|Private Bag|GPO Box)[ \t]*(?:#|no\.?)?[ \t]*\d{1,6}\b"
        r"|(?<![\w\-])(?:[A-Z]{1,2}\d[A-Z\d]?[ ]|[A-Z]{2}\d[A-Z\d])\d[ABD-HJLNP-UW-Z]{2}\b"
        r"|(?<![\w\-])(?!T\d[A-C]?N)[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z][ \-]?\d[ABCEGHJ-NPRSTV-Z]\d\b"
        r"|\b(?:NSW|QLD|VIC|TAS)[ ,]+\d{4}\b|(?<=[a-z],[ ])(?:WA|SA|ACT|NT)[ ]\d{4}\b|\b[A-Z][a-z]+[ ](?P<id2>(?:WA"
        r"|SA|ACT|NT)[ ]\d{4})\b"
        r"|\b(?:A|B|CH|D|F|I|NL)-\d{4,5}(?:[ ](?!The\b)[A-Z][a-z]+)?\b"
        r"|\b[A-Z]\d{2}[ ][A-Z][A-Z0-9]{3}\b"
    ),
    "AGE": (
        rf"(?i)(?<![\w.])(?P<id>{_OLD}){_YEARS_OLD}|(?<![\w.])(?P<id2>{_OLD})[ \-]?(?:yo|y/o|y\.o\.?|yrs?|years"
        r"|year)\b(?![ ](?:ago|later|history))"
        rf"|\bage[d]?(?:[ \t]+(?:is|of))?[ \t:=]+(?P<id3>{_OLD})\b|\b(?:turn(?:ed|ing|s)|just|nearly|almost"
        rf"|reached)[ ](?P<id4>{_OLD})\b(?![ ]?[%/]|\.\d|[ ]?m)"
        rf"|(?<![\w.])(?P<id7>{_OLD})[ ]?[MF]\b(?=,?[ ](?:with|who|w/|admitted|h/o|present|c/o|hx))"
        rf"|\b(?P<id5>{_OLD}(?:st|nd|rd|th))[ ]birthday|(?P<id6>\bninety(?:[ \-](?:one|two|three|four|five|six|seven"
        r"|eight|nine))?|\b(?:one|a)[ ]hundred(?:[ ](?:and[ ])?(?:one|two|three|four|five|six|seven|eight"
        r"|nine))?)[ \-]years?[ \-](?:old|of age)"
    ),
    "NAME": (
        rf"\b{TITLE}\b\.?[ \t]+(?P<id>{_NAME})"
        rf"|(?i:{_LABEL})[ \t]*[:,]?[ \t]+(?P<id2>{_NO_ACRONYM}{_NAME}(?:,[ \t]+{_NAME_WORD}(?:[ \t]+[A-Z]\b\.?)?"
        r"(?=[ \t]*(?:[,.;\n(]|$)))?)"
        rf"|\b(?i:{_FAMILY})[ \t]*[,:(]?[ \t]*(?<=[ (,:\t])(?P<id3>{_NO_ACRONYM}{_NAME})"
        rf"|\b(?P<id4>{_FULL_NAME}),?[ \t]+{_CREDENTIAL}|\b(?P<id5>{_NAME_WORD}),[ \t]*{_CREDENTIAL}(?![ \t]*(?:at"
        r"|notified|aware))"
        rf"|\b(?P<id6>{_FULL_NAME})(?=[ \t]*\((?:(?:his|her|the)[ ])?(?:{_FAMILY})\b)"
        rf"|\b(?i:patient|pt)[ \t]*:[ \t]*(?P<id7>{_FULL_NAME}|{_NAME_WORD},[ \t]+{_NAME_WORD})\b{NO_DISEASE}"
    ),
    "ID": rf"\b(?!NCT)[A-Z]{{0,3}}\d{{7,}}\b(?<!000)(?!\.\d){_AMOUNT}|\b[A-Z]{{1,2}}\d\d-\d{{3,7}}\b(?!-)",
}  # fmt: skip
CLASSES = (*PATTERNS, "SCRIPT")
_RULES = {kind: re.compile(pattern) for kind, pattern in PATTERNS.items()}
_WITHOUT_DIGITS = ("MASKED", "EMAIL", "URL", "NAME", "AGE", "SSN")
_RULES_OF_WORDS = {kind: _RULES[kind] for kind in _RULES if kind in _WITHOUT_DIGITS}
_DIGIT = re.compile(r"\d")

_ALSO_WORDS = """
art back bell best black blood bond booth born boy brown bush care case chase chest child church close cook cross day
dean drew drop early east ely field fine fish flood fox frank free gage good grace grant grave graves gray green grey
hall hand hard heart hill hope joy june april may august king lane law lay light little long love low man mark marsh
moon moore more north old page pain park peace person pool price rich right rise river rose sharp short small snow
south stone strong summer swan sweet temple van wall ward warm waters week west white will winter wise wood woods
young
"""
_ALSO_A_WORD = frozenset(_ALSO_WORDS.split())
"""Surnames and first names that are words of their own: elsewhere in the note they go with a capital only."""

_LETTERS = r"[^\W\d_][\w'’\-\u0300-\u036f]*"
_BLANK = r"[ \t\u00a0]"
_FOREIGN_WORD = re.compile(_LETTERS)
_FOLLOWING = re.compile(rf"(?:{_BLANK}+(?!{TITLE}\b)(?=[A-Z]){_LETTERS}){{1,2}}")
_PRECEDING = re.compile(rf"\b{_WORD},{_BLANK}*$")
_ACCENT = re.compile(r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u036f\u1e00-\u1eff\u2c60-\u2c7f\ua722-\ua7ff]")
_LONGEST_NAME = 40
_NAME_PLACE = re.compile(
    rf"(?:\b{TITLE}\b\.?|(?:{_LABEL})[ \t]*[:,]?|\b(?:{_FAMILY}|nee?)[ \t]*[,:]?)[ \t]+"
    r"(?:(?:da|de|del|der|dos|la|le|van|von)[ \t]+){0,3}$",
    re.IGNORECASE,
)
_LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u02ff\u1e00-\u1eff\u2c60-\u2c7f\ua722-\ua7ff\ufb00-\ufb06\uff21-\uff3a\uff41-\uff5a"
_OTHER_SCRIPT = re.compile(rf"(?:(?![{_LATIN}])[^\W\d_])+")
_SYMBOL = re.compile(r"[µΩ\u0370-\u03ff]")
_EPONYM = re.compile(
    r"(?:(?:guillain-)?barré|alström|löwenstein(?:-jensen)?|behçet|brown-séquard|déjérine|fiancée?|née?|protégée?"
    r"|hürthle|lasègue|löfgren|"
    r"ménière|ménétrier|mönckeberg|müllerian|naïve|naïveté|(?:henoch-)?schönlein(?:-henoch)?|sézary"
    r"|(?:anti-)?sjögren|waldenström)(?:['’]s)?",
    re.IGNORECASE,
)
"""Words with accents that medical English writes with a capital or beside a name and that are no patient's name."""


def scrub(text: str) -> Scrubbed:
    """Replaces identifiers of English text, in normal form C, by their class; a name wherever its words occur again."""
    found = Found(text)
    found.add_all(_RULES if _DIGIT.search(found.plain) else _RULES_OF_WORDS)
    if not found.text.isascii():
        _add_foreign_names(found)
    _add_names_again(found)
    if not found.text.isascii():
        _add_other_scripts(found)
    return found.scrubbed()


def _add_names_again(found: Found) -> None:
    """Adds the words of found names wherever they occur, unless an illness has that name too."""
    for word in sorted({word for name in found.names() for word in re.findall(r"[A-Za-z'’\-]{3,}", name)}):
        also = word.lower() in _ALSO_A_WORD
        ending = NO_DISEASE if word[0].isupper() else ""
        for match in re.finditer(rf"\b{re.escape(word)}\b{ending}", found.plain, 0 if also else re.IGNORECASE):
            found.add("NAME", *match.span())


def _add_foreign_names(found: Found) -> None:
    """Adds capitalised words with Latin letters beyond a to z, and the capitalised words that go with them.

    Where a name is expected, and after such a word, small letters will do.
    """
    rest, last = found.rest(), 0
    for match in _FOREIGN_WORD.finditer(rest):
        word, (start, end) = match.group(), match.span()
        if not _ACCENT.search(word) or _EPONYM.fullmatch(word) or _OTHER_SCRIPT.match(word):
            continue
        if not word[0].isupper() and not _in_name_place(rest, last, start):
            continue
        before, after = _PRECEDING.search(rest, max(0, start - _LONGEST_NAME), start), _FOLLOWING.match(rest, end)
        start = max(last, before.start() if before and before.start() >= last else start)
        end = after.end() if after else end
        if start < end:
            found.add_in_text("NAME", start, end)
            last = end


def _in_name_place(rest: str, last: int, start: int) -> bool:
    """Whether a name is expected at ``start``: after a title, label, family word, or a name that ended at ``last``."""
    if last and re.fullmatch(f"{_BLANK}+", rest[last:start]):
        return True
    return _NAME_PLACE.search(shadow(rest[max(0, start - _LONGEST_NAME) : start])[0]) is not None


def _add_other_scripts(found: Found) -> None:
    """Adds every run of letters of another script but single Greek letters: no rule here knows a name in it."""
    for match in _OTHER_SCRIPT.finditer(found.rest()):
        if any(map(str.isalpha, match.group())) and not _SYMBOL.fullmatch(match.group()):
            found.add_in_text("SCRIPT", *match.span())
