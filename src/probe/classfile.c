/* SPDX-License-Identifier: Apache-2.0 */
#include "classfile.h"

#define MAGIC 0xcafebabeu
#define FAR 0x7fff            /* as far as a branch of 16 bits leads */
#define SITES_MAX 4u

/* Constants (4.4) */
enum { C_UTF8 = 1, C_INTEGER = 3, C_FLOAT, C_LONG, C_DOUBLE, C_CLASS, C_STRING, C_FIELD, C_METHOD, C_INTERFACE_METHOD,
       C_NAME_AND_TYPE, C_HANDLE = 15, C_METHOD_TYPE, C_DYNAMIC, C_INVOKE_DYNAMIC, C_MODULE, C_PACKAGE };

/* Instructions (6.5) */
enum { OP_BIPUSH = 16, OP_SIPUSH, OP_LDC, OP_LDC_W, OP_LDC2_W, OP_ILOAD = 21, OP_ALOAD = 25, OP_ISTORE = 54, OP_LSTORE = 55,
       OP_DSTORE = 57, OP_ASTORE = 58, OP_ISTORE_0 = 59, OP_ASTORE_3 = 78, OP_IINC = 132, OP_IFEQ = 153, OP_JSR = 168,
       OP_RET = 169, OP_TABLESWITCH = 170, OP_LOOKUPSWITCH = 171, OP_IRETURN = 172, OP_RETURN = 177, OP_GETSTATIC = 178,
       OP_INVOKESTATIC = 184, OP_INVOKEINTERFACE = 185, OP_INVOKEDYNAMIC = 186, OP_NEW = 187, OP_NEWARRAY = 188,
       OP_ANEWARRAY = 189, OP_CHECKCAST = 192, OP_INSTANCEOF = 193, OP_WIDE = 196, OP_MULTIANEWARRAY = 197, OP_IFNULL = 198,
       OP_IFNONNULL = 199, OP_GOTO_W = 200, OP_JSR_W = 201 };

/* --- reading and writing: what isn't there, or has no room, makes `bad` true once and for all --- */

struct in {
    const uint8_t *p, *end;
    bool bad;
};

struct out {
    uint8_t *p, *end;
    bool bad;
};

static uint32_t get(const uint8_t *p, unsigned bytes)
{
    uint32_t v = 0;

    while (bytes--)
        v = v << 8 | *p++;
    return v;
}

static void set(uint8_t *p, uint32_t v, unsigned bytes)
{
    while (bytes--) {
        p[bytes] = (uint8_t)v;
        v >>= 8;
    }
}

static uint32_t take(struct in *i, unsigned bytes)
{
    if (i->bad || (size_t)(i->end - i->p) < bytes) {
        i->bad = true;
        return 0;
    }
    i->p += bytes;
    return get(i->p - bytes, bytes);
}

static const uint8_t *pass(struct in *i, size_t bytes)
{
    if (i->bad || (size_t)(i->end - i->p) < bytes) {
        i->bad = true;
        return i->end;
    }
    i->p += bytes;
    return i->p - bytes;
}

/* The next bytes, to be read alone. */
static struct in take_part(struct in *i, size_t bytes)
{
    struct in part = {.p = pass(i, bytes)};

    part.end = i->p;
    part.bad = i->bad;
    return part;
}

static void put(struct out *o, uint32_t v, unsigned bytes)
{
    if (o->bad || (size_t)(o->end - o->p) < bytes) {
        o->bad = true;
        return;
    }
    set(o->p, v, bytes);
    o->p += bytes;
}

static void put_bytes(struct out *o, const uint8_t *p, size_t n)
{
    if (o->bad || (size_t)(o->end - o->p) < n) {
        o->bad = true;
        return;
    }
    while (n--)
        *o->p++ = *p++;
}

/* Room for a length that is known later. */
static uint8_t *put_length(struct out *o)
{
    put(o, 0, 4);
    return o->p - 4;
}

