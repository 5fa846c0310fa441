/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/results.h"

#include <string.h>
#include <sys/mman.h>

static size_t size_of(size_t threads)
{
    return sizeof(struct results) + threads * sizeof(struct result_thread);
}

struct results *results_new(size_t threads)
{
    struct results *r =
        mmap(NULL, size_of(threads), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (r == MAP_FAILED)
        return NULL;
    r->thread_count = (uint32_t)threads;
    r->text_size = 1;
    return r;
}

void results_free(struct results *r, size_t threads)
{
    if (r)
        munmap(r, size_of(threads));
}

uint32_t results_add_text(struct results *r, const char *s)
{
    size_t n = s ? strlen(s) : 0;
    uint32_t at = r->text_size;

    if (!n || n >= RESULTS_TEXT - at)
        return 0;
    memcpy(r->text + at, s, n + 1);
    r->text_size += (uint32_t)n + 1;
    return at;
}

struct result_frame *results_add_frame(struct results *r)
{
    if (r->frame_count >= RESULTS_FRAMES) {
        r->frames_lost++;
        return NULL;
    }
    return &r->frames[r->frame_count++];
}

static struct result_list list_of(const struct results *r, size_t thread)
{
    bool named = __atomic_load_n(&r->threads[thread].named.done, __ATOMIC_ACQUIRE); /* first: then it is whole */
    struct result_thread t = r->threads[thread];

    return named ? t.named : t.bare;
}

size_t results_frames(const struct results *r, size_t thread)
{
    struct result_list l = list_of(r, thread);

    if (l.first >= RESULTS_FRAMES)
        return 0;
    return l.count < RESULTS_FRAMES - l.first ? l.count : RESULTS_FRAMES - l.first;
}

bool results_frame(const struct results *r, size_t thread, size_t i, struct result_frame *ret)
{
    struct result_list l = list_of(r, thread);

    if (l.first >= RESULTS_FRAMES || i >= l.count || i >= RESULTS_FRAMES - l.first)
        return false;
    *ret = r->frames[l.first + i];
    return true;
}

const char *results_text(const struct results *r, uint32_t at)
{
    return at < RESULTS_TEXT && memchr(r->text + at, '\0', RESULTS_TEXT - at) ? r->text + at : "";
}
