"""URLs as they may be shown: without credentials."""

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/?#]*@")
# Everything in a query whose name hints at a secret; options of unknown plugins pass here too.
_SECRET_OPTION: Final = re.compile(r"(?i)([?&;][^=&;]*(?:pass|pwd|secret|token|credential|key_?file)[^=&;]*=)[^&;#]*")


def redact(url: str) -> str:
    """The URL with its user, password and secret-looking options replaced by `***`.

    >>> redact("redis://:hunter2@db:6379/0?password=x")
    'redis://***@db:6379/0?password=***'
    """
    return _SECRET_OPTION.sub(r"\1***", _CREDENTIALS.sub("***@", url))