static void end_length(struct out *o, uint8_t *at)
{
    if (!o->bad)
        set(at, (uint32_t)(o->p - at - 4), 4);
}

/* Copies from there up to where the reader stands. */
static void copy_passed(struct out *o, const uint8_t *from, const struct in *i)
{
    if (!i->bad)
        put_bytes(o, from, (size_t)(i->p - from));
}

static uint32_t length(const char *s)
{
    uint32_t n = 0;

    while (s[n])
        n++;
    return n;
}

/* --- constants --- */

struct rewrite {
    const uint8_t *in;
    struct class_scratch *s;
    const struct class_site *sites, *all;
    unsigned count;
    uint32_t constants;
    uint16_t enter[SITES_MAX], leave[SITES_MAX]; /* constants of the methods called; by site */
    unsigned found[SITES_MAX];
};

static uint32_t constant_size(uint32_t tag, const uint8_t *p, const uint8_t *end)
{
    switch (tag) {
    case C_UTF8:
        return end - p >= 2 ? 2 + get(p, 2) : 2;
    case C_INTEGER: case C_FLOAT: case C_FIELD: case C_METHOD: case C_INTERFACE_METHOD: case C_NAME_AND_TYPE: case C_DYNAMIC:
    case C_INVOKE_DYNAMIC:
        return 4;
    case C_LONG: case C_DOUBLE:
        return 8;
    case C_CLASS: case C_STRING: case C_METHOD_TYPE: case C_MODULE: case C_PACKAGE:
        return 2;
    case C_HANDLE:
        return 3;
    default:
        return 0;
    }
}

static void read_constants(struct rewrite *w, struct in *i)
{
    w->constants = take(i, 2);
    for (uint32_t n = 0; n < w->constants; n++)
        w->s->constant[n] = 0;
    for (uint32_t n = 1; n < w->constants && !i->bad; n++) {
        uint32_t tag, size;

        w->s->constant[n] = (uint32_t)(i->p - w->in);
        tag = take(i, 1);
        size = constant_size(tag, i->p, i->end);
        if (!size)
            i->bad = true;
        pass(i, size);
        if (tag == C_LONG || tag == C_DOUBLE) { /* takes two numbers */
            if (++n < w->constants)
                w->s->constant[n] = 0;
        }
    }
}

/* Whether a constant is this text. */
static bool text_is(const struct rewrite *w, uint32_t n, const char *text)
{
    const uint8_t *p = n && n < w->constants && w->s->constant[n] ? w->in + w->s->constant[n] : NULL;
    uint32_t size = length(text);

    if (!p || p[0] != C_UTF8 || get(p + 1, 2) != size)
        return false;
    for (uint32_t k = 0; k < size; k++)
        if (p[3 + k] != (uint8_t)text[k])
            return false;
    return true;
}

static uint32_t add_text(struct out *o, uint32_t *next, const char *text)
{
    uint32_t n = length(text);

    if (n > 0xffff)
        o->bad = true;
    put(o, C_UTF8, 1);
    put(o, n, 2);
    put_bytes(o, (const uint8_t *)text, n);
    return (*next)++;
}

static uint32_t add_pair(struct out *o, uint32_t *next, uint32_t tag, uint32_t a, uint32_t b)
{
    put(o, tag, 1);
    put(o, a, 2);
    put(o, b, 2);
    return (*next)++;
}

static uint32_t add_class(struct out *o, uint32_t *next, const char *name)
{
    uint32_t text = add_text(o, next, name);

    put(o, C_CLASS, 1);
    put(o, text, 2);
    return (*next)++;
}

static uint16_t add_method(struct out *o, uint32_t *next, uint32_t class, const struct class_call *c)
{
    uint32_t name, type;

    if (!c->name)
        return 0;
    name = add_text(o, next, c->name);
    type = add_text(o, next, c->type);
    type = add_pair(o, next, C_NAME_AND_TYPE, name, type);
    return (uint16_t)add_pair(o, next, C_METHOD, class, type);
}

