/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/proof.h"

#include <stdlib.h>
#include <sys/syscall.h>

#include "base/mem.h"

/* A place that a branch leads to. The largest browser has some 6 million. */
#define MAX_NODES (UINT32_C(16) << 20)
/* So many calls and jumps from the entry point on may be the one of the C library's start: musl relocates the program
 * before it. */
#define START_BRANCHES 256
/* How far a function is followed to its first call of another, and how many may be tried. */
#define TRY_STEPS 256
#define TRY_BRANCHES 32
#define TRY_MAX (UINT64_C(64) << 20)

enum mark {
    PROVEN = 1 << 0, /* first byte of an instruction that was reached */
    INNER = 1 << 1,  /* another byte of one */
    LEADER = 1 << 2, /* a node begins here */
};

struct node {
    uint64_t vaddr;
    uint32_t deps;   /* index + 1 of the first */
    uint8_t returns; /* a `ret` can be reached from here */
    uint8_t called;  /* a function */
};

/* Something that follows once a node is known to return. */
struct dep {
    uint32_t next;   /* index + 1 */
    uint32_t node;   /* returns, too, or ... */
    uint64_t resume; /* ... if not 0: goes on here, behind the call of that node */
};

struct indexes {
    uint32_t *v;
    size_t count, cap;
};

struct proof {
    struct code *c;
    struct number_finder *f;
    uint8_t *marks[ELF_MAX_TEXT];
    struct node *nodes;
    struct dep *deps;
    uint32_t *table; /* hash table of node indexes + 1 */
    size_t node_count, node_cap, dep_count, dep_cap, table_size;
    struct indexes walk, returned;
    unsigned start; /* branches in which main may still be named */
    int full;
};

static void indexes_push(struct indexes *s, uint32_t i)
{
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->v = xrealloc(s->v, s->cap, sizeof(*s->v));
    }
    s->v[s->count++] = i;
}

static uint8_t *marks_at(const struct proof *p, uint64_t vaddr)
{
    for (unsigned i = 0; i < p->c->elf->text_count; i++)
        if (vaddr - p->c->elf->text[i].vaddr < p->c->elf->text[i].size)
            return p->marks[i] + (vaddr - p->c->elf->text[i].vaddr);
    return NULL;
}

/* --- nodes ---------------------------------------------------------------------- */

