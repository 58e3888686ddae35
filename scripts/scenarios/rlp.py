"""An RLP encoder: on whole blocks, the specification's is too slow for thousands of seeds."""


def encode(item):
    """The RLP of bytes, of a number or of a (nested) list of them."""
    if isinstance(item, (list, tuple)):
        content = b"".join(encode(part) for part in item)
        return _length(len(content), 0xC0) + content
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if len(item) == 1 and item[0] < 0x80:
        return bytes(item)
    return _length(len(item), 0x80) + bytes(item)


def encode_list(encoded):
    """The RLP of a list whose items are RLP already."""
    content = b"".join(encoded)
    return _length(len(content), 0xC0) + content


def _length(length, base):
    if length < 56:
        return bytes([base + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size)]) + size
