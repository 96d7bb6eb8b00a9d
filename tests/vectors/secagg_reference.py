"""A second implementation of the key schedule, sharing and masking, written for reading, not for use.

It shares no code with fedward: HMAC from the standard library, GF(2^8) by exponent tables, X25519 by the
ladder of RFC 7748, GCM by its definition; AES blocks and ML-KEM decapsulation are borrowed. Run as a
script, it recomputes the outputs of ``secagg_vectors.json`` from the inputs in that file.
"""

import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

VECTORS = Path(__file__).with_name("secagg_vectors.json")
P = 2**255 - 19


def H(label, *parts):  # noqa: N802 - its name in the protocol
    items = [f"fedward/v1/secagg/{label}", *parts]
    raw = [p.encode() if isinstance(p, str) else p.to_bytes(8, "big") if isinstance(p, int) else p for p in items]
    return hashlib.sha256(b"".join(len(r).to_bytes(8, "big") + r for r in raw)).digest()


def expand(key, info):  # 32 bytes are one block of RFC 5869 section 2.3
    return hmac.new(key, info + b"\x01", "sha256").digest()


def extract(salt, ikm):
    return hmac.new(salt or bytes(32), ikm, "sha256").digest()


def aes(key, block):
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)  # noqa: S305 - single blocks


def prg(seed, nbytes):
    return b"".join(aes(seed, i.to_bytes(16, "big")) for i in range(-(-nbytes // 16)))[:nbytes]


def gcm(key, text, aad):
    def times(x, y):
        z = 0
        for i in range(127, -1, -1):
            z ^= y if x >> i & 1 else 0
            y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
        return z

    def blocks(data):
        return [data[i : i + 16].ljust(16, b"\0") for i in range(0, len(data), 16)]

    pads = [aes(key, bytes(12) + i.to_bytes(4, "big")) for i in range(1, 2 + len(blocks(text)))]
    cipher = bytes(a ^ b for a, b in zip(text, b"".join(pads[1:]), strict=False))
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(cipher)).to_bytes(8, "big")
    tag, h = 0, int.from_bytes(aes(key, bytes(16)), "big")
    for block in [*blocks(aad), *blocks(cipher), lengths]:
        tag = times(tag ^ int.from_bytes(block, "big"), h)
    return cipher + (tag ^ int.from_bytes(pads[0], "big")).to_bytes(16, "big")


def x25519(scalar, point):
    k = int.from_bytes(scalar, "little") & ~7 & (2**255 - 1) | 2**254
    x1 = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3 = 1, 0, x1, 1
    for t in range(254, -1, -1):
        if k >> t & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, (aa - bb) * (aa + 121665 * (aa - bb)) % P
        if k >> t & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


EXP = [1]
while len(EXP) < 255:  # powers of the generator 3
    EXP.append(EXP[-1] ^ EXP[-1] << 1 ^ (0x11B if EXP[-1] & 0x80 else 0))
LOG = {value: i for i, value in enumerate(EXP)}


def shares_of(coefficients, n):  # secret first, one bytes object per power of x
    def value(column, x):
        out = 0
        for c in reversed(column):
            out = (EXP[(LOG[out] + LOG[x]) % 255] if out else 0) ^ c
        return out

    return [bytes(value(column, x) for column in zip(*coefficients, strict=True)) for x in range(1, n + 1)]


def outputs(given):
    """Recomputes every output from the inputs; keys and values are hexadecimal."""
    raw = {name: bytes.fromhex(value) for name, value in given.items() if isinstance(value, str)}
    lo, hi, epoch = "a-site", "b-site", given["epoch"]
    shared = MLKEM768PrivateKey.from_seed_bytes(raw["hi_mlkem_seed"]).decapsulate(raw["ciphertext"])
    ikm = x25519(raw["hi_x25519"], x25519(raw["lo_x25519"], (9).to_bytes(32, "little"))) + shared
    salt = H("pair-root", raw["roster_hash"], epoch, lo, hi, raw["bundle_lo"], raw["bundle_hi"], raw["ciphertext"])
    out = {"ikm": ikm, "pair_root": expand(extract(salt, ikm), H("pair-root-info")), "ctx": H("ctx", raw["manifest"])}
    out["ck_0"] = expand(out["pair_root"], H("ck"))
    out["ck_1"] = expand(out["ck_0"], H("next"))
    ctx, ck, b, R = out["ctx"], out["ck_1"], raw["b"], raw["R"]
    out["mask_seed"] = expand(ck, H("mask", ctx, lo, hi))
    out["share_key_lo_hi"] = expand(ck, H("share", ctx, lo, hi))
    out["share_key_hi_lo"] = expand(ck, H("share", ctx, hi, lo))
    coefficients = [b, raw["coefficients"][:32], raw["coefficients"][32:]]
    out |= {f"share_{x}": share for x, share in enumerate(shares_of(coefficients, 5), start=1)}
    out["sealed_share"] = gcm(out["share_key_lo_hi"], out["share_2"] + out["share_3"], H("share-aad", ctx, lo, hi))
    out["envelope_key"] = expand(extract(b"", R), H("env", ctx))
    out["sealed_envelope"] = gcm(out["envelope_key"], out["mask_seed"], H("env-aad", ctx, lo))
    out["commit_b"], out["commit_R"] = H("b", ctx, b), H("R", ctx, R)
    out["commit_share_b"] = H("share-c", ctx, lo, hi, "b", out["share_2"])
    out["commit_share_R"] = H("share-c", ctx, lo, hi, "R", out["share_2"])
    out["commit_pair_seed"] = H("pc", ctx, out["mask_seed"])
    rows = b"\x82" + b"".join(b"\x82\x66" + name.encode() + b"\x58\x20" + raw["digest"] for name in (lo, hi))
    out["confirm"] = H("confirm", ctx, raw["heads_hash"], rows)
    # y = q + PRG(b) - PRG(seed): a 32-bit segment of 5 words, 12 bytes of gap, a 16-bit segment of 3 words
    one, two = prg(b, 38), prg(out["mask_seed"], 38)
    masked = bytearray(38)
    for i, (start, width) in enumerate([*((4 * k, 4) for k in range(5)), *((32 + 2 * k, 2) for k in range(3))]):
        at = slice(start, start + width)
        word = i - 4 + int.from_bytes(one[at], "little") - int.from_bytes(two[at], "little")
        masked[at] = (word % 2 ** (8 * width)).to_bytes(width, "little")
    out["masked"] = bytes(masked)
    return {name: value.hex() for name, value in out.items()}


if __name__ == "__main__":
    stored = json.loads(VECTORS.read_text())
    stored["outputs"] = outputs(stored["inputs"])
    VECTORS.write_text(json.dumps(stored, indent=1) + "\n")
