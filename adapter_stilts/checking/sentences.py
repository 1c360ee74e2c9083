"""Checks of one sentence: its form, its text, its tags, its tree, its spans.

Each function takes a sentence whose lines could all be read and a `say` for what it finds. Inventories and rules are
those of UD v2 (https://universaldependencies.org/guidelines.html).
"""

import re
from collections import Counter
from collections.abc import Sequence

from adapter_stilts.checking.findings import Say
from adapter_stilts.tasks.conllu import CONLLU_COLUMNS, DEPREL, FORM, HEAD, ID, MISC, UPOS, Row, Sentence, misc_values
from adapter_stilts.tasks.formats import UPOS_TAGS


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


RELATIONS = _listed(
    "acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det discourse dislocated expl fixed"
    " flat goeswith iobj list mark nmod nsubj nummod obj obl orphan parataxis punct reparandum root vocative xcomp"
)
ENTITY_TYPES = ("PER", "LOC", "ORG")
SEMANTIC_TAGS = _listed("NAM OBJ HUM PLC ABS TIM QUA ACT STA MOD ATT REF REL DIS PUN")
ENTITY_KEY, SEMANTIC_KEY = "Entity", "Sem"
_SHOWN = 24  # characters of a text around the place where it differs


def check_form(sentence: Sentence, say: Say) -> None:
    """Comments before the words, a value in every column, MISC, ranges and empty nodes where they belong."""
    first = sentence.words[0][0] if sentence.words else None
    for line, _ in sentence.comments:
        if first is not None and line > first:
            say(line, "comment", "found a comment after a word, accepted comments before a sentence's words")
    if first is None:
        say(sentence.line, "comment", "found no word, accepted one or more after the comments")
    for line, fields in sorted([*sentence.words, *sentence.others]):
        for name, value in zip(CONLLU_COLUMNS, fields, strict=True):
            if not value:
                say(line, "empty", f"found nothing in {name.upper()}, accepted a value or _")
            elif value != value.strip():
                say(line, "empty", f"found blanks around {value!r} in {name.upper()}, accepted none")
        _check_misc(line, fields[MISC], say)
    _check_others(sentence, say)


def _check_misc(line: int, misc: str, say: Say) -> None:
    attributes = misc.split("|")
    if "" in attributes and misc:
        say(line, "misc", f"found an empty attribute in MISC ({misc}), accepted KEY=VALUE with | between")
    for key, count in Counter(attribute.partition("=")[0] for attribute in attributes if "=" in attribute).items():
        if count > 1:
            say(line, "misc", f"found {key} {count} times in MISC, accepted each key once")
    space = misc_values(misc).get("SpaceAfter", "No")
    if space != "No":
        say(line, "misc", f"found SpaceAfter={space}, accepted SpaceAfter=No, or nothing")


def _check_others(sentence: Sentence, say: Say) -> None:
    """A range stands right before its first word and overlaps no other; empty nodes n.1, n.2 follow word n."""
    lines = [line for line, _ in sentence.words]
    covered, node = 0, (0, 0)
    for line, fields in sentence.others:
        before = sum(word_line < line for word_line in lines)
        first, sign, last = re.split("([-.])", fields[ID])
        start, end = int(first), int(last)
        if sign == "-":
            if not before + 1 == start < end <= len(lines) or start <= covered:
                accepted = f"a range that begins with the next word, {before + 1}, and ends within the sentence"
                say(line, "range", f"found the range {fields[ID]}, accepted {accepted}")
            covered = max(covered, end)
        else:
            expected = (before, node[1] + 1 if node[0] == before else 1)
            if (start, end) != expected:
                say(line, "range", f"found the empty node {fields[ID]}, accepted {expected[0]}.{expected[1]}")
            node = (before, expected[1])


