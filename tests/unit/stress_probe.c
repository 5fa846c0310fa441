/* SPDX-License-Identifier: Apache-2.0 */
/* The probe's own code for the ring, descriptors and written code, in a test program (test_memory_stress.c). */
#include "stress_probe.h"

#include "descriptors.h"
#include "ring.c"

struct process *process;
struct probe probe;
struct thread threads[THREADS];
uint8_t probe_no_ticks = 1, probe_fsgsbase;
uint64_t scope_stacks, scope_stacks_end;
#ifdef ARCH_SHARED_POINTER
uint64_t probe_shared_pointer;
#endif
static struct process the_process;

struct thread *thread_find(struct process *p, uint64_t key)
{
    return NULL; /* tid 0 */
}

size_t str_len(const char *s, size_t max)
{
    size_t n = 0;

    while (n < max && s[n])
        n++;
    return n;
}

void stress_start(struct segment_header *s)
{
    process = &the_process;
    process->segment = s;
    process->pid = 1;
    process->multi = 1;
    probe.segment = s;
    probe.fd_cap = s->fd_cap;
    probe.ring_off = s->ring_off;
}

bool stress_write(struct segment_header *s, uint64_t writer, uint64_t n, unsigned words)
{
    uint64_t data[STRESS_WORDS];
    struct record r = {.kind = REC_NOTE, .arg = {writer, n, words}};
    struct ring_item item = {ITEM_DATA, words * 8, data};

    for (unsigned i = 0; i < words; i++)
        data[i] = stress_word(writer, n, i);
    return ring_write(s, &r, &item, words ? 1 : 0);
}

/* As enter_prctl() does. */
void stress_silence(struct segment_header *s)
{
    __atomic_store_n(&s->wakes, 0, ORDER_WAKES_SET);
    ring_rouse_slow(s);
}

void stress_reopen(struct segment_header *s, unsigned fd, uint32_t nth)
{
    struct fd_entry *e = fd_entry(s, fd);

    /* fd_begin(), as far as others see it: what the entry is, then its generation. */
    e->undecided = (uint16_t)nth;
    e->unsaid = nth;
    add32(&e->gen, 1);
}

void stress_sync_code(const void *p, uint64_t size)
{
    arch_sync_code(p, size);
}
