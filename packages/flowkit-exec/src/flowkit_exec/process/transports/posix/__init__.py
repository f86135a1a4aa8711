"""The POSIX transport: Linux, macOS and systems like them."""
