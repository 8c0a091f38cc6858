"""Chat templates as families of models have them, on small tokenizers that are made here."""

# ruff: noqa: E501, RUF001 (templates in their own lines and signs)

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from debiasdpo.models.chat import Chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How text becomes tokens: of bytes (GPT-2, Llama 3, Qwen), or of pieces with a mark in place of blanks, before
# the first word too (Mistral), before each segment (Llama 2), nowhere else (Gemma); or by a unigram model.
Kind = Literal["bytes", "first", "legacy", "never", "unigram"]

CORPUS = (
    "Teacher: What is one half of a half? Student: A quarter! How good is this lesson? Rate it on a"
    " scale from 1 to 7.\nExplain briefly.\n\nRating: 1\nRating: 2.5\nRating: 10\nThe teacher is new."
    " You are a helpful assistant. user system assistant model 3 4 5 6 8 9 0 -",
    "".join(map(chr, [*range(33, 127), 0xFF5C, 0xFF1C, 0xFF1E])),
)

_CHATML = """\
{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
_DEFAULT = """\
{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}
"""
_LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
_GEMMA2 = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""
_MISTRAL3 = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
_LLAMA2 = """\
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}\
{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}\
{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}\
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""
_PHI3 = """\
{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}\
{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}\
{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}\
{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""
_ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
_QWEN3 = """\
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.last or reasoning_content %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
_R1 = """\
{% set ns = namespace(system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}\
{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}\
{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}\
{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}\
{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}\
{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}\
{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"""
_HYBRID = """\
{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% if thinking is defined and not thinking %}{{ '<think>\\n\\n</think>\\n' }}\
{% else %}{{ '<think>' }}{% endif %}{% endif %}"""
_HARMONY = """\
{{- "<|start|>system<|message|>Current date: " + strftime_now("%Y-%m-%d") + "<|end|>" }}
{%- if messages[0].role == "system" %}{% set developer_message = messages[0].content %}{% endif %}
{%- if developer_message %}{{- "<|start|>developer<|message|># Instructions\\n\\n" + developer_message + "<|end|>" }}{% endif %}
{%- for message in messages if message.role != "system" %}
    {%- if message.role == "assistant" %}{{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|return|>" }}
    {%- else %}{{- "<|start|>user<|message|>" + message.content + "<|end|>" }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|start|>assistant" }}{% endif %}
"""
_COMMAND = """\
{{ bos_token }}{% for message in messages %}{{ '<|START_OF_TURN_TOKEN|>' }}{% if message.role == 'assistant' %}\
{{ '<|CHATBOT_TOKEN|><|START_RESPONSE|>' + message.content + '<|END_RESPONSE|>' }}{% elif message.role == 'user' %}\
{{ '<|USER_TOKEN|>' + message.content }}{% else %}{{ '<|SYSTEM_TOKEN|>' + message.content }}{% endif %}\
{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"""
_PHI4_MINI = """\
{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"""
_OPEN_END = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
_DROPS = "{% for message in messages if message.role != 'system' %}{{ '<s>' + message.content + '</s>' }}{% endfor %}"
_RECASTS = (  # with a system message, another preamble
    "{% if messages[0].role == 'system' %}{{ 'Obey: ' }}{% else %}{{ 'You are free.' }}{% endif %}"
    "{% for message in messages %}{{ message.content + eos_token }}{% endfor %}"
)


class Family(NamedTuple):
    """What is known of a family, by its documentation and not by the code under test."""

    template: str
    kind: Kind
    tokens: Sequence[str]  # control tokens; the first begins texts, the last ends them
    end: str  # of a turn
    system: str | None  # message that stands for none; None: it takes none


