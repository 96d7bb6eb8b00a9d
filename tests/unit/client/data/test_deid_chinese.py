"""Safe Harbor classes on invented Chinese text: what must go, what must stay."""

from __future__ import annotations

import pytest

from fedward.client.data.deid import has_rules, rules_for, without_tags
from fedward.client.data.deid_chinese import scrub


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("患者钱大川，男，61岁", "患者[NAME]，男，61岁"),
        ("姓名：尤小兰 性别：女", "姓名：[NAME] 性别：女"),
        ("沈默然，女，33岁。沈默然诉头痛", "[NAME]，女，33岁。[NAME]诉头痛"),
        ("请曹主任会诊，许建华医生已阅", "请[NAME]主任会诊，[NAME]医生已阅"),
        ("记录者：邹敏/彭刚", "记录者：[NAME]/[NAME]"),
        ("其子司马文陪同，31床袁野", "其子[NAME]陪同，[MRN]床[NAME]"),
        ("姓名：阿依古丽·买买提", "姓名：[NAME]"),
        ("身份证号：110105194912310021", "身份证号：[CARD]"),
        ("身份证11010519491231003x，旧号110105491231002", "身份证[CARD]，旧号[CARD]"),
        ("手机139 1234 5678或１３９１２３４５６７８", "手机[PHONE]或[PHONE]"),
        ("电话：0571-88001234转8012", "电话：[PHONE]"),
        ("住院号：ZY0098123，12床", "住院号：[MRN]，[MRN]床"),
        ("病理号S2024-0912，车牌浙A·12345", "病理号[MRN]，车牌[MRN]"),
        ("微信：lan_88，QQ号 88001234", "微信：[ACCOUNT]，QQ号 [ACCOUNT]"),
        ("邮箱lan@ward.example，邮编：310009", "邮箱[EMAIL]，邮编：[POSTAL]"),
        ("家住浙江省杭州市西湖区文三路9号2幢301室，余无殊", "家住[ADDRESS]，余无殊"),
        ("河北省保定市清苑县大庄镇李家村3组", "[ADDRESS]"),
        ("于2024年3月5日入院，3月7日手术", "于[DATE]入院，[DATE]手术"),
        ("二〇二四年三月五日至三月八日", "[DATE]"),
        ("去年10月起病，2019-07复查，八月十五加重", "[DATE]起病，[DATE]复查，[DATE]加重"),
        ("自3.5入院，6/7复查", "自[DATE]入院，[DATE]复查"),
        ("九十三岁；年龄：101", "[AGE]岁；年龄：[AGE]"),
    ],
)
def test_identifiers_go(text: str, expected: str) -> None:
    assert scrub(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "血压150/95mmHg，肌力4/5，心率88次/分，体温38.6℃",
        "血钾低于3.1予补钾，HBV-DNA 3200000IU/ml，青霉素320万单位",
        "母亲高血压，父亲白血病，患者黄疸，患者高热",
        "予安定5mg、万古霉素0.5g、金水宝、白芍、龙胆泻肝丸",
        "霍奇金淋巴瘤，柯萨奇病毒，毛细支气管炎，石膏固定",
        "病史10年3月余，近5月加重，3月龄，术后第2天，每日3次",
        "心前区无隆起，静脉通路2条，由于某种原因，卧床3天，去医院检查医生说正常",
        "89岁，2024年起病，C5-C6椎体，T2N1M0期",
    ],
)
def test_clinical_facts_stay(text: str) -> None:
    assert scrub(text).text == text


def test_rules_are_found_by_language_and_their_tags_leave_the_text() -> None:
    assert has_rules("zh-Hans-CN")
    assert rules_for("zh") is scrub
    assert without_tags("患者[NAME]，[CARD]，[POSTAL]").split() == ["患者", "，", "，"]


def test_a_masked_text_is_masked_once() -> None:
    masked = scrub("患者钱大川，男，住院号：ZY0098123，手机13912345678，2024年3月5日入院，家住西湖区文三路9号。").text
    assert scrub(masked).text == masked
