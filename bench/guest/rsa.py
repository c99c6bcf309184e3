"""RSA signatures by OpenSSL: a fixed number in one process, with a key that is always the same."""
import ctypes
import hashlib

crypto = ctypes.CDLL("libcrypto.so.3")
for name in ("d2i_AutoPrivateKey", "EVP_MD_CTX_new", "EVP_sha256"):
    getattr(crypto, name).restype = ctypes.c_void_p

der = open("/bench/data/rsa.der", "rb").read()
cursor = ctypes.c_char_p(der)
key = crypto.d2i_AutoPrivateKey(None, ctypes.byref(cursor), ctypes.c_long(len(der)))
assert key, "the key is not readable"
signatures = hashlib.md5()
for i in range(150):
    message = b"message %d" % i
    context = ctypes.c_void_p(crypto.EVP_MD_CTX_new())
    size = ctypes.c_size_t(512)
    signature = ctypes.create_string_buffer(512)
    assert crypto.EVP_DigestSignInit(context, None, ctypes.c_void_p(crypto.EVP_sha256()), None, ctypes.c_void_p(key)) == 1
    assert crypto.EVP_DigestSign(context, signature, ctypes.byref(size), message, ctypes.c_size_t(len(message))) == 1
    crypto.EVP_MD_CTX_free(context)
    signatures.update(signature.raw[:size.value])
print(signatures.hexdigest())
