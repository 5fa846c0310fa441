/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/plan.h"

#include <inttypes.h>

#include "plan/machine.h"
#include "wire/syscalls.h"

const char *plan_method_name(unsigned method)
{
    static const char *const names[PLAN_METHODS] = {
        [PLAN_NONE] = "left alone", [PLAN_AFTER] = "after",   [PLAN_SHORT] = "short jump", [PLAN_MOVE] = "moved",
        [PLAN_CALLER] = "caller",   [PLAN_SPAN] = "spanning", [PLAN_BEFORE] = "before",
        [PLAN_FUNCTION] = "function",
    };

    return method < PLAN_METHODS ? names[method] : "?";
}

const char *plan_reason_name(unsigned reason)
{
    static const char *const names[PLAN_REASON_MAX] = {
        [PLAN_OK] = "",
        [PLAN_R_UNINTERESTING] = "not observed",
        [PLAN_R_BRANCH_TARGET] = "a branch lands inside",
        [PLAN_R_RELOCATE] = "an instruction can't be moved",
        [PLAN_R_NO_ROOM] = "no room",
        [PLAN_R_OVERLAP] = "overlaps a neighbour",
        [PLAN_R_CANCEL_RANGE] = "cancellation range",
        [PLAN_R_RSEQ] = "restartable sequence",
        [PLAN_R_DATA_IN_TEXT] = "taken for data",
        [PLAN_R_MINOR] = "only flags",
        [PLAN_R_UNPROVEN] = "not proven to be code",
        [PLAN_R_NO_REGISTER] = "no register is free",
        [PLAN_R_ENTER_ONLY] = "no enter hook",
        [PLAN_R_NO_STACK] = "no stack to run on",
        [PLAN_R_UNKNOWN_FORM] = "instructions aren't known",
        [PLAN_R_SELF_CHECK] = "it checks its own code",
        [PLAN_R_CHANGED] = "not the bytes of its file",
        [PLAN_R_OCCUPIED] = "a thread stood in it",
        [PLAN_R_PROTECTED] = "code can't be changed",
        [PLAN_R_RUNNING] = "only at the start",
        [PLAN_R_NO_POINTER] = "FSGSBASE is missing",
    };

    return reason < PLAN_REASON_MAX ? names[reason] : "?";
}

/* Whether a site is for programs that start. */
static int starts(const struct plan_header *h, uint32_t site)
{
    const struct plan_patch *p = (const struct plan_patch *)(const void *)((const char *)h + h->patch_off);

    for (uint32_t i = 0; i < h->patch_count; i++)
        if (p[i].site == site && p[i].when == PLAN_TRAFFIC_START)
            return 1;
    return 0;
}

void plan_explain(const void *plan, size_t size, FILE *out)
{
    const struct plan_header *h = plan;
    const struct plan_machine *m;
    const char *base = plan;
    const struct plan_site *sites;
    unsigned by_method[16] = {0}, wanted = 0, hooked = 0, partly = 0;

    if (!plan_check(plan, size)) {
        fprintf(out, "not a plan of this version\n");
        return;
    }
    m = plan_machine_of_arch(h->arch);
    sites = (const struct plan_site *)(const void *)(base + h->site_off);
    fprintf(out, "%-18s %-28s %-11s %-30s %s\n", "address", "call", "method", "reason", "hooks");
    for (uint32_t i = 0; i < h->site_count; i++) {
        const struct plan_site *s = &sites[i];
        enum op_id op = m ? m->op(s->nr) : OP_NONE;
        char number[32];

        if (s->flags & PLAN_F_FUNCTION)
            snprintf(number, sizeof(number), "%s", fn_name((unsigned)s->nr));
        else
            snprintf(number, sizeof(number), s->nr < 0 ? "any" : op ? "%s" : "#%.0s%d", op_name(op), s->nr);
        fprintf(out, "%#-18" PRIx64 " %-28s %-11s %-30s %s%s%s%s%s%s%s%s\n", s->vaddr, number, plan_method_name(s->method),
                plan_reason_name(s->reason), s->flags & PLAN_F_ENTER ? "enter " : "", s->flags & PLAN_F_EXIT ? "exit " : "",
                s->flags & PLAN_F_CHECK_ORIGIN ? "check-origin " : "", s->flags & PLAN_F_NORETURN ? "noreturn " : "",
                s->flags & PLAN_F_NR_KEPT ? "go, kept" : s->flags & PLAN_F_GO ? "go" : "",
                s->flags & PLAN_F_GO_STACK ? ", on the stack" : "", s->flags & PLAN_F_GO_KEPT ? ", arguments kept" : "",
                starts(h, i) ? ", at the start only" : "");
        by_method[s->method & 15]++;
        if (s->reason == PLAN_R_UNINTERESTING)
            continue;
        wanted++;
        hooked += s->method != PLAN_NONE;
        partly += s->method != PLAN_NONE && s->reason != PLAN_OK;
    }
    fprintf(out,
            "key %.*s: %u sites, %u of them observable, %u hooked (%u without their enter hook): %u after, %u before, "
            "%u short jump, %u moved, %u spanning, %u caller, %u functions; %u patches, %u bytes of code\n",
            (int)PLAN_KEY_MAX, h->key, h->site_count, wanted, hooked, partly, by_method[PLAN_AFTER],
            by_method[PLAN_BEFORE], by_method[PLAN_SHORT], by_method[PLAN_MOVE], by_method[PLAN_SPAN],
            by_method[PLAN_CALLER], by_method[PLAN_FUNCTION], h->patch_count, h->blob_size);
}
