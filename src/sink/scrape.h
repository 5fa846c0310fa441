/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening socket that answers GET and HEAD of /metrics with a text: the
 * little of HTTP/1.1 (RFC 9112) that scrapers need, for whoever may connect. At
 * most SCRAPE_CONNECTIONS are open; a new one takes the place of that which has
 * not moved for the longest time, of one that is being answered last of all. Nothing blocks; heads, answers and idle
 * connections have their time, and what is sent beside a head is never stored.
 *
 * A name that a browser was led to (DNS rebinding) gets nothing from a loopback
 * address: there, Host must be an address, localhost, or what is configured.
 */
#ifndef SCOPE_SINK_SCRAPE_H
#define SCOPE_SINK_SCRAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "config/config.h"

#define SCRAPE_CONNECTIONS 32u

struct event_base;
struct scrape;

/* A text, shared by those to whom it is being sent. */
struct scrape_text {
    unsigned refs;
    uint64_t number;
    struct buf text;
};

struct scrape_user {
    /* A reference to the text for a request. */
    struct scrape_text *(*text)(void *ctx, bool openmetrics);
    /* All of it has been handed to the kernel. */
    void (*sent)(void *ctx, const struct scrape_text *text);
    void *ctx;
};

/* Never fails: an address that can't be had is tried again each second. */
struct scrape *scrape_new(struct event_base *base, const struct cfg_transport *at, const struct scrape_user *user);
void scrape_free(struct scrape *s);
void scrape_text_put(struct scrape_text *t);
/* The port that is listened on; 0: none. */
unsigned scrape_port(const struct scrape *s);
/* Why not, or NULL; attempts since the last success. */
const char *scrape_failure(const struct scrape *s, unsigned *ret_attempts);
/* Whether the Accept header (NULL: there is none) prefers OpenMetrics 1.0 to the text format (RFC 9110, 12.5.1). */
bool scrape_wants_openmetrics(const char *accept, size_t len);
/* A socket that is bound there, or -errno with a text: `scope run` asks before there is a collector. */
int scrape_bind(const struct cfg_transport *at, const char **ret_why);

#endif
