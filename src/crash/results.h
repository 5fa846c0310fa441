/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What unwinding and naming have found, in memory that the worker shares with the process that does it: that one reads
 * the program's files with a large library and may die of them, and what it had found by then is still here. The worker
 * believes nothing of it: results_frame() and results_text() check.
 */
#ifndef SCOPE_CRASH_RESULTS_H
#define SCOPE_CRASH_RESULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crash/crash.h"

#define RESULTS_FRAMES (1u << 17)
#define RESULTS_TEXT (32u << 20)

enum {
    FRAME_INLINED = 1, /* a function that has been inlined into the next frame, which has the same pc */
    FRAME_SIGNAL = 2,  /* a signal came here: what stands before is its handler */
    FRAME_GUESSED = 4,
    FRAME_EXACT_PC = 8,  /* pc is the instruction itself, not behind a call */
    FRAME_OF_MODULE = 16 /* offset is from the module's start: no function is known */
};
struct result_frame {
    uint64_t pc, offset;
    uint32_t function, file; /* places in the text, 0: none */
    uint32_t line, flags;
};

/* First the frames as they were unwound, then the same with names and inlined ones between. */
struct result_list {
    uint32_t first, count;
    uint32_t done;
};
enum { THREAD_CUT = 1, THREAD_BROKEN = 2 }; /* there are more frames; the way further up isn't known */
struct result_thread {
    struct result_list bare, named;
    uint32_t flags, goroutine; /* text, 0: unknown */
};

struct results {
    uint32_t thread_count, frame_count, text_size;
    uint32_t finished;
    uint32_t panic_known,
        panicked;         /* whether the first thread stands below the functions by which Go ends with an error */
    uint32_t frames_lost; /* for want of room */
    struct result_frame frames[RESULTS_FRAMES];
    char text[RESULTS_TEXT]; /* NUL-terminated pieces; the first is empty */
    struct result_thread threads[];
};

/* NULL and errno if there is no memory. Shared with children of fork(2). */
struct results *results_new(size_t threads);
void results_free(struct results *r, size_t threads);
/* Place of a copy; 0 if there is no room, or s is empty. */
uint32_t results_add_text(struct results *r, const char *s);
/* A place for a frame, or NULL. */
struct result_frame *results_add_frame(struct results *r);

/* For who reads. The i-th frame of a thread, named if it was (else without a name): false if there is none. */
size_t results_frames(const struct results *r, size_t thread);
bool results_frame(const struct results *r, size_t thread, size_t i, struct result_frame *ret);
const char *results_text(const struct results *r, uint32_t at);

#endif
