"""Log lines as text or JSON, and progress bars, on top of the standard `logging` module.

All loggers are standard loggers below `flowkit`. Handlers that are already installed receive the records, the root
logger is never changed, and nothing is printed until [`configure_logging`][flowkit_log.configure_logging] is called.

```python
from flowkit_log import configure_logging, get_logger

configure_logging()
logger = get_logger()
logger.info("Received %d records.", 14502)
logger.success("Output written.", size_mb=45)
```
"""

from __future__ import annotations

from ._configure import configure_logging
from ._console import ConsoleHandler
from ._json_formatter import JsonFormatter
from ._levels import LogLevel
from ._logger import FlowkitLogger, get_logger
from ._progress import Progress
from ._text_formatter import TextFormatter

__all__ = [
    "ConsoleHandler",
    "FlowkitLogger",
    "JsonFormatter",
    "LogLevel",
    "Progress",
    "TextFormatter",
    "configure_logging",
    "get_logger",
]
