/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an image: it begins by exec, fork or attaching, gets a configuration, and ends. */
#ifndef SCOPE_COLLECTOR_LIFE_H
#define SCOPE_COLLECTOR_LIFE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct collector;
struct config_sources;
struct proc;
struct segment;

/* The process of a segment starts here; or that is put off: segment.attach_again. */
void life_attach(struct collector *c, struct segment *seg, uint64_t arrival);
/* p, who was a guest, has a ring of its own from now on. */
void life_upgrade(struct proc *p);
/* What is told of an image begins (start: report_start()) and ends. */
void life_begin(struct proc *p, const char *start, uint64_t time_ns);
void life_finish(struct proc *p, uint64_t time_ns);
/* Its own segment is done with: by exec, or at the end. */
void life_leave_segment(struct proc *p);
/* Its death is waited for from now on. */
void life_watch(struct proc *p);
/* CLOCK_MONOTONIC of a recent moment of CLOCK_REALTIME, roughly. */
uint64_t life_mono_of(uint64_t real_ns);
/* The configuration of a process: the session's, or what was laid over it since. */
const struct config_sources *life_config(const struct proc *p);
#define RULES_OF_ONE 256 /* rules that name one process: more have no effect */
/* Numbers of the host's rules that name it; how many, at most max. */
size_t life_rules(const struct proc *p, uint32_t *ret, size_t max);
/* Another one for it and the children that it will have; taken, and kept for the session. The session's totals go on. */
void life_reconfigure(struct proc *p, struct config_sources *config);
/* The session's configuration is another one: so is its own, unless it has been given one. */
void life_configure_again(struct proc *p);
/* Where telemetry of all pipelines is replaced (pipelines_move()): before, and after. */
void life_pause(struct proc *p, uint64_t time_ns);
void life_resume(struct proc *p);
/* Configurations that processes have been given name files below another directory from now on. */
void life_move_configs(struct collector *c, const char *from, const char *to);
/* All that life_reconfigure() has kept. */
void life_free_configs(struct collector *c);
/* It has been told why the image that a process has just exec'ed isn't observed. */
void life_unseen(struct collector *c, pid_t pid);

#endif
