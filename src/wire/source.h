/* SPDX-License-Identifier: Apache-2.0 */
/* Where captured bytes come from. Usable freestanding. */
#ifndef SCOPE_WIRE_SOURCE_H
#define SCOPE_WIRE_SOURCE_H

enum data_source {
    DATA_FILE,     /* written to a file, or to the console */
    DATA_TX,       /* sent through a socket */
    DATA_RX,       /* received from one */
    DATA_TLS_TX,   /* plaintext of a TLS library, by its functions */
    DATA_TLS_RX,
    DATA_HELLO_TX, /* the first encrypted bytes that a TLS library writes to a transport that isn't known to be a socket */
    DATA_HELLO_RX, /* ... or reads from one */
};

/* How plaintext of TLS is learnt. */
enum data_way {
    DATA_WAY_LIBRARY, /* by functions of a library (functions.def) */
    DATA_WAY_GO,      /* by methods of Go's crypto/tls */
    DATA_WAY_JSSE,    /* by classes of Java's */
    DATA_WAYS
};
#define DATA_WAY_SHIFT 32u

/* DATA_HELLO_*: so many, up to the end of the random in a ClientHello (RFC 8446, sections 5.1, 4, 4.1.2): header of the
 * record, header of the message, version, random. */
#define DATA_HELLO_BYTES (5u + 4u + 2u + 32u)

#endif
