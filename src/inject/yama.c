/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/yama.h"

#include <stdio.h>

enum yama_scope yama_scope(void)
{
    FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    int c = f ? fgetc(f) : EOF;

    if (f)
        fclose(f);
    return c >= '1' && c <= '3' ? (enum yama_scope)(c - '0') : YAMA_CLASSIC;
}

const char *yama_refusal(void)
{
    switch (yama_scope()) {
    case YAMA_CLASSIC:
        break;
    case YAMA_RELATIVES:
        return "it may not be traced by this user: that takes root or CAP_SYS_PTRACE, as kernel.yama.ptrace_scope is "
               "1; if it were 0 its owner could, too";
    case YAMA_ADMIN:
        return "it may not be traced by this user: that takes root or CAP_SYS_PTRACE, as kernel.yama.ptrace_scope is 2";
    case YAMA_NOBODY:
        return "nobody may trace it, not even root, as kernel.yama.ptrace_scope is 3; only a restart of the machine "
               "takes that back";
    }
    return "it may not be traced by this user: that takes root or CAP_SYS_PTRACE (containers: --cap-add SYS_PTRACE), "
           "or to be its owner";
}