/* --- instructions --- */

/* Bytes of the one at pc; 0 if there is none, or it isn't whole. */
static uint32_t instruction_size(const uint8_t *c, uint32_t pc, uint32_t size)
{
    uint8_t op = c[pc];
    uint32_t left = size - pc, n, table = (pc + 4) & ~3u;
    int64_t cases;

    if (op == OP_TABLESWITCH || op == OP_LOOKUPSWITCH) {
        uint32_t head = op == OP_TABLESWITCH ? 12 : 8;

        if (table > size || size - table < head)
            return 0;
        cases = op == OP_TABLESWITCH ? (int64_t)(int32_t)get(c + table + 8, 4) - (int32_t)get(c + table + 4, 4) + 1
                                     : (int64_t)(int32_t)get(c + table + 4, 4);
        if (cases < 0 || cases > (size - table - head) / (op == OP_TABLESWITCH ? 4 : 8))
            return 0;
        return table + head + (uint32_t)cases * (op == OP_TABLESWITCH ? 4 : 8) - pc;
    }
    if (op == OP_BIPUSH || op == OP_LDC || (op >= OP_ILOAD && op <= OP_ALOAD) || (op >= OP_ISTORE && op <= OP_ASTORE) ||
        op == OP_RET || op == OP_NEWARRAY)
        n = 2;
    else if (op == OP_SIPUSH || op == OP_LDC_W || op == OP_LDC2_W || op == OP_IINC || (op >= OP_IFEQ && op <= OP_JSR) ||
             (op >= OP_GETSTATIC && op <= OP_INVOKESTATIC) || op == OP_NEW || op == OP_ANEWARRAY || op == OP_CHECKCAST ||
             op == OP_INSTANCEOF || op == OP_IFNULL || op == OP_IFNONNULL)
        n = 3;
    else if (op == OP_INVOKEINTERFACE || op == OP_INVOKEDYNAMIC || op == OP_GOTO_W || op == OP_JSR_W)
        n = 5;
    else if (op == OP_MULTIANEWARRAY)
        n = 4;
    else if (op == OP_WIDE)
        n = left > 1 && c[pc + 1] == OP_IINC ? 6 : 4;
    else
        n = op <= OP_JSR_W ? 1 : 0;
    return n <= left ? n : 0;
}

static bool is_return(uint8_t op)
{
    return op >= OP_IRETURN && op <= OP_RETURN;
}

static bool is_branch(uint8_t op)
{
    return (op >= OP_IFEQ && op <= OP_JSR) || op == OP_IFNULL || op == OP_IFNONNULL;
}

/* The local variable that an instruction writes to, or -1. */
static int32_t local_written(const uint8_t *c)
{
    if (c[0] == OP_WIDE)
        return (c[1] >= OP_ISTORE && c[1] <= OP_ASTORE) || c[1] == OP_IINC ? (int32_t)get(c + 2, 2) : -1;
    if ((c[0] >= OP_ISTORE && c[0] <= OP_ASTORE) || c[0] == OP_IINC)
        return c[1];
    return c[0] >= OP_ISTORE_0 && c[0] <= OP_ASTORE_3 ? (c[0] - OP_ISTORE_0) % 4 : -1;
}

/* How many local variables the calls are given, by what they push: loads, up to that of the highest number. */
static int32_t locals_read(const struct class_call *c)
{
    int32_t n = 0;

    for (uint32_t pc = 0, size; pc < c->push_size; pc += size) {
        uint8_t op = c->push[pc];
        int32_t local = op >= OP_ILOAD && op <= OP_ALOAD ? c->push[pc + 1] : op >= 26 && op <= 45 ? (op - 26) % 4 : -1;

        size = instruction_size(c->push, pc, c->push_size);
        if (!size)
            break;
        n = local >= n ? local + 1 : n;
    }
    return n;
}

struct code {
    const uint8_t *c;
    uint32_t size, now; /* bytes; bytes afterwards */
    const struct class_site *site;
    uint16_t enter, leave;
};

