"""Reads and writes the session tokens that README.md beside this file defines. Written from that page alone, with
nothing but Python's standard library (no base64 and no protobuf module: their leniency is not the page's).

Section numbers refer to README.md. `envoy=True` reads as Envoy 1.40.0 does (section 1.8).
"""

import ipaddress

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
DIGITS = {ord(char): value for value, char in enumerate(ALPHABET)}
VALUE_MAX = 512
ADDRESS_MAX = 128
DEPTH_MAX = 100

NONE, EXPIRED, UNUSABLE = "none", "expired", "unusable"


class NoMessage(Exception):
    """The bytes are no message."""


# ---------------------------------------------------------------- 1.1 base64


def unbase64(text: bytes) -> bytes | None:
    """The bytes; None: it does not decode."""
    if not text or len(text) % 4:
        return None
    padding = 2 if text.endswith(b"==") else 1 if text.endswith(b"=") else 0
    out, bits, held = bytearray(), 0, 0
    for char in text[: len(text) - padding]:
        if char not in DIGITS:
            return None
        bits = bits << 6 | DIGITS[char]
        held += 6
        if held >= 8:
            held -= 8
            out.append(bits >> held & 0xFF)
            bits &= (1 << held) - 1
    return None if bits else bytes(out)


def base64(data: bytes) -> bytes:
    out = []
    for at in range(0, len(data), 3):
        group = data[at : at + 3]
        bits = int.from_bytes(group + bytes(3 - len(group)), "big")
        digits = [ALPHABET[bits >> shift & 63] for shift in (18, 12, 6, 0)]
        out.append("".join(digits[: len(group) + 1]) + "=" * (3 - len(group)))
    return "".join(out).encode()


# ---------------------------------------------------------------- 1.2 address text


def is_number(text: str, most: int) -> bool:
    digits = text.isascii() and text.isdigit()
    return digits and (text == "0" or not text.startswith("0")) and int(text) <= most


def is_socket(data: bytes) -> bool:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return False
    host, colon, port = text.rpartition(":")
    if not colon or len(port) > 5 or not is_number(port, 65535):
        return False
    if host.startswith("[") and host.endswith("]"):
        address, percent, zone = host[1:-1].partition("%")
        if percent and not (zone.isascii() and zone.isdigit()):
            return False
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            return False
        return True
    parts = host.split(".")
    return len(parts) == 4 and all(is_number(part, 255) for part in parts)


def is_path(data: bytes) -> bool:
    begins = data[:1] in (b"/", b"@")
    if not begins or not 2 <= len(data) <= ADDRESS_MAX or any(byte < 0x20 or byte == 0x7F for byte in data):
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# ---------------------------------------------------------------- 1.3 the message


class Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def more(self) -> bool:
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise NoMessage
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self, most: int) -> int:
        value = 0
        for index in range(most):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value
        raise NoMessage

    def tag(self) -> tuple[int, int]:
        value = self.varint(5) & 0xFFFFFFFF
        if value >> 3 == 0:
            raise NoMessage
        return value >> 3, value & 7

    def skip(self, number: int, wire: int, depth: int) -> None:
        if wire == 0:
            self.varint(10)
        elif wire == 1:
            self.take(8)
        elif wire == 2:
            self.take(self.varint(5))
        elif wire == 5:
            self.take(4)
        elif wire == 3 and depth < DEPTH_MAX:
            while True:
                inner, inner_wire = self.tag()
                if inner_wire == 4:
                    if inner != number:
                        raise NoMessage
                    return
                self.skip(inner, inner_wire, depth + 1)
        else:
            raise NoMessage


