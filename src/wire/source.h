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
};

#endif
