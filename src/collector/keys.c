/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/keys.h"

#include <sys/resource.h>

#include "collector/segments.h"
#include "collector/state.h"
#include "traffic/tls_keys.h"

static void add_key(void *ctx, const struct seg_key *key)
{
    struct segment *seg = ctx;

    tls_keys_add(seg->keys, key->key, key->len, key->caller,
                 clock_to_real(&seg->c->model.clock, seg->map.info.clock, key->time, clock_now_real()));
}

/* Not even parts of keys that are in use, in a core of ours: 1 byte also keeps those away that go to a program (core(5)). */
static void no_core(void)
{
    static const struct rlimit none = {1, 1};

    setrlimit(RLIMIT_CORE, &none);
}

static void look(struct segment *seg)
{
    tls_keys_missed(seg->keys, segment_keys(&seg->map, &seg->key_next, add_key, seg));
}

static void prepare(struct segment *seg)
{
    if (seg->keys)
        return;
    no_core();
    seg->keys = tls_keys_new();
}

struct tls_keys *keys_of(struct proc *p)
{
    struct segment *seg = p->seg;

    if (!seg || seg->broken)
        return NULL;
    prepare(seg);
    if (seg->keys)
        look(seg);
    return seg->keys;
}

void keys_sweep(struct segment *seg)
{
    bool some = !seg->broken && seg->map.base && segment_hdr(&seg->map)->key_head;

    if (some && seg->map.mode & SEG_M_TRAFFIC) /* whatever it has put there: nothing was wanted */
        prepare(seg);
    if (some && seg->keys)
        look(seg);
    if (seg->keys)
        tls_keys_sweep(seg->keys, clock_now_real());
}
