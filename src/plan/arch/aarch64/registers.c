/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/aarch64/registers.h"

/* Bounds of a search, and of all those of an image. Real code mostly needs a few dozen steps; large functions that a
 * compiler has inlined calls into need thousands. */
#define MAX_STEPS 4000u
#define MAX_DEPTH 250u
#define MAX_TARGETS 256u
#define MAX_WORK (UINT64_C(1) << 26)
#define MAX_BACK 64u         /* words */
#define MAX_BODY (1u << 18) /* bytes of a function */

int32_t a64_number(const struct text *c, uint64_t vaddr)
{
    unsigned reg = A64_X8;

    for (unsigned i = 0; i < MAX_BACK; i++) {
        uint64_t v;
        uint32_t w;
        int from;

        /* Others come here with numbers of their own. */
        if (text_arrives(c, vaddr))
            return -1;
        vaddr -= A64_SIZE;
        if (!text_word(c, vaddr, &w) || a64_ends_flow(a64_kind(w)))
            return -1;
        if (a64_constant(w, reg, &v))
            return v <= INT32_MAX ? (int32_t)v : -1;
        from = a64_copied(w, reg);
        if (from >= 0) {
            reg = (unsigned)from;
            continue;
        }
        switch (a64_kind(w)) {
        case A64_CALL: case A64_CALLREG:
            if (reg < 19 || reg > 28)
                return -1;
            break;
        case A64_KERNEL: /* keeps all but x0 */
            if (reg == 0)
                return -1;
            break;
        case A64_BRANCH: /* writes nothing */
            break;
        default:
            /* Whether it writes the register isn't always certain where it names it. */
            if ((w & 31) == reg || a64_use(w, reg) != A64_UNTOUCHED)
                return -1;
        }
    }
    return -1;
}

/* br x30 is a return in glibc's vfork, which returns twice. Where a compiler jumps by a table, it has just computed
 * where to. */
static bool is_return(const struct text *c, uint64_t vaddr, uint32_t w)
{
    uint32_t before;

    return w == 0xd61f03c0 && text_word(c, vaddr - A64_SIZE, &before) && a64_ends_flow(a64_kind(before));
}

struct search {
    struct text *c;
    unsigned reg, steps;
    unsigned seen_count;
    uint64_t seen[MAX_TARGETS]; /* targets that were gone to */
};

static bool dead_at(struct search *s, uint64_t vaddr, unsigned depth)
{
    bool scratch = s->reg == A64_X16 || s->reg == A64_X17;
    uint32_t w;

    for (;;) {
        enum a64_kind kind;

        if (++s->steps > MAX_STEPS || ++s->c->work > MAX_WORK || !text_word(s->c, vaddr, &w))
            return false;
        kind = a64_kind(w);
        switch (kind) {
        case A64_CALL: case A64_CALLREG: case A64_RET:
            if (kind == A64_CALLREG && (w >> 5 & 31) == s->reg)
                return false;
            if (scratch)
                return true;
            return false;
        case A64_KERNEL:
            if (s->reg <= 8)
                return false;
            break;
        case A64_TRAP:
            return true;
        case A64_INDIRECT: case A64_BAD:
            return scratch && is_return(s->c, vaddr, w);
        case A64_JUMP: case A64_BRANCH: {
            uint64_t to = a64_target(w, vaddr);
            bool known = false;

            if (a64_use(w, s->reg) == A64_READ)
                return false;
            for (unsigned i = 0; i < s->seen_count && !known; i++)
                known = s->seen[i] == to;
            if (!known) {
                if (s->seen_count == MAX_TARGETS || depth == MAX_DEPTH)
                    return false;
                s->seen[s->seen_count++] = to;
                if (!dead_at(s, to, depth + 1))
                    return false;
            }
            if (kind == A64_JUMP)
                return true;
            break;
        }
        default:
            switch (a64_use(w, s->reg)) {
            case A64_READ: return false;
            case A64_WRITTEN: return true;
            default: break;
            }
        }
        vaddr += A64_SIZE;
    }
}

/* Whether no instruction of the function that holds vaddr names the register. What x16 and x17 hold at a function's
 * beginning means nothing (AAPCS64, 6.1.1), so one in which the function puts nothing has nothing for anybody: neither
 * behind a jump by a table, nor in parts of it that lie elsewhere. */
static bool unused_in_function(struct text *c, uint64_t vaddr, unsigned reg)
{
    uint64_t lo, hi;
    uint32_t w;

    if ((reg != A64_X16 && reg != A64_X17) || !text_body(c, vaddr, &lo, &hi) || hi - lo > MAX_BODY)
        return false;
    for (; lo < hi; lo += A64_SIZE)
        if (++c->work > MAX_WORK || !text_word(c, lo, &w) || a64_kind(w) == A64_BAD || a64_use(w, reg) != A64_UNTOUCHED)
            return false;
    return true;
}

bool a64_is_dead(struct text *c, uint64_t vaddr, unsigned reg)
{
    struct search s = {.c = c, .reg = reg};

    return dead_at(&s, vaddr, 0) || unused_in_function(c, vaddr, reg);
}

int a64_dead_register(struct text *c, uint64_t vaddr)
{
    static const uint8_t order[] = {17, 16, 15, 14, 13, 12, 11, 10, 9, 7, 6};

    for (unsigned i = 0; i < sizeof(order); i++)
        if (a64_is_dead(c, vaddr, order[i]))
            return order[i];
    return -1;
}