static uint32_t call_size(const struct class_call *c, uint16_t constant)
{
    return constant ? c->push_size + 3u : 0;
}

static void put_call(struct out *o, const struct class_call *c, uint16_t constant)
{
    if (!constant)
        return;
    put_bytes(o, c->push, c->push_size);
    put(o, OP_INVOKESTATIC, 1);
    put(o, constant, 2);
}

/* Where each instruction will be. False: refused. */
static bool place(struct rewrite *w, struct code *k)
{
    struct class_scratch *s = w->s;
    int32_t reads = locals_read(&k->site->leave);
    uint32_t q = call_size(&k->site->enter, k->enter), size;

    for (uint32_t pc = 0; pc <= k->size; pc++)
        s->starts[pc] = 0;
    for (uint32_t pc = 0; pc < k->size; pc += size) {
        uint8_t op = k->c[pc];

        size = instruction_size(k->c, pc, k->size);
        if (!size || (k->leave && local_written(k->c + pc) >= 0 && local_written(k->c + pc) < reads))
            return false;
        s->starts[pc] = 1;
        s->to[pc] = (uint16_t)q;
        if (is_return(op))
            q += call_size(&k->site->leave, k->leave);
        s->at[pc] = (uint16_t)q;
        q += size;
        if (op == OP_TABLESWITCH || op == OP_LOOKUPSWITCH)
            q += ((s->at[pc] + 4u) & ~3u) - s->at[pc] - (((pc + 4u) & ~3u) - pc);
        if (q > CLASS_CODE_MAX)
            return false;
    }
    s->starts[k->size] = 1;
    s->to[k->size] = s->at[k->size] = (uint16_t)q;
    k->now = q;
    return true;
}

/* Where a branch to an old place leads now; -1 if no instruction is there. */
static int64_t place_of(const struct rewrite *w, const struct code *k, int64_t pc)
{
    return pc >= 0 && pc <= k->size && w->s->starts[pc] ? w->s->to[pc] : -1;
}

/* A distance of so many bytes from the instruction at pc. */
static void put_distance(struct rewrite *w, const struct code *k, struct out *o, uint32_t pc, int32_t distance, unsigned bytes)
{
    int64_t to = place_of(w, k, (int64_t)pc + distance), d = to - w->s->at[pc];

    if (to < 0 || to == k->now || (bytes == 2 && (d > FAR || d < -FAR - 1)))
        o->bad = true;
    put(o, (uint32_t)d, bytes);
}

static void put_switch(struct rewrite *w, const struct code *k, struct out *o, uint32_t pc, uint32_t size)
{
    const uint8_t *p = k->c + ((pc + 4) & ~3u), *end = k->c + pc + size;
    uint32_t at = w->s->at[pc] + 1u;
    bool table = k->c[pc] == OP_TABLESWITCH;

    put(o, k->c[pc], 1);
    for (; at & 3; at++)
        put(o, 0, 1);
    put_distance(w, k, o, pc, (int32_t)get(p, 4), 4);
    put_bytes(o, p + 4, table ? 8 : 4);
    for (p += table ? 12 : 8; p < end; p += 4) {
        if (!table) {
            put_bytes(o, p, 4);
            p += 4;
        }
        put_distance(w, k, o, pc, (int32_t)get(p, 4), 4);
    }
}

static void put_instructions(struct rewrite *w, const struct code *k, struct out *o)
{
    uint32_t size;

    put_call(o, &k->site->enter, k->enter);
    for (uint32_t pc = 0; pc < k->size; pc += size) {
        uint8_t op = k->c[pc];

        size = instruction_size(k->c, pc, k->size);
        if (is_return(op))
            put_call(o, &k->site->leave, k->leave);
        if (op == OP_TABLESWITCH || op == OP_LOOKUPSWITCH) {
            put_switch(w, k, o, pc, size);
        } else if (is_branch(op) || op == OP_GOTO_W || op == OP_JSR_W) {
            int32_t distance = is_branch(op) ? (int16_t)get(k->c + pc + 1, 2) : (int32_t)get(k->c + pc + 1, 4);

            put(o, op, 1);
            put_distance(w, k, o, pc, distance, size - 1);
        } else {
            put_bytes(o, k->c + pc, size);
        }
    }
}

