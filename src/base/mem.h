/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation for the collector side, where running out of memory ends the
 * process (the observed program does not notice). Results are freed with free().
 */
#ifndef SCOPE_BASE_MEM_H
#define SCOPE_BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);         /* zeroed */
void *xrealloc(void *p, size_t count, size_t size); /* checks count * size */
char *xstrdup(const char *s);                     /* NULL gives NULL */
char *xstrndup(const char *s, size_t len);
void *xmemdup(const void *p, size_t size);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
