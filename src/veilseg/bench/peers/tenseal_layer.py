"""A convolution layer in CKKS by TenSEAL: the client encrypts, the server has no secret key.

A ciphertext holds, of as many places as it has slots, one voxel around each of them in one channel.
So a weight is one number for a whole ciphertext and nothing has to be rotated, which costs far less
than TenSEAL's own ``conv2d_im2col``.
"""

import math
import time
from importlib.metadata import version

import numpy as np
import tenseal as ts
from layer import options, read, take_turns, tell

# SEAL refuses parameters with less than 128 bits of security; for this degree 109 bits of modulus
# are the most (HomomorphicEncryption.org, 2018). One product of an image and a weight fits.
DEGREE, MODULUS_BITS, SCALE_BITS = 4096, (54, 54), 24
SLOTS = DEGREE // 2


def columns(image):  # type: ignore[no-untyped-def]
    """(N, C, X, Y) to (C·9, N·X·Y): the voxels around each place."""
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return around.transpose(1, 4, 5, 0, 2, 3).reshape(9 * image.shape[1], -1)


def weighted(vectors, weights):  # type: ignore[no-untyped-def]
    """Σ weight · ciphertext."""
    total = vectors[0] * float(weights[0])
    for vector, weight in zip(vectors[1:], weights[1:], strict=True):
        total += vector * float(weight)
    return total


def main() -> None:
    """Be client and server, which exchange bytes, until nobody asks any more."""
    told = options()
    image, weight = read(told)
    rows = weight.reshape(len(weight), -1)
    client = ts.context(
        ts.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=list(MODULUS_BITS), n_threads=told.threads
    )
    client.global_scale = 2.0**SCALE_BITS
    client.auto_rescale = False  # there is no second product
    server = ts.context_from(client.serialize(save_secret_key=False), n_threads=told.threads)
    server.auto_rescale = False
    assert not server.has_secret_key()

    def turn():  # type: ignore[no-untyped-def]
        values = columns(image)
        blocks = range(0, values.shape[1], SLOTS)
        begun = time.perf_counter()
        sent = [
            [ts.ckks_vector(client, row[start : start + SLOTS]).serialize() for row in values]
            for start in blocks
        ]
        encrypted = time.perf_counter()
        answered = []
        for block in sent:
            vectors = [ts.ckks_vector_from(server, one) for one in block]
            answered.append([weighted(vectors, row).serialize() for row in rows])
        computed = time.perf_counter()
        plain = np.concatenate(
            [[ts.ckks_vector_from(client, one).decrypt() for one in block] for block in answered],
            axis=1,
        )
        decrypted = time.perf_counter()
        planes, _, *grid = image.shape
        np.save(told.answer, plain.reshape(len(rows), planes, *grid).swapaxes(0, 1))
        seconds = (encrypted - begun, computed - encrypted, decrypted - computed)
        sizes = (_bytes(sent), 0, _bytes(answered))
        names = ("encrypt", "convolve", "decrypt")
        return {
            "phases": {
                name: {"seconds": took, "bytes": size}
                for name, took, size in zip(names, seconds, sizes, strict=True)
            }
        }

    parameters = {
        "degree": DEGREE,
        "modulus_bits": list(MODULUS_BITS),
        "scale_bits": SCALE_BITS,
        "security_bits": 128,
        "slots": SLOTS,
        "ciphertexts": len(rows[0])
        * math.ceil(image.shape[0] * math.prod(image.shape[2:]) / SLOTS),
    }
    tell({"parameters": parameters, "libraries": {"tenseal": version("tenseal")}})
    take_turns(turn)


def _bytes(blocks) -> int:  # type: ignore[no-untyped-def]
    return sum(len(one) for block in blocks for one in block)


if __name__ == "__main__":
    main()
