"""The chat template that renders messages exactly as `NyxProcessor` serialises content.

It is for what reads a checkpoint without its code: sentence-transformers, vLLM. A prompt (sentence-transformers') or
an instruction (vLLM) comes as a system message; there are no role markers.
"""

from collections.abc import Sequence

from .content_nyx import neutralize

# Neighbouring texts are gathered before special tokens are broken, so that two of them cannot make one together.
TEMPLATE = """\
{%- set gathered = namespace(text='') -%}
{%- macro written() -%}{{ gathered.text@BROKEN@ }}{%- set gathered.text = '' -%}{%- endmacro -%}
{%- for message in messages -%}
{%- if message.content is string -%}
{%- set gathered.text = gathered.text + message.content -%}
{%- else -%}
{%- for item in message.content -%}
{%- if item.type == 'text' and item.text is string -%}
{%- set gathered.text = gathered.text + item.text -%}
{%- elif item.type == 'image' or item.type == 'image_url' -%}
{{- written() }}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}
{{- raise_exception("Nyx reads items of type 'text' and 'image', but one of type '" ~ item.type ~ "' came.") -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{{- written() -}}@END@"""


def chat_template(special_tokens: Sequence[str], append_eos: bool) -> str:
    """Write the template for a tokenizer's special tokens, which text cannot spell, and with or without end token."""
    broken = "".join(f" | replace({token!r}, {neutralize(token, [token])!r})" for token in special_tokens)
    return TEMPLATE.replace("@BROKEN@", broken).replace("@END@", "<|im_end|>" if append_eos else "")
