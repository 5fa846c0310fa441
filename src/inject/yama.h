/* SPDX-License-Identifier: Apache-2.0 */
/* What the security module Yama lets trace whom: kernel.yama.ptrace_scope (the kernel's
 * Documentation/admin-guide/LSM/Yama.rst). */
#ifndef SCOPE_INJECT_YAMA_H
#define SCOPE_INJECT_YAMA_H

enum yama_scope {
    YAMA_CLASSIC,   /* whoever may by other rules, also where there is no Yama */
    YAMA_RELATIVES, /* ancestors, whom a process names (PR_SET_PTRACER), and CAP_SYS_PTRACE */
    YAMA_ADMIN,     /* CAP_SYS_PTRACE */
    YAMA_NOBODY,    /* nobody, until the machine is restarted */
};

enum yama_scope yama_scope(void);

/* Why a running process may not be traced, and what would help: for people, after "can't ...: ". */
const char *yama_refusal(void);

#endif
