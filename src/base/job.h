/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function that runs in a thread of its own, one at a time: what may have to
 * wait for a disk, on behalf of a loop that mustn't. Only the caller of job_new()
 * uses a job.
 */
#ifndef SCOPE_BASE_JOB_H
#define SCOPE_BASE_JOB_H

#include <stdbool.h>

struct job;

/* NULL if no thread can be made. The thread takes no signals. */
struct job *job_new(void);
/* Waits for the function that runs. NULL is fine. */
void job_free(struct job *j);
/* Not while one runs. What the function has done is seen by the caller when job_busy() is false, or after job_wait(). */
void job_run(struct job *j, void (*fn)(void *arg), void *arg);
bool job_busy(const struct job *j);
void job_wait(struct job *j);

#endif