static size_t table_slot(const struct proof *p, uint64_t vaddr)
{
    size_t i = (size_t)((vaddr * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (p->table_size - 1);

    while (p->table[i] && p->nodes[p->table[i] - 1].vaddr != vaddr)
        i = (i + 1) & (p->table_size - 1);
    return i;
}

static void table_grow(struct proof *p)
{
    p->table_size = p->table_size ? p->table_size * 2 : 1u << 12;
    free(p->table);
    p->table = xcalloc(p->table_size, sizeof(*p->table));
    for (size_t i = 0; i < p->node_count; i++)
        p->table[table_slot(p, p->nodes[i].vaddr)] = (uint32_t)i + 1;
}

/* Whether others prove what is at vaddr. */
static int described(const struct proof *p, uint64_t vaddr)
{
    return go_text_at(&p->c->go, vaddr) || eh_function_at(&p->c->eh, vaddr);
}

/* Whether a described function has a way out other than calls. */
static int described_returns(const struct proof *p, uint64_t vaddr)
{
    const struct eh_function *f = eh_function_at(&p->c->eh, vaddr);
    struct x86_instr in;

    if (!f)
        return 1; /* all of Go's do, or are no functions to call from C */
    for (uint64_t v = f->start; v - f->start < f->size; v += in.len) {
        if (!code_decode(p->c, v, &in))
            return 0;
        if (in.kind == X86_RET ||
            (in.kind == X86_JMP && (!in.rel_size || x86_rel_target(v, &in) - f->start >= f->size)))
            return 1;
    }
    return 0;
}

/* The node at vaddr, which control reaches: index, or -1 if there is no text. A new one will be walked. */
static int64_t node_at(struct proof *p, uint64_t vaddr)
{
    uint8_t *m = marks_at(p, vaddr);
    size_t slot;
    uint32_t index;

    if (!m || p->full)
        return -1;
    if (p->node_count * 2 >= p->table_size)
        table_grow(p);
    slot = table_slot(p, vaddr);
    if (p->table[slot])
        return p->table[slot] - 1;
    if (p->node_count == MAX_NODES) {
        p->full = 1;
        return -1;
    }
    if (p->node_count == p->node_cap) {
        p->node_cap = p->node_cap ? p->node_cap * 2 : 1024;
        p->nodes = xrealloc(p->nodes, p->node_cap, sizeof(*p->nodes));
    }
    index = (uint32_t)p->node_count++;
    p->nodes[index] = (struct node){.vaddr = vaddr};
    p->table[slot] = index + 1;
    if (!described(p, vaddr)) {
        *m |= LEADER;
        indexes_push(&p->walk, index);
    } else if (described_returns(p, vaddr)) {
        indexes_push(&p->returned, index);
    }
    return index;
}

/* Once `on` returns: control goes on at `resume`, behind a call that `node` makes, or, if that is 0, node returns. */
static void depend(struct proof *p, int64_t on, uint32_t node, uint64_t resume)
{
    if (on < 0)
        return;
    if (p->dep_count == p->dep_cap) {
        p->dep_cap = p->dep_cap ? p->dep_cap * 2 : 1024;
        p->deps = xrealloc(p->deps, p->dep_cap, sizeof(*p->deps));
    }
    p->deps[p->dep_count] = (struct dep){p->nodes[on].deps, node, resume};
    p->nodes[on].deps = (uint32_t)++p->dep_count;
    if (p->nodes[on].returns)
        indexes_push(&p->returned, (uint32_t)on);
}

static void node_returned(struct proof *p, uint32_t index)
{
    uint32_t next = p->nodes[index].deps;

    p->nodes[index].returns = 1;
    p->nodes[index].deps = 0;
    while (next) {
        struct dep d = p->deps[next - 1];

        if (d.resume)
            depend(p, node_at(p, d.resume), d.node, 0);
        else if (!p->nodes[d.node].returns)
            indexes_push(&p->returned, d.node);
        next = d.next;
    }
}

/* --- walking ---------------------------------------------------------------------- */

/* A call after which nothing runs. */
static int ends_thread(int32_t nr)
{
    return nr == SYS_exit || nr == SYS_exit_group || nr == SYS_rt_sigreturn;
}

/* A branch that leads to `target`. One that the sweep hasn't seen may land where it knows of none. */
static int64_t branch_to(struct proof *p, uint64_t source, uint64_t target)
{
    const uint8_t *from = code_marks(p->c, source);
    uint8_t *to = code_marks(p->c, target);

    if (to && !(*from & CODE_START))
        *to |= CODE_ENTRY;
    return node_at(p, target);
}

/* A function that is known by other means than a branch. */
static void root(struct proof *p, uint64_t vaddr)
{
    int64_t index = node_at(p, vaddr);

    if (index >= 0)
        p->nodes[index].called = 1;
}

/* The start code of glibc and musl calls __libc_start_main(main, argc, argv, init, fini, ...), where init and fini are
 * functions, or nothing since glibc 2.34: that is how main is found in a program without symbols. */
static void look_for_main(struct proof *p, uint64_t vaddr)
{
    enum { RCX = 1, RDI = 7, R8 = 8 };
    uint64_t main, init, fini;

    if (!p->start)
        return;
    p->start--;
    if (!number_register(p->f, p->c, vaddr, RDI, &main) || !elf_text_at(p->c->elf, main) ||
        !number_register(p->f, p->c, vaddr, RCX, &init) || !number_register(p->f, p->c, vaddr, R8, &fini) ||
        (init ? !elf_text_at(p->c->elf, init) || !elf_text_at(p->c->elf, fini) : fini != 0))
        return;
    root(p, main);
    p->start = 0;
}

/* Where a call or jump leads to: 1 if that is known. */
static int target_of(struct proof *p, uint64_t vaddr, const struct x86_instr *in, uint64_t *ret)
{
    if (in->rel_size) {
        *ret = x86_rel_target(vaddr, in);
        return 1;
    }
    return in->modrm >= 0xc0 && number_register(p->f, p->c, vaddr, (in->modrm & 7) | (in->rex & 1 ? 8 : 0), ret) &&
           elf_text_at(p->c->elf, *ret);
}

static void walk(struct proof *p, uint32_t index)
{
    uint64_t v = p->nodes[index].vaddr, target;
    struct x86_instr in;
    int64_t to;

    for (;; v += in.len) {
        uint8_t *m = marks_at(p, v);

        if (!m || !code_decode(p->c, v, &in))
            return;
        if (v != p->nodes[index].vaddr && ((*m & LEADER) || described(p, v))) {
            depend(p, node_at(p, v), index, 0);
            return;
        }
        *m |= PROVEN;
        for (unsigned i = 1; i < in.len; i++)
            m[i] |= INNER;
        switch (in.kind) {
        case X86_RET:
            indexes_push(&p->returned, index);
            return;
        case X86_JMP:
            look_for_main(p, v);
            if (target_of(p, v, &in, &target))
                depend(p, branch_to(p, v, target), index, 0);
            else /* a switch, or a function that is called last: as a rule these return */
                indexes_push(&p->returned, index);
            return;
        case X86_JCC:
        case X86_LOOP:
        case X86_XBEGIN:
            depend(p, branch_to(p, v, x86_rel_target(v, &in)), index, 0);
            break;
        case X86_CALL:
            look_for_main(p, v);
            if (!target_of(p, v, &in, &target))
                break;
            to = branch_to(p, v, target);
            if (to >= 0)
                p->nodes[to].called = 1;
            depend(p, to, index, v + in.len);
            return;
        case X86_SYSCALL:
            if (ends_thread(number_find(p->f, p->c, v)))
                return;
            break;
        default:
            if (x86_ends_flow(&in))
                return;
        }
    }
}

static void walk_all(struct proof *p)
{
    while ((p->walk.count || p->returned.count) && !p->full) {
        if (p->returned.count)
            node_returned(p, p->returned.v[--p->returned.count]);
        else
            walk(p, p->walk.v[--p->walk.count]);
    }
}

/* --- where control certainly is ------------------------------------------------------ */

/* What functions with unwind information call, or jump to at their end. */
static void root_calls(struct proof *p)
{
    const struct code *c = p->c;

    for (size_t i = 0; i < c->eh.count; i++) {
        uint64_t start = c->eh.v[i].start, size = c->eh.v[i].size, left = 0;
        const uint8_t *b = code_bytes(c, start, &left), *m = code_marks(c, start);

        for (uint64_t k = 0; b && k < size && k + 5 <= left; k++) {
            struct x86_instr in;
            uint64_t target;

            if (!(m[k] & CODE_START) || (b[k] != 0xe8 && b[k] != 0xe9) || !code_decode(c, start + k, &in))
                continue;
            target = x86_rel_target(start + k, &in);
            if (target - start >= size && !described(p, target))
                root(p, target);
        }
    }
}

/* --- addresses that are taken ---------------------------------------------------------- */

/* Whether a branch at vaddr leads to a proven function. Short ones lead to what is near, whatever they are. */
static int leads_to_function(const struct proof *p, uint64_t vaddr, const struct x86_instr *in)
{
    uint64_t target = x86_rel_target(vaddr, in);
    const struct eh_function *f;
    uint32_t index;

    if (in->rel_size != 4 || (in->kind != X86_CALL && in->kind != X86_JMP))
        return 0;
    f = eh_function_at(&p->c->eh, target);
    if (f)
        return f->start == target;
    index = p->table_size ? p->table[table_slot(p, target)] : 0;
    return index && p->nodes[index - 1].called;
}

/* Whether control that begins at vaddr comes to a call of a proven function, by way of nothing but instructions. */
static int is_function(const struct proof *p, uint64_t vaddr, uint64_t *steps)
{
    uint64_t starts[TRY_BRANCHES] = {vaddr};
    unsigned count = 1, left = TRY_STEPS;

    for (unsigned i = 0; i < count; i++) {
        struct x86_instr in = {0};

        for (uint64_t v = starts[i]; left; v += in.len) {
            const uint8_t *m = marks_at(p, v);
            uint64_t target;
            unsigned known = 0;

            if (!m || (*m & INNER) || described(p, v) || !code_decode(p->c, v, &in))
                return 0;
            left--;
            (*steps)++;
            if (leads_to_function(p, v, &in))
                return 1;
            if (in.rel_size && in.kind != X86_CALL) {
                target = x86_rel_target(v, &in);
                while (known < count && starts[known] != target)
                    known++;
                if (known == count && count < TRY_BRANCHES)
                    starts[count++] = target;
            }
            if (x86_ends_flow(&in) || in.kind == X86_CALL)
                break; /* whether the function that is called returns isn't known */
        }
    }
    return 0;
}

/* Looks at all that may be a function until no more turn out to be one. */
static void root_taken(struct proof *p)
{
    const struct elf_image *elf = p->c->elf;
    uint64_t steps = 0;
    size_t before;

    do {
        before = p->node_count;
        for (unsigned i = 0; i < elf->text_count && !p->full; i++)
            for (uint64_t k = 0; k < elf->text[i].size && steps < TRY_MAX; k++) {
                uint64_t v = elf->text[i].vaddr + k;

                if ((p->c->marks[i][k] & (CODE_START | CODE_ENTRY)) != (CODE_START | CODE_ENTRY) ||
                    (p->marks[i][k] & (PROVEN | INNER)) || described(p, v) || !is_function(p, v, &steps))
                    continue;
                root(p, v);
                walk_all(p);
            }
    } while (p->node_count > before && !p->full);
}

struct proof *proof_make(struct code *c, struct number_finder *f)
{
    struct proof *p = xcalloc(1, sizeof(*p));

    p->c = c;
    p->f = f;
    for (unsigned i = 0; i < c->elf->text_count; i++) {
        p->marks[i] = calloc(c->elf->text[i].size + X86_INSN_MAX, 1);
        if (!p->marks[i]) {
            proof_free(p);
            return NULL;
        }
    }
    p->start = START_BRANCHES;
    node_at(p, c->elf->entry);
    walk_all(p);
    p->start = 0;
    for (size_t i = 0; i < c->functions.count; i++)
        if (!described(p, c->functions.v[i]))
            root(p, c->functions.v[i]);
    root_calls(p);
    walk_all(p);
    root_taken(p);
    if (p->full) {
        proof_free(p);
        return NULL;
    }
    return p;
}

void proof_free(struct proof *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < ELF_MAX_TEXT; i++)
        free(p->marks[i]);
    free(p->nodes);
    free(p->deps);
    free(p->table);
    free(p->walk.v);
    free(p->returned.v);
    free(p);
}

int proof_holds(const struct proof *p, uint64_t vaddr)
{
    const uint8_t *m = marks_at(p, vaddr);

    return m && (*m & (PROVEN | INNER)) == PROVEN;
}