def check_text(sentence: Sentence, say: Say) -> None:
    """`# text` is the forms with a blank after each that has no SpaceAfter=No."""
    comment = sentence.comment("text")
    if comment is None:
        say(sentence.line, "text", "found no '# text = ...', accepted one before a sentence's words")
        return
    line, text = comment
    words = surface(sentence)
    if text != words:
        at = next((i for i, (a, b) in enumerate(zip(text, words, strict=False)) if a != b), min(len(text), len(words)))
        start = max(0, at - _SHOWN // 2)
        given, accepted = (repr(string[start : start + _SHOWN]) for string in (text, words))
        say(line, "text", f"found the text {given}, accepted {accepted} as its words have it (character {at + 1})")


def surface(sentence: Sentence) -> str:
    """The text that a sentence's words, or the ranges over them, make."""
    ranges = {}
    for _, fields in sentence.others:
        first, _, last = fields[ID].partition("-")
        if last:
            ranges[int(first)] = (int(last), fields)
    text, word = "", 1
    while word <= len(sentence.words):
        last_word, fields = ranges.get(word, (word, sentence.words[word - 1][1]))
        text += fields[FORM] + ("" if misc_values(fields[MISC]).get("SpaceAfter") == "No" else " ")
        word = max(last_word, word) + 1
    return text.rstrip(" ")


def check_upos(sentence: Sentence, say: Say) -> None:
    for line, fields in sentence.words:
        if fields[UPOS] not in UPOS_TAGS:
            say(line, "upos", f"found the UPOS {fields[UPOS]!r}, accepted {', '.join(UPOS_TAGS)}")


def check_relations(sentence: Sentence, say: Say) -> None:
    """Universal relations, subtypes in lower-case letters."""
    for line, fields in sentence.words:
        relation, colon, subtype = fields[DEPREL].partition(":")
        if relation not in RELATIONS:
            say(
                line, "deprel", f"found the relation {fields[DEPREL]!r}, accepted {', '.join(RELATIONS)}, with subtypes"
            )
        elif colon and not re.fullmatch("[a-z]+", subtype):
            say(line, "deprel", f"found the subtype {subtype!r} of {relation}, accepted lower-case letters")


def check_punctuation(sentence: Sentence, say: Say) -> None:
    """The relation punct has UPOS PUNCT, and UPOS PUNCT has the relation punct or root."""
    for line, fields in sentence.words:
        tag, relation = fields[UPOS], fields[DEPREL].partition(":")[0]
        if relation == "punct" and tag != "PUNCT":
            say(line, "punct", f"found the relation punct with UPOS {tag}, accepted PUNCT")
        elif tag == "PUNCT" and relation not in ("punct", "root"):
            say(line, "punct", f"found UPOS PUNCT with the relation {fields[DEPREL]}, accepted punct")


def check_tree(sentence: Sentence, say: Say, relations: bool) -> None:
    """One root, every HEAD another word, no cycle; where there are `relations`, root stands on the root alone."""
    heads = [_head(word, len(sentence.words), say) for word in sentence.words]
    if None in heads or not heads:
        return
    known = [head for head in heads if head is not None]
    roots = [word for word, head in enumerate(known, 1) if head == 0]
    if not roots:
        named = [line for line, fields in sentence.words if fields[DEPREL] == "root"]
        say([*named, sentence.words[0][0]][0], "root", "found no root, accepted one word with HEAD 0")
        return
    for word in roots[1:]:
        say(sentence.words[word - 1][0], "root", f"found a second root (the first is word {roots[0]}), accepted one")
    if relations and len(roots) == 1:
        _check_root_relation(sentence.words, say)
    for cycle in _cycles(known):
        way = " > ".join(map(str, [*cycle, cycle[0]]))
        say(sentence.words[cycle[0] - 1][0], "cycle", f"found the cycle of heads {way}, accepted a tree")


def _head(word: Row, words: int, say: Say) -> int | None:
    line, fields = word
    if re.fullmatch("0|[1-9][0-9]*", fields[HEAD]) and int(fields[HEAD]) <= words and fields[HEAD] != fields[ID]:
        return int(fields[HEAD])
    say(line, "head", f"found the HEAD {fields[HEAD]!r} on word {fields[ID]}, accepted another word, or 0 to {words}")
    return None


def _check_root_relation(words: Sequence[Row], say: Say) -> None:
    for line, fields in words:
        relation = fields[DEPREL].partition(":")[0]
        if fields[HEAD] == "0" and relation != "root":
            say(line, "root", f"found HEAD 0 with the relation {fields[DEPREL]}, accepted root")
        elif fields[HEAD] != "0" and relation == "root":
            say(line, "root", f"found the relation root with HEAD {fields[HEAD]}, accepted HEAD 0")


def _cycles(heads: Sequence[int]) -> list[list[int]]:
    """The cycles in heads (from 1, 0 is the root), each from its smallest word on."""
    done: set[int] = {0}
    cycles = []
    for word in range(1, len(heads) + 1):
        path: list[int] = []
        while word not in done and word not in path:
            path.append(word)
            word = heads[word - 1]
        if word not in done:
            cycle = path[path.index(word) :]
            smallest = cycle.index(min(cycle))
            cycles.append([*cycle[smallest:], *cycle[:smallest]])
        done.update(path)
    return cycles


def check_entities(sentence: Sentence, say: Say) -> None:
    """IOB2: O, B-TYPE, and I-TYPE after B-TYPE or I-TYPE of the same type."""
    before = "O"
    for line, fields in sentence.words:
        tag = misc_values(fields[MISC]).get(ENTITY_KEY, "")
        prefix, dash, kind = tag.partition("-")
        if tag != "O" and not (prefix in ("B", "I") and dash and kind):
            given = f"the entity tag {tag!r}" if tag else f"no {ENTITY_KEY} in MISC"
            say(line, "entity", f"found {given}, accepted O, B-TYPE, I-TYPE ({', '.join(ENTITY_TYPES)})")
        elif tag != "O" and kind not in ENTITY_TYPES:
            say(line, "entity-type", f"found the entity type {kind!r}, accepted {', '.join(ENTITY_TYPES)}")
        elif prefix == "I" and before[2:] != kind:
            say(line, "entity", f"found {tag} after {before or 'no tag'}, accepted it after B-{kind} or I-{kind}")
        before = tag


def check_semantic_tags(sentence: Sentence, say: Say) -> None:
    for line, fields in sentence.words:
        tag = misc_values(fields[MISC]).get(SEMANTIC_KEY)
        if tag not in SEMANTIC_TAGS:
            given = f"the semantic tag {tag!r}" if tag else f"no {SEMANTIC_KEY} in MISC"
            say(line, "sem", f"found {given}, accepted {', '.join(SEMANTIC_TAGS)}")