/* --- what speaks of places in the code --- */

static void put_place(struct rewrite *w, const struct code *k, struct in *i, struct out *o)
{
    int64_t to = place_of(w, k, take(i, 2));

    if (to < 0)
        i->bad = true;
    put(o, (uint32_t)to, 2);
}

/* (4.7.3) */
static void exception_table(struct rewrite *w, const struct code *k, struct in *i, struct out *o)
{
    uint32_t n = take(i, 2);

    put(o, n, 2);
    while (n-- && !i->bad && !o->bad) {
        put_place(w, k, i, o);
        put_place(w, k, i, o);
        put_place(w, k, i, o);
        put(o, take(i, 2), 2);
    }
}

/* verification_type_info (4.7.4); the place of a `new` is that of the instruction itself. */
static void verification_type(struct rewrite *w, const struct code *k, struct in *i, struct out *o)
{
    uint32_t tag = take(i, 1), pc;

    put(o, tag, 1);
    if (tag == 7) {
        put(o, take(i, 2), 2);
    } else if (tag == 8) {
        pc = take(i, 2);
        if (pc >= k->size || !w->s->starts[pc])
            i->bad = true;
        else
            put(o, w->s->at[pc], 2);
    } else if (tag > 8) {
        i->bad = true;
    }
}

/* (4.7.4) */
static void stack_map(struct rewrite *w, const struct code *k, struct in *i, struct out *o)
{
    uint32_t n = take(i, 2);
    int64_t old = -1, now = -1, delta;

    put(o, n, 2);
    while (n-- && !i->bad && !o->bad) {
        uint32_t tag = take(i, 1), locals = 0, stack = 0;

        if (tag < 64) {
            old += tag + 1;
        } else if (tag < 128) {
            old += tag - 64 + 1;
            stack = 1;
        } else if (tag < 247) {
            i->bad = true;
        } else {
            old += (int64_t)take(i, 2) + 1;
            stack = tag == 247;
            locals = tag >= 252 && tag < 255 ? tag - 251 : 0;
        }
        if (i->bad || place_of(w, k, old) < 0) {
            i->bad = true;
            return;
        }
        delta = place_of(w, k, old) - now - 1;
        now += delta + 1;
        if (tag < 128) { /* the short form, if it still is one */
            uint32_t base = tag < 64 ? 0 : 64;

            if (delta < 64) {
                put(o, base + (uint32_t)delta, 1);
            } else {
                put(o, base ? 247 : 251, 1);
                put(o, (uint32_t)delta, 2);
            }
        } else {
            put(o, tag, 1);
            put(o, (uint32_t)delta, 2);
        }
        if (tag == 255)
            put(o, locals = take(i, 2), 2);
        while (locals-- && !i->bad)
            verification_type(w, k, i, o);
        if (tag == 255)
            put(o, stack = take(i, 2), 2);
        while (stack-- && !i->bad)
            verification_type(w, k, i, o);
    }
}

/* Lines (4.7.12): the first one has the call in front of it, too. */
static void line_numbers(struct rewrite *w, const struct code *k, struct in *i, struct out *o)
{
    uint32_t n = take(i, 2);

    put(o, n, 2);
    while (n-- && !i->bad && !o->bad) {
        uint32_t pc = take(i, 2);
        int64_t to = pc ? place_of(w, k, pc) : 0;

        if (to < 0)
            i->bad = true;
        put(o, (uint32_t)to, 2);
        put(o, take(i, 2), 2);
    }
}

