"""Conversations through a model's chat template: the text, and which characters of it the assistant says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.errors import BadRecord, DataError, shown
from adaptr.tasks.spans import Spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, object]
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
ASSISTANT = "assistant"
#: What a template says around what a model generated, where it says it.
MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


def conversation(record: Record, tokenizer: PreTrainedTokenizerBase, messages: object, start: int = 0) -> Spans:
    """The text of `messages`; learned is what the assistant says in those from `start` on.

    Raises `BadRecord` for messages that are none, and where the template does not show where a turn of the assistant
    begins and ends; `DataError` where there is no template.
    """
    chat = _messages(record, messages)
    if not any(message["role"] == ASSISTANT for message in chat[start:]):
        raise record.place.bad("no message is the assistant's, so there is nothing to learn")
    template = _template(tokenizer)
    if MARK.search(template) and not start:
        return _marked(record, tokenizer, chat)
    return _by_prefixes(record, _renderer(record, tokenizer, template), chat, start)


def _messages(record: Record, messages: object) -> list[Message]:
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise record.place.bad("`messages`", got=shown(messages), want="a list of `role` and `content`")
    return [_message(record, number, message) for number, message in enumerate(messages, 1)]


def _message(record: Record, number: int, message: object) -> Message:
    if not isinstance(message, Mapping):
        raise record.place.bad(f"message {number}", got=shown(message), want="`role` and `content`")
    role, content = message.get("role"), message.get("content")
    if not (isinstance(role, str) and role in ROLES):
        known = ", ".join(sorted(ROLES))
        raise record.place.bad(f"the role of message {number}", got=f"`{shown(role)}`", want=f"one of {known}")
    if isinstance(content, list) and content:
        content = _joined(record, number, content)
    if content is None and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise record.place.bad(f"the content of message {number}", got=shown(content), want="a text")
    if role == ASSISTANT and not content.strip() and not message.get("tool_calls"):
        raise record.place.bad(f"message {number}, the assistant's, is empty")
    return {**message, "content": content}


def _joined(record: Record, number: int, parts: list[object]) -> str:
    """Content in parts, as some tools write it, where all of them are texts."""
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise record.place.bad(f"the content of message {number} has parts that are no text")
    return "".join(map(str, texts))


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.chat_template:
        raise DataError(
            "the base has no chat template, so what its conversations look like isn't known",
            hint="take a base that was trained to chat, or data with `prompt` and `completion`",
        )
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise DataError(f"the base's chat template can't be chosen: {error}", hint="name one `default`") from None


def _renderer(record: Record, tokenizer: PreTrainedTokenizerBase, template: str) -> Callable[..., str]:
    tools = record.values.get("tools") or None

    def render(chat: Sequence[Message], ask: bool = False) -> str:
        with _explained(record):
            return str(
                tokenizer.apply_chat_template(
                    list(chat), tools=tools, chat_template=template, tokenize=False, add_generation_prompt=ask
                )
            )

    return render


def _by_prefixes(record: Record, render: Callable[..., str], chat: Sequence[Message], start: int) -> Spans:
    """The conversation rendered again up to each turn: what is added is what the assistant says, if nothing before it
    changed.
    """
    text = render(chat)
    spans = []
    for i, message in enumerate(chat):
        if message["role"] != ASSISTANT or i < start:
            continue
        if i == 0:
            raise record.place.bad("the first message is the assistant's, and the template doesn't mark its turns")
        before, behind = render(chat[:i], True), render(chat[: i + 1])
        if not (text.startswith(behind) and behind.startswith(before) and len(behind) > len(before)):
            raise record.place.bad(
                f"the chat template writes message {i + 1} otherwise when more follows, so what the assistant says "
                "can't be told from the rest",
                hint="give the base a template with `{% generation %}` around the assistant's turns",
            )
        spans.append((len(before), len(behind)))
    return Spans(record, text, tuple(spans), ends=False, special=False)


def _marked(record: Record, tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message]) -> Spans:
    """By the marks of the template itself."""
    from transformers.utils.chat_template_utils import render_jinja_template

    with _explained(record):
        texts, spans = render_jinja_template(
            conversations=[list(chat)],
            tools=record.values.get("tools") or None,
            chat_template=tokenizer.get_chat_template(),
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    if not spans[0]:
        raise record.place.bad("the chat template marks nothing of this conversation as the assistant's")
    return Spans(record, texts[0], tuple((int(a), int(b)) for a, b in spans[0]), ends=False, special=False)


class _explained:
    """What a template says of messages that it does not take, as our error."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, BadRecord | MemoryError):
            reason = shown(f"{type(error).__name__}: {error}", 200)
            raise self.record.place.bad(f"the chat template does not take these messages: {reason}") from error
