from ._pycache import decode, encode