/* (4.7.13, 4.7.14) */
static void local_variables(struct rewrite *w, const struct code *k, struct in *i, struct out *o)
{
    uint32_t n = take(i, 2);

    put(o, n, 2);
    while (n-- && !i->bad && !o->bad) {
        uint32_t pc = take(i, 2), size = take(i, 2);
        int64_t from = pc ? place_of(w, k, pc) : 0, to = place_of(w, k, (int64_t)pc + size);

        if (from < 0 || to < from)
            i->bad = true;
        put(o, (uint32_t)from, 2);
        put(o, (uint32_t)(to - from), 2);
        put_bytes(o, pass(i, 6), i->bad ? 0 : 6);
    }
}

/* An attribute of the code. Annotations of types are for those who read class files, and left out. */
static bool code_attribute(struct rewrite *w, const struct code *k, struct in *i, struct out *o)
{
    static const struct {
        const char *name;
        void (*write)(struct rewrite *w, const struct code *k, struct in *i, struct out *o);
    } kinds[] = {
        {"StackMapTable", stack_map},
        {"LineNumberTable", line_numbers},
        {"LocalVariableTable", local_variables},
        {"LocalVariableTypeTable", local_variables},
    };
    uint32_t name = take(i, 2), size = take(i, 4);
    struct in part = take_part(i, size);
    uint8_t *at;

    for (unsigned n = 0; n < sizeof(kinds) / sizeof(kinds[0]); n++) {
        if (!text_is(w, name, kinds[n].name))
            continue;
        put(o, name, 2);
        at = put_length(o);
        kinds[n].write(w, k, &part, o);
        end_length(o, at);
        i->bad |= part.bad || part.p != part.end;
        return true;
    }
    if (!text_is(w, name, "RuntimeVisibleTypeAnnotations") && !text_is(w, name, "RuntimeInvisibleTypeAnnotations"))
        i->bad = true;
    return false;
}

/* What a Code attribute contains (4.7.3). False: refused. */
static bool method_code(struct rewrite *w, unsigned site, struct in *i, struct out *o)
{
    struct code k = {.site = w->sites ? &w->sites[site] : w->all, .enter = w->enter[site], .leave = w->leave[site]};
    uint32_t stack = take(i, 2), locals = take(i, 2), n, kept = 0;
    uint32_t more = k.site->enter.stack > k.site->leave.stack ? k.site->enter.stack : k.site->leave.stack;
    uint8_t *count;

    k.size = take(i, 4);
    k.c = pass(i, k.size);
    if (i->bad || !k.size || k.size > CLASS_CODE_MAX || stack + more > 0xffff || !place(w, &k))
        return false;
    put(o, stack + more, 2);
    put(o, locals, 2);
    put(o, k.now, 4);
    put_instructions(w, &k, o);
    exception_table(w, &k, i, o);
    n = take(i, 2);
    put(o, 0, 2);
    count = o->p - 2;
    while (n-- && !i->bad && !o->bad)
        kept += code_attribute(w, &k, i, o);
    if (i->bad || o->bad || i->p != i->end)
        return false;
    set(count, kept, 2);
    return true;
}

/* --- the class --- */

static void pass_attributes(struct in *i)
{
    for (uint32_t n = take(i, 2); n && !i->bad; n--) {
        pass(i, 2);
        pass(i, take(i, 4));
    }
}

static void method(struct rewrite *w, struct in *i, struct out *o)
{
    const uint8_t *head = i->p;
    uint32_t name, type, n, site = 0;
    bool ours = !w->sites;

    take(i, 2);
    name = take(i, 2);
    type = take(i, 2);
    n = take(i, 2);
    copy_passed(o, head, i);
    for (unsigned k = 0; k < w->count && w->sites && !ours; k++) {
        ours = text_is(w, name, w->sites[k].name) && text_is(w, type, w->sites[k].type);
        site = k;
    }
    while (n-- && !i->bad && !o->bad) {
        const uint8_t *from = i->p;
        uint32_t what = take(i, 2), size = take(i, 4);
        struct in part = take_part(i, size);
        uint8_t *at;

        if (!ours || !text_is(w, what, "Code")) {
            copy_passed(o, from, i);
            continue;
        }
        put(o, what, 2);
        at = put_length(o);
        if (!method_code(w, site, &part, o))
            i->bad = true;
        end_length(o, at);
        w->found[site]++;
    }
}

