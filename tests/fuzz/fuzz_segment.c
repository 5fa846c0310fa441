/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what the collector reads from shared memory. The input is a list of
 * writes into a segment, made around drains: whatever they are, the collector
 * must neither crash nor hang nor leak.
 *
 *   byte 0      op: 0..3 a record with the following bytes, 4 write 8 bytes anywhere, 5 move ring_head, 6 drain,
 *               7 the process dies
 *
 * With -DFUZZ_MAIN it is a program that replays files (or, without arguments,
 * seeded random inputs), for compilers without libFuzzer.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "../unit/collector_fake.h"

#define OWNER 4100000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes--) {
        v = v << 8 | (in->left ? *in->p : 0);
        if (in->left) {
            in->p++;
            in->left--;
        }
    }
    return v;
}

static void put(struct writer *w, struct input *in, bool wild)
{
    uint8_t a[256], b[64];
    uint64_t args[6];
    struct item items[3] = {{0}};

    for (int i = 0; i < 6; i++)
        args[i] = wild ? take(in, 8) : take(in, 1);
    for (size_t i = 0; i < sizeof(a); i++)
        a[i] = (uint8_t)(i < in->left ? in->p[i] : 0);
    memcpy(b, a, sizeof(b));
    items[0] = (struct item){(enum item_type)take(in, 1) % 12, a, take(in, 1) % sizeof(a)};
    items[1] = (struct item){(enum item_type)take(in, 1) % 12, b, take(in, 1) % sizeof(b)};
    w->pid = OWNER + take(in, 1) % 4;
    writer_put(w, (enum rec_kind)(take(in, 1) % 8), (enum op_id)(take(in, 1) % (OP_MAX + 2)),
               (int64_t)(int8_t)take(in, 1), args, (uint8_t)take(in, 1), items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config_sources *config;
    struct collector_options options = {.listen_fd = -1, .ready_fd = -1};
    struct input in = {data, size};
    struct collector c;
    struct writer w;

    if (!config) {
        log_setup(stderr, LOGL_NONE, NULL);
        config = config_sources_new();
        config_add_environ(config, (const char *const[]){"SCOPE_EVENT_SYSCALL=true", NULL}, NULL, NULL);
    }
    options.config = config;
    core_init(&c, &options, NULL);
    w = writer_new(OWNER, SEG_START_EXEC, "fuzz", 5);
    if (fake_join(&c, w.fd, (pid_t)OWNER))
        abort();
    core_process(&c, UINT64_MAX);
    for (int steps = 0; in.left && steps < 4096; steps++) {
        switch (take(&in, 1) % 8) {
        case 0: case 1: case 2:
            put(&w, &in, false);
            break;
        case 3:
            put(&w, &in, true);
            break;
        case 4: {
            uint64_t at = take(&in, 3) % (w.size - 8), v = take(&in, 8);

            memcpy((char *)w.h + at, &v, 8);
            break;
        }
        case 5:
            w.h->ring_head += take(&in, 2);
            break;
        case 6:
            segments_drain(&c, true);
            core_turn(&c);
            core_process(&c, UINT64_MAX);
            break;
        case 7:
            if (c.model.procs)
                proc_died(c.model.procs);
            break;
        }
    }
    core_end(&c);
    core_free(&c);
    writer_free(&w);
    told_clear();
    return 0;
}

#ifdef FUZZ_MAIN
static int replay(const char *name)
{
    static uint8_t data[1 << 20];
    FILE *f = fopen(name, "rb");
    size_t n;

    if (!f) {
        perror(name);
        return 1;
    }
    n = fread(data, 1, sizeof(data), f);
    fclose(f);
    return LLVMFuzzerTestOneInput(data, n);
}

int main(int argc, char **argv)
{
    uint64_t seed = UINT64_C(0x2545f4914f6cdd1d);
    uint8_t data[2048];
    int ret = 0;

    for (int i = 1; i < argc; i++)
        ret |= replay(argv[i]);
    for (int round = 0; argc < 2 && round < 2000; round++) {
        for (size_t i = 0; i < sizeof(data); i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            data[i] = (uint8_t)(seed >> 24);
        }
        ret |= LLVMFuzzerTestOneInput(data, sizeof(data));
    }
    return ret;
}
#endif
