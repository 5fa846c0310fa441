/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/notes.h"

#include <elf.h>
#include <string.h>
#include <sys/procfs.h>

#include "base/mem.h"
#include "core_arch.h"

struct note {
    const char *name;
    uint32_t type;
    const uint8_t *desc;
    size_t size;
};

static bool next_note(const uint8_t **at, const uint8_t *end, struct note *ret)
{
    Elf64_Nhdr h;
    size_t name, desc, left = (size_t)(end - *at);

    if (left < sizeof(h))
        return false;
    memcpy(&h, *at, sizeof(h));
    left -= sizeof(h);
    name = ((size_t)h.n_namesz + 3) & ~(size_t)3;
    desc = ((size_t)h.n_descsz + 3) & ~(size_t)3;
    if (name > left || desc > left - name || !h.n_namesz || (*at)[sizeof(h) + h.n_namesz - 1])
        return false;
    *ret = (struct note){(const char *)*at + sizeof(h), h.n_type, *at + sizeof(h) + name, h.n_descsz};
    *at += sizeof(h) + name + desc;
    return true;
}

static bool is(const struct note *n, const char *name, uint32_t type)
{
    return n->type == type && strcmp(n->name, name) == 0;
}

/* A set may have more than is wanted of it. */
static void take_more(const struct note *n, machine_more *ret)
{
    for (size_t i = 0; i < machine_note_count; i++)
        if (n->type == machine_notes[i].type && n->size >= machine_notes[i].size) {
            memcpy((char *)ret + machine_notes[i].offset, n->desc, machine_notes[i].size);
            ret->have |= UINT64_C(1) << i;
        }
}

size_t notes_threads(const void *notes, size_t size, void (*fn)(void *ctx, struct crash_thread *th), void *ctx)
{
    const uint8_t *at = notes, *end = at + size;
    struct crash_thread th = {0};
    struct elf_prstatus status;
    size_t count = 0;
    struct note n;

    while (next_note(&at, end, &n)) {
        if (is(&n, "CORE", NT_PRSTATUS) && n.size == sizeof(status)) {
            if (count++)
                fn(ctx, &th);
            th = (struct crash_thread){.stands = true};
            memcpy(&status, n.desc, sizeof(status));
            th.own_tid = status.pr_pid;
            memcpy(&th.regs, &status.pr_reg, sizeof(th.regs));
            th.sigmask = status.pr_sighold;
            th.sigpending = status.pr_sigpend;
        } else if (!count) {
            continue; /* nobody's */
        } else if (is(&n, "CORE", NT_SIGINFO) && n.size == sizeof(th.siginfo)) {
            memcpy(&th.siginfo, n.desc, sizeof(th.siginfo));
            th.has_siginfo = true;
        } else if (is(&n, "CORE", NT_PRFPREG) && n.size == sizeof(th.fp)) {
            memcpy(&th.fp, n.desc, sizeof(th.fp));
        } else if (is(&n, "LINUX", CORE_XSTATE) && n.size <= CRASH_XSTATE_MAX && !th.xstate) {
            th.xstate = xmemdup(n.desc, n.size);
            th.xstate_size = n.size;
        } else if (strcmp(n.name, "LINUX") == 0) {
            take_more(&n, &th.more);
        }
    }
    if (count)
        fn(ctx, &th);
    return count;
}

bool notes_siginfo(const void *notes, size_t size, siginfo_t *ret)
{
    const uint8_t *at = notes, *end = at + size;
    struct note n;

    while (next_note(&at, end, &n))
        if (is(&n, "CORE", NT_SIGINFO) && n.size == sizeof(*ret)) {
            memcpy(ret, n.desc, sizeof(*ret));
            return true;
        }
    return false;
}