FAMILIES = {
    "ChatML": Family(_CHATML, "bytes", ("<|im_start|>", "<|im_end|>", "<|endoftext|>"), "<|im_end|>", ""),
    "SmolLM2, Qwen2.5": Family(
        _DEFAULT + _CHATML, "bytes", ("<|im_start|>", "<|im_end|>", "<|endoftext|>"), "<|im_end|>",
        "You are a helpful assistant.",
    ),
    "Llama 2": Family(_LLAMA2, "legacy", ("<s>", "</s>"), "</s>", ""),
    "Llama 3": Family(
        _LLAMA3, "bytes",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "<|eot_id|>", "",
    ),
    "Gemma 2": Family(
        _GEMMA2, "never", ("<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"), "<end_of_turn>", None
    ),
    "Mistral": Family(_MISTRAL3, "first", ("<s>", "[INST]", "[/INST]", "</s>"), "</s>", ""),
    "Phi-3": Family(
        _PHI3, "legacy",
        ("<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"), "<|end|>", None,
    ),
    "Zephyr": Family(_ZEPHYR, "first", ("<s>", "</s>"), "</s>", ""),
    "Qwen3": Family(
        _QWEN3, "bytes", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", ""
    ),
    "DeepSeek-R1": Family(
        _R1, "bytes", ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
        "<｜end▁of▁sentence｜>", "",
    ),
    "Hunyuan": Family(
        _HYBRID, "bytes", ("<s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|end|>", ""
    ),
    "gpt-oss": Family(
        _HARMONY, "bytes",
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"), "<|return|>", None,
    ),
    "Command R7B": Family(
        _COMMAND, "bytes",
        ("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|CHATBOT_TOKEN|>",
         "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|END_OF_TURN_TOKEN|>"),
        "<|END_OF_TURN_TOKEN|>", "",
    ),
    "Phi-4 mini": Family(
        _PHI4_MINI, "bytes", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"), "<|end|>", ""
    ),
    "unigram": Family(_CHATML, "unigram", ("<|im_start|>", "<|im_end|>", "</s>"), "<|im_end|>", ""),
    "open end": Family(_OPEN_END, "bytes", ("<s>", "</s>"), "</s>", ""),
    "drops": Family(_DROPS, "first", ("<s>", "</s>"), "</s>", None),
    "recasts": Family(_RECASTS, "bytes", ("<s>", "</s>"), "</s>", ""),
}  # fmt: skip
THOUGHT_TAGS = {"Qwen3", "DeepSeek-R1", "Hunyuan"}  # are tokens, but not special ones


def chat_of(family: str, **changes: Any) -> Chat:
    """A family's chat. `changes`: of the tokenizer's attributes."""
    return Chat(tokenizer_of(family, **changes), family)


def tokenizer_of(family: str, **changes: Any) -> "PreTrainedTokenizerBase":
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    template, kind, tokens, _, _ = FAMILIES[family]
    found = PreTrainedTokenizerFast(
        tokenizer_object=_trained(kind, tokens),
        bos_token=tokens[0],
        eos_token=tokens[-1],
        chat_template=template,
    )
    if family in THOUGHT_TAGS:
        found.add_tokens(
            [AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")]
        )
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def _trained(kind: Kind, tokens: Sequence[str]) -> Any:
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )

    # As those of Phi-3, a token of a role takes the white space after it away.
    special = [
        AddedToken(text, special=True, normalized=False, rstrip=kind == "legacy" and "|" in text)
        for text in tokens
    ]
    if kind == "unigram":
        found = Tokenizer(models.Unigram())
        found.pre_tokenizer = pre_tokenizers.Metaspace()
        found.decoder = decoders.Metaspace()
        # Of a sentencepiece model, the control tokens are pieces too.
        pieces = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=["<unk>", *special], unk_token="<unk>"
        )
        found.train_from_iterator(CORPUS, pieces)
        return found
    found = Tokenizer(models.BPE(unk_token=None if kind == "bytes" else "<unk>"))
    if kind == "bytes":
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        found.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        alphabet = ["▁", "\n"]
        found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
        words: Any = pre_tokenizers.Split("▁", "merged_with_next")
        if kind == "first":
            words = pre_tokenizers.Metaspace(prepend_scheme="first")
        else:
            first = [normalizers.Prepend("▁")] if kind == "legacy" else []
            found.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
        lines = pre_tokenizers.Split("\n", "isolated")
        found.pre_tokenizer = pre_tokenizers.Sequence([words, lines])
        special = [AddedToken("<unk>", special=True, normalized=False), *special]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator(CORPUS * 3, trainer)
    return found