def read_message(data: bytes) -> tuple[bytes, int]:
    """Address and expiry, empty and 0 where absent."""
    reader, address, expires = Reader(data), b"", 0
    while reader.more():
        number, wire = reader.tag()
        if (number, wire) == (1, 2):
            address = reader.take(reader.varint(5))
            try:
                address.decode("utf-8")
            except UnicodeDecodeError:
                raise NoMessage from None
        elif (number, wire) == (2, 0):
            expires = reader.varint(10) & (1 << 64) - 1
        else:
            reader.skip(number, wire, 0)
    return address, expires


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def write_message(address: bytes, expires: int | None) -> bytes:
    head = b"\x0a" + varint(len(address)) + address
    return head if expires is None else head + b"\x10" + varint(expires)


# ---------------------------------------------------------------- 1.4 to 1.6 the forms


def read_cookie_value(value: bytes, now: int, envoy: bool = False):
    """The address as bytes, or NONE, EXPIRED, UNUSABLE."""
    if not envoy and len(value) > VALUE_MAX:
        return NONE
    data = unbase64(value)
    if data is None:
        return NONE
    if not envoy and is_socket(data):
        return data
    try:
        address, expires = read_message(data)
    except NoMessage:
        return data if envoy or is_path(data) else UNUSABLE
    if not address or (not envoy and len(address) > ADDRESS_MAX):
        return NONE
    signed = expires - (1 << 64) if expires >> 63 else expires
    if signed != 0 and now > signed:
        return EXPIRED
    return address


def read_header_value(value: bytes, envoy: bool = False):
    if not envoy and len(value) > VALUE_MAX:
        return NONE
    data = unbase64(value)
    if data is None:
        return NONE
    return data if envoy or is_socket(data) or is_path(data) else UNUSABLE


def read_envelope(value: bytes, envoy: bool = False):
    """What the address piece says, and the upstream's value; None: the header goes on as it is."""
    pieces = [piece for piece in value.split(b";") if piece]
    marked = [piece[3:] for piece in pieces[1:] if piece.startswith(b"UV:")]
    inner = unbase64(marked[0]) if marked else None
    if inner is None or (not envoy and any(byte in b"\r\n\0" for byte in inner)):
        return NONE, None
    return read_header_value(pieces[0], envoy), inner


def write_envelope(address: bytes, value: bytes) -> bytes:
    return base64(address) + b";UV:" + base64(value)


# ---------------------------------------------------------------- 1.7 where a token travels


def in_scope(path: bytes, target: bytes) -> bool:
    if path in (b"", b"/"):
        return True
    if not target.startswith(path):
        return False
    return path.endswith(b"/") or target[len(path) : len(path) + 1] in (b"", b"/", b"?", b"#")


def cookie_values(lines: list[bytes], name: bytes):
    for line in lines:
        for piece in line.strip(b" \t").split(b";"):
            key, equals, value = piece.partition(b"=")
            if not equals or key.lstrip(b" ") != name:
                continue
            if len(value) >= 2 and value[:1] == value[-1:] == b'"':
                value = value[1:-1]
            yield value


def find_cookie(lines: list[bytes], name: bytes, now: int, envoy: bool = False):
    results = []
    for value in cookie_values(lines, name):
        result = read_cookie_value(value, now, envoy)
        if isinstance(result, bytes) or envoy:
            return result
        results.append(result)
    return next((worst for worst in (EXPIRED, UNUSABLE) if worst in results), NONE)


def find_header(lines: list[bytes], envoy: bool = False):
    return read_header_value(lines[0].strip(b" \t"), envoy) if lines else NONE


def find_envelope(lines: list[bytes], envoy: bool = False):
    return read_envelope(lines[0].strip(b" \t"), envoy) if lines else (NONE, None)


def set_cookie(name: bytes, address: bytes, now: int, life: int, path: bytes, attributes) -> bytes:
    message = write_message(address, now + life if life else None)
    out = name + b'="' + base64(message) + b'"'
    if life:
        out += b"; Max-Age=%d" % life
    if path:
        out += b"; Path=" + path
    for key, value in attributes:
        out += b"; " + key + (b"=" + value if value else b"")
    return out + b"; HttpOnly"
