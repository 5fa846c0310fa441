/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plaintext of JSSE, the TLS of Java's own class library, on HotSpot: three of its
 * classes get calls of native methods, which are the probe's (classfile.h), in
 * their place and while they are used. design: docs/INTERNALS.md, "Java".
 *
 * Everything here runs on a thread of the VM, on its own stack, while it is in
 * native code: in a native method of the program's, before that does anything
 * (wire/functions.def, FNS_JNI), in one of ours, or in a callback of JVM TI. Not
 * safe in signal handlers, and called in none.
 */
#ifndef SCOPE_PROBE_JSSE_H
#define SCOPE_PROBE_JSSE_H

#include "lib.h"

/* A native method of the network is called, with this JNIEnv *. */
void jsse_network(void *env);

/* Net_pollinValue is called, which is at this address: by the program, or by the VM with an event for us. */
void jsse_event(const struct function_regs *r, uint64_t at);

#endif
