"""Text without secrets. Imports nothing of ours, so that whatever says something can use it."""

import base64
import re
from collections.abc import Callable, Sequence
from urllib.parse import quote

SECRET_PARAMETER = re.compile(r"(?i)\b(api_?key|access_?key|token|secret|signature|password)=[^&\s\"']+")


def redactor(secrets: Sequence[str]) -> Callable[[str], str]:
    """Text without these values, in any form a header or an address may give them, nor parameters that hold one."""
    words = {word for secret in secrets for word in (secret, *secret.split())}
    forms = {form for word in words for form in (word, quote(word, safe=""), _basic(word)) if len(word) > 3}
    found = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))) or r"(?!)")

    def redacted(text: str) -> str:
        return SECRET_PARAMETER.sub(r"\1=***", found.sub("***", text))

    return redacted


def _basic(secret: str) -> str:
    return base64.b64encode(f"{secret}:".encode()).decode()
