/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCOPE_CRASH_DEMANGLE_H
#define SCOPE_CRASH_DEMANGLE_H

#define DEMANGLE_MAX 4096u   /* longer names are left as they are */
#define DEMANGLE_SHOWN 1024u /* of what comes out */

/* The name of a C++ or Rust function as its source has it (Itanium C++ ABI; Rust's v0 and its former mangling); others
 * as they are. malloc'ed, NULL without memory. */
char *demangle(const char *name);

#endif
