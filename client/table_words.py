"""Words by which columns of hospitals' tables are recognised, for drafts of mapping files; see ``mapping_draft.py``.

Headers are compared without blanks, marks and accents, in small letters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

ROLES: Mapping[str, tuple[str, ...]] = {
    key: tuple(words.split())
    for key, words in {
        "person": "subjectid patientid personid patient patid patnr patientennummer patientnr mrn uniquepid idpaciente "
        "ipp idpatient 患者id 病人id 患者编号 病人编号",
        "admission": "hadmid admissionid encounterid visitid visitoccurrenceid case casenr caseid fallnr fallid "
        "fallnummer fall episodeid aufnahmenr numsejour idepisodio 住院号 就诊号 住院次",
        "stay": "icustayid stayid icuid patientunitstayid aufenthalt aufenthaltid unitstay",
        "sex": "sex gender geschlecht sexe sexo geslacht 性别",
        "birth": "dob birthdate dateofbirth birth geburtsdatum gebdatum geburt datenaissance fechanacimiento 出生日期",
        "birth_year": "yearofbirth birthyear geburtsjahr anneenaissance 出生年份",
        "age": "age alter edad leeftijd 年龄",
        "start": "admittime admissiontime admissiondate starttime startdate start intime begin von from aufnahme "
        "aufnahmedatum aufnahmezeit dateentree fechaingreso 入院时间 入院日期 开始时间",
        "end": "dischtime dischargetime dischargedate endtime enddate end outtime bis to entlassung entlassungsdatum "
        "entlassungszeit datesortie fechaalta 出院时间 出院日期 结束时间",
        "died": "hospitalexpireflag died dead deceased verstorben tot exitus expired decede fallecido 死亡",
        "death": "deathtime deathdate dateofdeath dod todeszeitpunkt todesdatum verstorbenam datedeces 死亡时间",
        "destination": "dischargelocation dischargedisposition entlassungsart entlassungsgrund modesortie "
        "destinoalta 离院方式",
        "arrival": "admissiontype aufnahmeart aufnahmegrund modeentree tipoingreso 入院方式",
        "diagnosis": "admissiondiagnosis diagnosis diagnose aufnahmediagnose diagnosticodeingreso 入院诊断",
        "department": "department klinik abteilung fachabteilung service servicio 科室",
        "ward": "firstcareunit careunit ward station unittype unitname",
        "loinc": "loinc loinccode loincnum",
        "code": "itemid code testcode analyt analyte labcode parameter test item itemcode analysencode verfahren "
        "项目代码 检验项目 项目",
        "value": "valuenum value result resultvalue wert ergebnis messwert valeur valor resultado 结果 数值",
        "unit": "valueuom unit units uom einheit unite unidad eenheid 单位",
        "time": "charttime time datetime timestamp zeit zeitpunkt datum date at eventtime collectiontime abnahmezeit "
        "messzeit datehora fecha heure 检验时间 时间 日期",
        "stored": "storetime resulttime reportedtime freigabe freigabezeit validiert 报告时间",
        "text": "text note notetext content freitext bericht befund inhalt texte texto 内容 病历 文本",
        "category": "category notetype doctype dokumenttyp dokumentart art typ kategorie type categorie 类型",
        "icd": "icd icdcode icd9code icd10 icd10code diagnosecode diagnosiscode dxcode 诊断编码",
    }.items()
}
"""What a column holds, in the order in which headers are tried."""

MEASUREMENTS: Mapping[str, tuple[str, ...]] = {
    key: tuple(words.split())
    for key, words in {
        "heart rate": "heartrate hr hf herzfrequenz puls pulse frequencecardiaque 心率",
        "blood pressure": "map mbp meanbp meanarterialpressure mad mitteldruck 平均动脉压",
        "breathing": "rr resprate respiratoryrate atemfrequenz af 呼吸频率",
        "temperature": "temp temperature temperatur 体温",
        "coma scale": "gcs comascale glasgow glasgowcomascale",
        "acidity": "ph arterialph",
        "oxygen pressure": "pao2 po2",
        "carbon dioxide": "paco2 pco2",
        "lactate": "lactate lactat laktat lakt lac 乳酸",
        "creatinine": "creatinine kreatinin krea crea creatinina 肌酐",
        "urea": "bun ureanitrogen",
        "bilirubin": "bilirubin bili bilirubina bilirubine 总胆红素",
        "leukocytes": "wbc leukocytes leukozyten leuk leukos 白细胞",
        "platelets": "platelets plt thrombozyten thro plaquettes plaquetas 血小板",
        "hemoglobin": "hemoglobin haemoglobin hb hgb hamoglobin hemoglobina 血红蛋白",
        "hematocrit": "hematocrit hct hkt hamatokrit",
        "sodium": "sodium na natrium sodio 钠",
        "potassium": "potassium k kalium potasio 钾",
        "bicarbonate": "bicarbonate hco3 bikarbonat",
        "glucose": "glucose glukose gluc glu bz glucosa 葡萄糖",
        "albumin": "albumin alb albumina 白蛋白",
    }.items()
}
"""Names of measurements, by what laboratories and bedside charts call them."""

SEXES = {"male": ("m", "male", "mann", "mannlich", "h", "homme", "hombre", "男"),
         "female": ("f", "female", "w", "weiblich", "frau", "femme", "mujer", "v", "女")}  # fmt: skip
FLAGS = {"true": ("ja", "j", "yes", "y", "oui", "si", "x", "是"), "false": ("nein", "n", "no", "non", "否")}
NOTE_KINDS = {
    "nursing": ("nursing", "pflege", "pflegebericht", "nursingnote", "护理记录"),
    "physician": ("physician", "arzt", "arztnotiz", "visite", "progressnote", "physiciannote"),
    "radiology": ("radiology", "radiologie", "rontgen", "放射"),
    "respiratory": ("respiratory", "atemtherapie"),
    "discharge summary": ("dischargesummary", "arztbrief", "entlassbrief", "entlassungsbrief", "出院小结"),
}
PLACES = {
    "home": ("home", "nachhause", "domicile", "domicilio", "zuhause"),
    "facility": ("snf", "pflegeheim", "rehab", "reha", "skillednursingfacility"),
    "died": ("died", "dead", "deadexpired", "expired", "verstorben", "tod", "deces", "exitus", "死亡"),
}


def plain(word: str) -> str:
    """A word without blanks, marks and accents, in small letters."""
    letters = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in letters if letter.isalnum())


def meaning(word: str, words: Mapping[str, tuple[str, ...]]) -> str | None:
    """The key of ``words`` that one of its words stands for; None where none does."""
    asked = plain(word)
    return next((key for key, known in words.items() if asked in known), None)
