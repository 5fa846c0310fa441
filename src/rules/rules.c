/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of rules: the file that probes map, and configurations. */
#include "rules/rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rules/internal.h"
#include "rules/spare.h"
#include "wire/segment.h"
#include "wire/syscalls.h"

void rules_free(struct rules *r)
{
    for (size_t i = 0; i < r->count; i++) {
        free(r->rule[i].procname);
        free(r->rule[i].arg);
        free(r->rule[i].sourceid);
        free(r->rule[i].config);
    }
    free(r->rule);
    free(r->name);
    free(r->unix_socket_path);
    free(r->auth_token);
    *r = (struct rules){0};
}

size_t rules_size_without(const char *plans)
{
    size_t size = sizeof(struct rules_head) + rules_spare_count() * sizeof(struct rules_entry) + sizeof(HOST_SOCKET);

    for (const char *const *p = rules_spare; *p; p++)
        size += strlen(*p) + 1;
    return size + (plans ? strlen(plans) + 1 : MAX_PLANS_PATH);
}

static uint32_t add_text(struct buf *texts, size_t base, const char *text)
{
    uint32_t at = (uint32_t)(base + texts->len);

    if (!text)
        return 0;
    buf_add(texts, text, strlen(text) + 1);
    return at;
}

static bool same_name(const struct rule *a, const struct rule *b)
{
    return !a->procname || !b->procname || !strcmp(a->procname, b->procname);
}

/* The TLS hooks of a program are there if its mode asks for them when it starts. It is the mode of the first rule that
 * names the program; another may name it, too. */
static void add_traffic(const struct rules *r, struct rules_entry *e)
{
    bool *asks = xcalloc(r->count + 1, sizeof(*asks));

    for (size_t i = 0; i < r->count; i++)
        asks[i] = r->rule[i].kind == RULES_ALLOW && (e[i].mode & SEG_M_TRAFFIC);
    for (size_t j = 0; j < r->count; j++)
        for (size_t i = 0; asks[j] && i < r->count; i++)
            if (r->rule[i].kind == RULES_ALLOW && !asks[i] && same_name(&r->rule[i], &r->rule[j]))
                e[i].mode |= SEG_M_TRAFFIC;
    free(asks);
}

void *rules_compile(const struct rules *r, uint64_t generation, const char *plans,
                    uint32_t (*mode_of)(void *ctx, const struct rule *), void *ctx, size_t *ret_size)
{
    size_t spares = rules_spare_count(), count = spares + r->count, base;
    struct rules_head h = {.magic = RULES_MAGIC, .table_hash = syscall_table_hash(), .count = (uint32_t)count,
                           .generation = generation};
    struct rules_entry *e;
    struct buf texts = BUF_INIT;
    char *ret = NULL;
    size_t size;

    *ret_size = 0;
    if (count > RULES_MAX)
        return NULL;
    e = xcalloc(count, sizeof(*e));
    base = sizeof(h) + count * sizeof(*e);
    h.socket = add_text(&texts, base, HOST_SOCKET);
    h.plans = add_text(&texts, base, plans);
    for (size_t i = 0; i < spares; i++)
        e[i] = (struct rules_entry){.kind = RULES_SPARE, .name = add_text(&texts, base, rules_spare[i])};
    for (size_t i = 0; i < r->count; i++) {
        const struct rule *rule = &r->rule[i];

        e[spares + i] = (struct rules_entry){.kind = rule->kind, .name = add_text(&texts, base, rule->procname),
                                             .arg = add_text(&texts, base, rule->arg),
                                             .mode = mode_of && rule->kind == RULES_ALLOW ? mode_of(ctx, rule) : 0};
    }
    add_traffic(r, e + spares);
    size = base + texts.len;
    if (size <= RULES_SIZE_MAX) {
        h.size = (uint32_t)size;
        ret = xmalloc(size);
        memcpy(ret, &h, sizeof(h));
        memcpy(ret + sizeof(h), e, count * sizeof(*e));
        memcpy(ret + base, texts.p, texts.len);
        *ret_size = size;
    }
    buf_free(&texts);
    free(e);
    return ret;
}

uint32_t rules_of_entry(const struct rules_head *h, uint32_t entry)
{
    const struct rules_entry *e = (const struct rules_entry *)(const void *)(h + 1);
    uint32_t spares = 0;

    while (spares < h->count && e[spares].kind == RULES_SPARE)
        spares++;
    return entry < spares || entry >= h->count ? RULES_NONE : entry - spares;
}

size_t rules_which(const struct rules_head *h, const struct rules_subject *s, uint32_t *ret, size_t max)
{
    const struct rules_entry *e = (const struct rules_entry *)(const void *)(h + 1);
    struct rules_look look = rules_look(s);
    size_t found = 0;
    uint32_t spares = 0;

    for (uint32_t i = 0; i < h->count; i++) {
        spares += e[i].kind == RULES_SPARE;
        if (!rules_fits(h, &e[i], &look))
            continue;
        if (e[i].kind == RULES_DENY)
            return 0;
        if (e[i].kind == RULES_ALLOW) {
            if (found < max)
                ret[found] = i - spares;
            found++;
        }
    }
    return found;
}

void rules_configure(const struct rules *r, struct config_sources *to, cfg_problem_fn fn, void *ctx)
{
    if (r->unix_socket_path || r->auth_token) { /* where cribl.enable is true, this is where it goes */
        struct buf b = BUF_INIT;

        buf_str(&b, "{\"cribl\": {");
        if (r->unix_socket_path) {
            buf_str(&b, "\"transport\": {\"type\": \"unix\", \"path\": ");
            rules_quote(&b, r->unix_socket_path);
            buf_str(&b, r->auth_token ? "}, " : "}");
        }
        if (r->auth_token) {
            buf_str(&b, "\"authtoken\": ");
            rules_quote(&b, r->auth_token);
        }
        buf_str(&b, "}}");
        config_add_text(to, r->name ? r->name : HOST_RULES, b.p, b.len, fn, ctx);
        buf_free(&b);
    }
    for (size_t i = 0; i < r->count; i++)
        if (r->rule[i].kind == RULES_ALLOW && r->rule[i].config)
            config_add_rule(to, (uint32_t)i, r->name ? r->name : HOST_RULES, r->rule[i].config_line, r->rule[i].config,
                            strlen(r->rule[i].config), fn, ctx);
}

static bool is_spared(const char *name)
{
    for (const char *const *p = rules_spare; name && *p; p++)
        if (rules_named(name, *p, true))
            return true;
    return false;
}

/* Whether a rule names every program that another one names. */
static bool covers(const struct rule *wide, const struct rule *rule)
{
    if (!wide->procname && is_spared(rule->procname))
        return false;
    return (!wide->procname || (rule->procname && !strcmp(wide->procname, rule->procname))) &&
           (!wide->arg || (rule->arg && strstr(rule->arg, wide->arg)));
}

struct config *rules_config(const struct rules *r, const struct config_sources *sources, const struct rule *rule)
{
    uint32_t *numbers = xcalloc(r->count ? r->count : 1, sizeof(*numbers));
    struct cfg_process who = {.procname = rule->procname, .rules = numbers};
    struct config *ret;

    for (size_t i = 0; i < r->count; i++)
        if (r->rule[i].kind == RULES_ALLOW && r->rule[i].config && covers(&r->rule[i], rule))
            numbers[who.rule_count++] = (uint32_t)i;
    ret = config_for(sources, &who);
    free(numbers);
    return ret;
}
