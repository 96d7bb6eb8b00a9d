"""The tokenizer of the packaged decoder: byte-level BPE (Sennrich et al. 2016, Radford et al. 2019).

Every text can be written with it, because every byte is an entry. Beside the words of the notes it has frequent English
words and frequent Chinese characters whole, so that other texts do not become long rows of bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_ID, START_ID, CLOSE_ID = range(len(SPECIAL_TOKENS))
MOST_ENTRIES = 4096
_REPEATED = 20  # how often a word or character of the lists below is shown to the trainer

COMMON_WORDS = (
    "the of and to in is that for it was on are as with be at by this have from or one had not but what all were "
    "when we there can an your which their said if do will each about how up out them then she many some so these "
    "would other into has more her two like him see time could no make than first been its who now people my made "
    "over did down only way find use may water long little very after words called just where most know get through "
    "back much before go good new write our used me man too any day same right look think also around another came "
    "come work three word must because does part even place well such here take why things help put years different "
    "away again off went old number great tell men say small every found still between name should home big give "
    "air line set own under read last never us left end along while might next sound below saw something thought "
    "both few those always looked show large often together asked house world going want school important until "
    "form food keep children feet land side without boy once animal life enough took sometimes four head above kind "
    "began almost live page got earth need far hand high year mother light country father let night picture being "
    "study second soon story since white ever paper hard near sentence better best across during today however sure "
    "knew try told young sun thing whole hear example heard several change answer room sea against top turned learn "
    "point city play toward five himself usually patient patients hospital doctor treatment disease symptoms pain "
    "blood heart lung liver kidney cancer drug dose test results history clinical medical care surgery infection "
    "risk therapy diagnosis acute chronic normal severe cause causes people health body cells include common "
    "information called treat condition inherited gene full half wide open free clear early late low rate level "
    "levels team nurse table chair bed floor door car street week month day days months hour hours minute minutes "
    "morning evening night once daily twice weekly left right upper lower front side top bottom inside outside near "
    "far warm cold hot wet dry soft loose tight clean dirty sharp red white black blue green yellow brown round "
    "flat deep thin thick heavy light quick slow fast strong weak safe sick ill pale tired awake asleep alone ready "
    "sure able unable likely unlikely possible usual regular general special certain known unknown new recent "
    "former final total main major minor several single double third quarter number part piece group case reason "
    "question answer problem plan order report record review note letter call visit office service system center "
    "unit ward room area field study trial data model method process control support care needs doing making taking "
    "giving getting going coming seeing looking feeling thinking saying asking telling showing working playing "
    "running walking talking reading writing eating drinking sleeping breathing bleeding moving holding keeping "
    "leaving starting ending staying waiting helping using given taken shown known seen done gone made told held "
    "kept left lost sent brought bought caught found felt stood sat set put cut hit let ran came became began "
    "against among behind below beside between beyond during except inside into onto over past per since throughout "
    "toward under until upon within without although because however therefore thus yet still even ever never often "
    "skin brain bone muscle nerve chest head neck back arm leg hand foot eye ear nose mouth throat stomach bowel "
    "bladder urine stool fluid air water oxygen sugar salt protein fat vitamin iron acid tube line drip pump mask "
    "scan image tumor tumour wound fracture swelling rash cough fever nausea vomiting headache dizziness weakness "
    "fatigue stroke attack failure disorder syndrome virus bacteria vaccine allergy asthma diabetes pregnancy birth "
    "baby infant adult"
)
COMMON_CHARACTERS = (
    "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家"
    "十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从动些现理相意本长明"
    "问力正开外几由把已点应水化高情手特气因第各体每次门老使被间部性比内表金题条数全先结将向物重教代政样思反平路员"
    "病患医药疗诊治痛血心肝肾肺胃肠头眼耳鼻口喉颈胸腹背腰手足腿脚皮肤骨肌脑神经热咳嗽呕吐泻便尿糖压高低急慢性感染"
    "炎癌瘤毒菌素片剂量服注射手术检查验化单片像超声图请问怎么吃检建议注意休息饮食正常异常症状疾孕妇儿童男女岁月周天"
    "早晚前后左右上下轻重度级期型类原因引起导致出现减少增加控制缓解恢复观察需要可能应该避免使用口服每日两三四五六七"
    "八九零百千万无未已曾有否是呼吸困难意识模糊气管插升维持转移衰竭恶黄染良继续完善对平稳危已告知家属会诊特殊不适"
)


def build_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE tokenizer trained on ``texts`` and the lists of this module; the same input gives the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MOST_ENTRIES,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [f" {form}" for word in dict.fromkeys(COMMON_WORDS.split()) for form in (word, word.capitalize())]
    # Each character stands alone, or frequent neighbours would become entries of their own.
    shown = [*words, *dict.fromkeys(COMMON_CHARACTERS)] * _REPEATED
    tokenizer.train_from_iterator([*texts, *shown], trainer)
    # Texts begin with the token that ends them, so that the first word is predicted like every other.
    begin = SPECIAL_TOKENS[END_ID]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, END_ID)])
    return tokenizer
