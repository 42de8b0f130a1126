"""Numbers of bytes in words."""


def in_words(count: int) -> str:
    """A number of bytes as people write it: "512 MiB"."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
