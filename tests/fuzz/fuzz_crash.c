/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as what a crashed program may have written: Go's table of functions, a perf map, passwd(5), memory that
 * is to be an ELF file, code before a return address, a signal's frame, a variable, a mangled name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "crash/demangle.h"
#include "crash/facts.h"
#include "crash/gotable.h"
#include "crash/modules.h"
#include "crash/perfmap.h"
#include "crash/words.h"
#include "machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
    const uint8_t *data;
    size_t size;
};

static int read_memory(void *ctx, uint64_t address, void *to, size_t size)
{
    const struct memory *m = ctx;

    if (address < 0x1000 || address - 0x1000 > m->size || size > m->size - (address - 0x1000))
        return -EFAULT;
    memcpy(to, m->data + (address - 0x1000), size);
    return 0;
}

static void go_table(const uint8_t *data, size_t size)
{
    struct gotable t;
    struct gofunction f;
    const char *file;

    if (!gotable_open(&t, data, size, 0))
        return;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t address = t.text + i * 8;

        if (!gotable_function(&t, address, &f))
            continue;
        if (address < f.entry || strlen(f.name) >= size || gotable_frame_size(&t, &f, address) < -1)
            abort();
        if (gotable_line(&t, &f, address, &file) && strlen(file) >= size)
            abort();
    }
}

static void perf_map(const uint8_t *data, size_t size)
{
    struct perfmap m;

    perfmap_read(&m, (const char *)data, size);
    for (size_t i = 0; i < m.count; i++) {
        const struct perfmap_entry *e = perfmap_at(&m, m.v[i].lo);

        if (!e || e->hi <= e->lo || e->name < (const char *)data || e->name + e->len > (const char *)data + size)
            abort();
    }
    perfmap_free(&m);
}

static void memory(const uint8_t *data, size_t size)
{
    struct memory m = {data, size};
    size_t made = 0;
    void *file;

    if (module_rebuild(read_memory, &m, 0x1000, 0x1000 + size, 1 << 16, &file, &made) == 0) {
        if (made > 1 << 16)
            abort();
        free(file);
    }
}

static void texts(const uint8_t *data, size_t size)
{
    char *text = xstrndup((const char *)data, size), *s;
    size_t at = 0, n = words_credentials((const char *)data, size, &at);

    if (n > size || (n && at + n >= size))
        abort();
    words_is_secret((const char *)data, size);
    free(facts_user((const char *)data, size, 0));
    s = demangle(text);
    if (strlen(s) > DEMANGLE_SHOWN)
        abort();
    free(s);
    free(text);
}

static void registers(const uint8_t *data, size_t size)
{
    uint8_t context[MACHINE_CONTEXT_SIZE] = {0}, fp[512] = {0};
    uint64_t dwarf[MACHINE_DWARF_REGS];

    memcpy(context, data, size < sizeof(context) ? size : sizeof(context));
    memcpy(fp, data, size < sizeof(fp) ? size : sizeof(fp));
    machine_context_to_dwarf(context, dwarf);
    if (machine_xstate_size(fp) < 512)
        abort();
    machine_ends_with_call(data, size);
    if (size >= MACHINE_SIGRETURN_SIZE)
        machine_is_sigreturn(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (!size)
        return 0;
    copy = xmemdup(data + 1, size - 1); /* of its own, so that what is read behind it is seen */
    switch (data[0] % 5) {
    case 0:
        go_table(copy, size - 1);
        break;
    case 1:
        perf_map(copy, size - 1);
        break;
    case 2:
        memory(copy, size - 1);
        break;
    case 3:
        texts(copy, size - 1);
        break;
    default:
        registers(copy, size - 1);
    }
    free(copy);
    return 0;
}
