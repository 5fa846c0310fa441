# SPDX-License-Identifier: Apache-2.0
"""A second opinion (lib/tlsopinion.py) on what hooks see of OpenSSL and GnuTLS; Go's and Java's are in test_go.py and
test_java.py."""

from tlsopinion import add_opinions


def curl(ctx):
    return lambda port: [ctx.tool("curl"), "-sk", "--http1.1", *(f"https://127.0.0.1:{port}/{i}" for i in range(3)),
                         "--next", "-sk", "--http1.1", "-d", "z" * 3000, f"https://127.0.0.1:{port}/post"]


def wget(ctx):
    return lambda port: [ctx.tool("wget"), "-qO-", "--no-check-certificate", *(f"https://127.0.0.1:{port}/{i}" for i in range(3))]


add_opinions("openssl", "library", 1, curl, rb"X{20000}Z{3000}$")
add_opinions("gnutls", "library", 1, wget, rb"X{60000}$")
