/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of observed functions (functions.def) as enums and as data.
 * Usable freestanding. Everything here is constant.
 */
#ifndef SCOPE_WIRE_FUNCTIONS_H
#define SCOPE_WIRE_FUNCTIONS_H

#include <stdint.h>

#include "wire/source.h"

/* A library, by functions that belong together, and a function that no other library has. */
enum fn_family { FNF_OPENSSL, FNF_BIO, FNF_GNUTLS, FNF_NSS, FNF_NSPR, FNF_MBEDTLS, FNF_WOLFSSL, FNF_AES, FNF_GO, FNF_JNI, FNF_MAX };
#define FN_WITNESSES \
    {"SSL_CTX_new", "BIO_s_mem", "gnutls_init", "SSL_ImportFD", "PR_PushIOLayer", "mbedtls_ssl_setup", "wolfSSL_CTX_new", \
     "" /* found by other means (plan/machine.h) */, "crypto/tls.(*Conn).Read", "Java_sun_nio_ch_Net_socket0"}

/*
 * What a call does. Bytes are told as REC_DATA (wire/record.h) with the object and the descriptor, -1 if none is known;
 * its position is 0. A gap has no ITEM_DATA. No ITEM_DATA and ret 0: the object begins or ends, what follows with this
 * address is another connection's; with the object 0: of each object something may be missing here, nobody knows how
 * much.
 */
enum fn_shape {
    FNS_DATA,   /* takes or gives the bytes of a buffer */
    FNS_VECTOR, /* takes those of several: `buffer` is an array of struct fn_vector, `length` their number, an int */
    FNS_LENGTH, /* moves bytes that it has no buffer for: told as a gap */
    FNS_INSIDE, /* may make socket calls for the connection; nothing else of it is told */
    FNS_FLUSH,  /* passes on what was told before: calls inside it tell nothing */
    FNS_NEW,    /* makes a connection */
    FNS_END,    /* ends one */
    FNS_FD,     /* says which descriptors a connection uses */
    FNS_CIPHER, /* passes encrypted bytes on, for the connection of the function that it is called in; of a BIO that is a
                 * connection (FNS_METHODS) plaintext */
    FNS_KEY,    /* is given the key of a cipher: `object` points to it, `length` are its bits. The key is put into the
                 * segment (wire/segment.h), nothing is told */
    FNS_METHODS, /* returns the methods of BIOs that are connections */
    FNS_JNI,     /* a native method of Java's network: what it does isn't looked at, but the VM can be spoken to (probe/jsse.h) */
};

/* PRIOVec of NSPR (prio.h) */
struct fn_vector {
    const char *data;
    int32_t len;
};

/* fn_desc.object, buffer, length: an argument's number, or: */
#define FN_RESULT 6u
#define FN_NONE 7u
#define FN_OUT(n) (8u + (n))

/* fn_desc.result: how many bytes */
enum fn_result {
    FNR_NONE,
    FNR_INT,  /* an int; none if it isn't positive */
    FNR_LONG, /* a ssize_t; likewise */
    FNR_ALL,  /* all of the buffer, if it is 0 */
    FNR_OUT0, /* FNR_OUT(n) */
};
#define FNR_OUT(n) (FNR_OUT0 + (n))

enum fn_flag {
    FNX_LAYER = 1 << 0, /* the object is a PRFileDesc, whose first word points to its methods */
    FNX_PEEK  = 1 << 1, /* with bit FN_PEEK in argument 3 the bytes stay (PR_MSG_PEEK, prio.h) */
    FNX_AGAIN = 1 << 3, /* FNS_END: the object goes on as another connection */
    FNX_BIO   = 1 << 2, /* the object is a BIO, and a connection only if it has the methods of one (FNS_METHODS) */
};
#define FN_PEEK 2u

enum fn_id {
#define FUNCTION(name, family, shape, source, object, buffer, length, result, flags) FN_##name,
#include "wire/functions.def"
#undef FUNCTION
    FN_MAX
};

struct fn_desc {
    uint8_t family; /* enum fn_family */
    uint8_t shape;  /* enum fn_shape */
    uint8_t source; /* enum data_source */
    uint8_t object, buffer, length;
    uint8_t result; /* enum fn_result, or FNR_OUT(n) */
    uint8_t flags;  /* enum fn_flag */
};

static const struct fn_desc fn_table[FN_MAX] __attribute__((unused)) = {
#define FUNCTION(name, family, shape, source, object, buffer, length, result, flags) \
    [FN_##name] = {family, shape, source, object, buffer, length, result, flags},
#include "wire/functions.def"
#undef FUNCTION
};

/* The name of a function; "?" if there is none of that number. */
static inline const char *fn_name(unsigned fn)
{
    static const char *const names[FN_MAX] = {
#define FUNCTION(name, family, shape, source, object, buffer, length, result, flags) [FN_##name] = #name,
#include "wire/functions.def"
#undef FUNCTION
    };
    return fn < FN_MAX ? names[fn] : "?";
}

/* Goes on with an FNV-1a hash over the table: part of syscall_table_hash(). */
static inline uint64_t fn_table_hash(uint64_t h)
{
    static const char names[] =
#define FUNCTION(name, family, shape, source, object, buffer, length, result, flags) #name " "
#include "wire/functions.def"
#undef FUNCTION
        ;

    for (unsigned i = 0; i < sizeof(names); i++)
        h = (h ^ (uint8_t)names[i]) * UINT64_C(0x100000001b3);
    for (unsigned i = 0; i < FN_MAX; i++) {
        uint64_t row;

        __builtin_memcpy(&row, &fn_table[i], sizeof(row));
        h = (h ^ row) * UINT64_C(0x100000001b3);
    }
    return h;
}

_Static_assert(sizeof(struct fn_desc) == 8, "fn_table_hash takes a row for a word");

#endif