size_t class_rewrite(const uint8_t *in, size_t size, const char *helper, const struct class_site *sites, unsigned count,
                     const struct class_site *all, struct class_scratch *scratch, uint8_t *out, size_t room)
{
    struct rewrite w = {.in = in, .s = scratch, .sites = sites, .all = all, .count = sites ? count : 1};
    struct in i = {.p = in, .end = in + size};
    struct out o = {.p = out, .end = out + room};
    const uint8_t *from;
    uint8_t *constants;
    uint32_t next, class;

    if (w.count > SITES_MAX || size > UINT32_MAX || take(&i, 4) != MAGIC)
        return 0;
    take(&i, 4); /* version */
    copy_passed(&o, in, &i);
    constants = o.p;
    from = i.p + 2;
    read_constants(&w, &i);
    if (i.bad || o.bad)
        return 0;
    put(&o, 0, 2);
    copy_passed(&o, from, &i);
    next = w.constants;
    class = add_class(&o, &next, helper);
    for (unsigned k = 0; k < w.count; k++) {
        const struct class_site *s = sites ? &sites[k] : all;

        w.enter[k] = add_method(&o, &next, class, &s->enter);
        w.leave[k] = add_method(&o, &next, class, &s->leave);
    }
    if (next > 0xffff || o.bad)
        return 0;
    set(constants, next, 2);
    from = i.p;
    pass(&i, 6);               /* access, this class, the one above it */
    pass(&i, take(&i, 2) * 2); /* interfaces */
    for (uint32_t n = take(&i, 2); n && !i.bad; n--) { /* fields */
        pass(&i, 6);
        pass_attributes(&i);
    }
    next = take(&i, 2);
    copy_passed(&o, from, &i);
    while (next-- && !i.bad && !o.bad)
        method(&w, &i, &o);
    from = i.p;
    pass_attributes(&i);
    copy_passed(&o, from, &i);
    if (i.bad || o.bad || i.p != i.end)
        return 0;
    for (unsigned k = 0; k < w.count && sites; k++)
        if (w.found[k] != 1)
            return 0;
    return (size_t)(o.p - out);
}

size_t class_make(const char *name, const struct class_call *const *calls, unsigned count, uint8_t *out, size_t room)
{
    enum { VERSION = 52, PUBLIC = 1, STATIC = 8, FINAL = 16, SUPER = 32, NATIVE = 256 };
    struct out o = {.p = out, .end = out + room};
    uint32_t next = 1, class, super;
    uint8_t *constants;

    put(&o, MAGIC, 4);
    put(&o, VERSION, 4);
    put(&o, 0, 2);
    constants = o.p - 2;
    class = add_class(&o, &next, name);
    super = add_class(&o, &next, "java/lang/Object");
    for (unsigned k = 0; k < count; k++) { /* two constants each, from here on */
        add_text(&o, &next, calls[k]->name);
        add_text(&o, &next, calls[k]->type);
    }
    put(&o, PUBLIC | FINAL | SUPER, 2);
    put(&o, class, 2);
    put(&o, super, 2);
    put(&o, 0, 4); /* neither interfaces nor fields */
    put(&o, count, 2);
    for (unsigned k = 0; k < count; k++) {
        put(&o, PUBLIC | STATIC | NATIVE, 2);
        put(&o, next - 2 * (count - k), 2);
        put(&o, next - 2 * (count - k) + 1, 2);
        put(&o, 0, 2);
    }
    put(&o, 0, 2);
    if (o.bad)
        return 0;
    set(constants, next, 2);
    return (size_t)(o.p - out);
}
