/* SPDX-License-Identifier: Apache-2.0 */
#include "exec.h"

#include <asm/errno.h>
#include <linux/elf.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/stat.h>

#include "join.h"
#include "ring.h"
#include "rules.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define MAX_ENV 65536u
#define PRELOAD_MAX (128u << 10) /* execve(2): MAX_ARG_STRLEN */
#define MAX_INTERPRETERS 4 /* as the kernel's binfmt_script nests */
#define S_ISREG_(m) (((m) & 0170000) == 0100000)

enum image_class { IMG_DYNAMIC, IMG_STATIC, IMG_32BIT, IMG_ARCH, IMG_UNKNOWN };

/* Classifies the first bytes of an executable; `#!` interpreters are returned in interp. */
static enum image_class classify(int fd, char *interp, size_t size)
{
    union {
        Elf64_Ehdr e;
        char text[256];
    } head;
    long n = SYS4(__NR_pread64, fd, &head, sizeof(head), 0);
    Elf64_Phdr ph;

    interp[0] = 0;
    if (n >= 4 && head.text[0] == '#' && head.text[1] == '!') {
        size_t from = 2, to;

        while (from < (size_t)n && (head.text[from] == ' ' || head.text[from] == '\t'))
            from++;
        to = from;
        while (to < (size_t)n && head.text[to] != '\n' && head.text[to] != ' ' && head.text[to] != '\t' && head.text[to])
            to++;
        if (to - from < size) {
            memcpy(interp, head.text + from, to - from);
            interp[to - from] = 0;
        }
        return IMG_UNKNOWN;
    }
    if (n < (long)sizeof(Elf64_Ehdr) || memcmp(head.e.e_ident, ELFMAG, SELFMAG))
        return IMG_UNKNOWN;
    if (head.e.e_ident[EI_CLASS] != ELFCLASS64)
        return IMG_32BIT;
    if (head.e.e_machine != ARCH_MACHINE)
        return IMG_ARCH;
    for (unsigned i = 0; i < head.e.e_phnum && i < 128; i++) {
        if (SYS4(__NR_pread64, fd, &ph, sizeof(ph), head.e.e_phoff + i * sizeof(ph)) != (long)sizeof(ph))
            break;
        if (ph.p_type == PT_INTERP)
            return IMG_DYNAMIC;
    }
    return IMG_STATIC;
}

/* Whether exec of this file changes the program's rights (execve(2)). */
static bool changes_rights(int fd, const struct statx *st)
{
    uint32_t euid = (uint32_t)SYS1(__NR_geteuid, 0);

    return ((st->stx_mode & 04000) && st->stx_uid != euid) ||
           ((st->stx_mode & 02010) == 02010 && st->stx_gid != (uint32_t)SYS1(__NR_getegid, 0)) ||
           (euid != 0 && SYS4(__NR_fgetxattr, fd, "security.capability", 0, 0) > 0);
}

/* Whether the loader can load our file, and it can join by itself. Where the file's owner is neither root nor this
 * user, as seen from here, in a user namespace, nor is the collector's; join_connect() wouldn't believe that. */
static bool can_load(void)
{
    struct statx st;

    return SYS3(__NR_faccessat, AT_FDCWD, probe.lib, 4 /* R_OK */) == 0 &&
           SYS6(__NR_statx, AT_FDCWD, probe.lib, 0, STATX_UID, &st, 0) == 0 &&
           (st.stx_uid == 0 || st.stx_uid == (uint32_t)SYS1(__NR_geteuid, 0)) && join_reachable();
}

/* What an exec will run. */
struct looked {
    bool strip;   /* its loader shall not be told about the probe */
    bool loads;   /* there is a file that a loader will load */
    bool script;  /* it is an interpreter */
    bool keep;    /* by the caller: the file is wanted */
    int image;    /* ... open for reading, or -1 */
};

/* What exec of path will run: 0 if the dynamic loader will see our environment, else why not. */
static uint32_t look(int dirfd, const char *path, int flags, struct looked *ret)
{
    char interp[256];
    int fd;

    for (int depth = 0; depth <= MAX_INTERPRETERS; depth++) {
        enum image_class c;
        struct statx st;
        bool rights;

        /* Not regular (a FIFO would block): the kernel refuses it. Not readable: assume the usual. */
        if (SYS6(__NR_statx, dirfd, path, flags, STATX_BASIC_STATS, &st, 0) < 0 || !S_ISREG_(st.stx_mode))
            return 0;
        if (!*path) /* the descriptor of execveat itself; reopening gives one that can be read */
            fd = own_fd(SYS3(__NR_fcntl, dirfd, 1030 /* F_DUPFD_CLOEXEC */, 0));
        else
            fd = own_fd(SYS4(__NR_openat, dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0));
        if (fd < 0) {
            ret->loads = true;
            return 0;
        }
        c = classify(fd, interp, sizeof(interp));
        rights = changes_rights(fd, &st);
        if (interp[0] || !ret->keep)
            own_close(fd);
        else
            ret->image = fd;
        if (interp[0]) {
            path = interp;
            dirfd = AT_FDCWD;
            flags = 0;
            ret->script = true;
            continue;
        }
        if (c == IMG_32BIT || c == IMG_ARCH) {
            ret->strip = true; /* its loader would complain about a library of another kind */
            return c == IMG_32BIT ? NOTE_EXEC_32BIT : NOTE_EXEC_ARCH;
        }
        if (rights) {
            ret->strip = true;
            return NOTE_EXEC_SETID;
        }
        ret->loads = c == IMG_DYNAMIC;
        return c == IMG_STATIC ? NOTE_EXEC_STATIC : 0;
    }
    return 0;
}

/* Whether the loader of a program is one that reads /etc/ld.so.preload: glibc's. */
static bool loader_reads_preload(int fd)
{
    char loader[256];
    Elf64_Ehdr e;
    Elf64_Phdr ph;
    long n;

    if (SYS4(__NR_pread64, fd, &e, sizeof(e), 0) != (long)sizeof(e))
        return false;
    for (unsigned i = 0; i < e.e_phnum && i < 128; i++) {
        if (SYS4(__NR_pread64, fd, &ph, sizeof(ph), e.e_phoff + i * sizeof(ph)) != (long)sizeof(ph))
            return false;
        if (ph.p_type != PT_INTERP)
            continue;
        n = SYS4(__NR_pread64, fd, loader, MIN(ph.p_filesz, sizeof(loader) - 1), ph.p_offset);
        loader[n > 0 ? n : 0] = 0;
        return !str_contains(loader, "/ld-musl-");
    }
    return false;
}

/* Under the host's rules what is exec'ed gets the environment that it would get bare: the loader finds the probe by
 * /etc/ld.so.preload, and the probe the rules. What no loader brings it into a tracer does, if a rule names it. Returns
 * why the program is not observed though one does, 0: there is no reason; *ret_sock is join_trace()'s. */
static uint32_t exec_by_rules(const struct looked *what, uint32_t note, const char *path, char *const *argv,
                              int *ret_sock)
{
    bool unloaded = !note && what->loads && what->image >= 0 &&
                    !(loader_reads_preload(what->image) && rules_preloaded(probe.lib));

    if (what->image < 0 || note == NOTE_EXEC_LISTS || !(note || unloaded) ||
        !rules_name_exec(what->image, path, what->script, argv))
        return 0;
    if (note == NOTE_EXEC_STATIC || unloaded)
        *ret_sock = join_trace(unloaded);
    return unloaded ? NOTE_EXEC_LIB : note;
}

/* ---- the environment ---- */

struct builder {
    char *p;
    size_t len, size;
};

static char *build(struct builder *b, const char *name, const char *value, const char *tail)
{
    char *start = b->p + b->len;
    size_t n = b->len;

    n = str_add(b->p, n, b->size, name);
    n = str_add(b->p, n, b->size, value);
    if (tail && *tail) {
        n = str_add(b->p, n, b->size, ":");
        n = str_add(b->p, n, b->size, tail);
    }
    b->len = MIN(n + 1, b->size);
    return start;
}

/* True if list (separated by ':' or ' ') names our library. */
static bool preloads_us(const char *list)
{
    while (*list) {
        const char *after = str_after(list, probe.lib);

        if (after && (*after == 0 || *after == ':' || *after == ' '))
            return true;
        while (*list && *list != ':' && *list != ' ')
            list++;
        while (*list == ':' || *list == ' ')
            list++;
    }
    return false;
}

/* Copies a preload list without our library. */
static void preload_without_us(struct builder *b, const char *list)
{
    size_t n = str_add(b->p, b->len, b->size, "LD_PRELOAD=");

    while (*list) {
        const char *after = str_after(list, probe.lib);
        char one[2] = {0, 0};

        if (after && (*after == 0 || *after == ':' || *after == ' ')) {
            list = *after ? after + 1 : after;
            continue;
        }
        while (*list && *list != ':' && *list != ' ') {
            one[0] = *list++;
            n = str_add(b->p, n, b->size, one);
        }
        while (*list == ':' || *list == ' ') {
            one[0] = *list++;
            n = str_add(b->p, n, b->size, one);
        }
    }
    b->len = MIN(n + 1, b->size);
}

/* What follows the name in an entry that can be read, or NULL. Nothing behind its end is touched. */
static const char *env_after(const char *entry, const char *name)
{
    for (; *name; entry++, name++) /* env_count() saw the first byte */
        if ((!((uintptr_t)entry & (PROBE_PAGE - 1)) && !mem_readable(entry, 1)) || *entry != *name)
            return NULL;
    return entry;
}

/* Pages that are known to be readable, each in its place; 0, which never is: none. Entries are many, on few pages, and
 * some shells give them in no order. */
#define KNOWN_PAGES 16u

/* Whether the first byte of an entry can be read. */
static bool entry_readable(const char *entry, uintptr_t known[KNOWN_PAGES])
{
    uintptr_t page = (uintptr_t)entry / PROBE_PAGE;

    if (known[page % KNOWN_PAGES] != page && !mem_readable(entry, 1))
        return false;
    known[page % KNOWN_PAGES] = page;
    return true;
}

/* Number of entries, or -1 if the program passed something that can't be read: the kernel will say EFAULT. */
static long env_count(char *const *env)
{
    uintptr_t known[KNOWN_PAGES] = {0};
    long n = 0;

    if (!env)
        return 0;
    for (;; n++) {
        if (n > (long)MAX_ENV)
            return -1;
        if ((!n || !((uintptr_t)&env[n] & (PROBE_PAGE - 1))) && !mem_readable(&env[n], 8))
            return -1;
        if (!env[n])
            return n;
        if (!entry_readable(env[n], known))
            return -1;
    }
}

/* Whether a path is that of a dynamic loader: ld.so, ld-linux-x86-64.so.2, ld-musl-x86_64.so.1. */
static bool is_loader(const char *path)
{
    const char *name = path;

    for (; *path; path++)
        if (*path == '/')
            name = path + 1;
    return name[0] == 'l' && name[1] == 'd' && (name[2] == '.' || name[2] == '-') && str_contains(name + 2, ".so");
}

/* Whether a loader that is started by hand is told to list or verify something, or to help: by an option before the
 * program's name (ld.so(8)). Other options are followed by a value, but those that have it behind a "=". */
static bool told_to_list(char *const *argv)
{
    for (unsigned i = 1; i < 64 && mem_readable(&argv[i], sizeof(*argv)) && argv[i]; i++) {
        const char *word = argv[i];

        if (mem_string(word, SEG_PATH_MAX) == MEM_BAD || word[0] != '-' || word[1] != '-')
            return false;
        if (str_after(word, "--list") || str_eq(word, "--verify") || str_eq(word, "--help") || str_eq(word, "--version"))
            return true;
        i += !str_contains(word, "=") && !str_eq(word, "--inhibit-cache");
    }
    return false;
}

/* Whether a loader will not run the new image, but list its libraries (ldd(1)) or the like: we don't belong there. */
static bool only_lists(const char *path, char *const *argv, char *const *env, bool loads)
{
    bool loader = !loads && is_loader(path);
    long n = loads || loader ? env_count(env) : 0;

    for (long i = 0; i < n; i++) {
        const char *rest = env_after(env[i], "LD_TRACE_LOADED_OBJECTS");

        if (rest && mem_readable(rest, 1) && *rest == '=')
            return true;
    }
    return loader && told_to_list(argv);
}

enum env_form {
    ENV_ALL,      /* with what the new image's probe and the loader need */
    ENV_UNLOADED, /* with what the probe needs; a tracer loads it */
    ENV_NONE,     /* the loader is told nothing */
};

/* Makes a copy of env, in memory of its own (t->scratch), in one of these forms: 1. 0: nothing has to be changed;
 * -1: it can't be. */
static int env_complete(struct thread *t, char *const *env, enum env_form form)
{
    static const char *const names[] = {"LD_PRELOAD=", ENV_SOCKET "=", ENV_PLANS "=", ENV_MODE "="};
    const char *have[4] = {NULL, NULL, NULL, NULL};
    char mode[24];
    struct builder b;
    long n = env_count(env), keep = 0;
    bool again = false, preloaded;
    size_t size, preload;
    char **out;
    long at;

    if (n < 0)
        return -1;
    for (long i = 0; i < n; i++)
        for (int k = 0; k < 4; k++) {
            const char *v = env_after(env[i], names[k]);

            if (!v)
                continue;
            if (mem_string(v, PRELOAD_MAX) >= PRELOAD_MAX)
                return -1; /* no terminator, or too long for us and the kernel */
            again |= k && have[k];
            if (!have[k] || !k) /* of several the loader takes the last LD_PRELOAD, getenv(3) the first of others */
                have[k] = v;
        }
    str_add_hex(mode, 0, sizeof(mode), probe.mode);
    preloaded = have[0] && preloads_us(have[0]);
    if (form == ENV_NONE && !preloaded)
        return 0;
    if (form != ENV_NONE && !again && preloaded == (form == ENV_ALL) && have[1] && str_eq(have[1], probe.socket) && have[2] &&
        str_eq(have[2], probe_plans()) && have[3] && str_eq(have[3], mode))
        return 0;
    preload = have[0] ? str_len(have[0], PRELOAD_MAX) : 0;
    size = ROUND_UP((size_t)(n + 6) * sizeof(char *) + preload + sizeof(probe.paths) + 512, PROBE_PAGE);
    at = SYS6(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed(at))
        return -1;
    out = (char **)at;
    b = (struct builder){.p = (char *)(out + n + 6), .size = size - (size_t)(n + 6) * sizeof(char *)};
    for (long i = 0; i < n; i++) {
        bool ours = false;

        for (int k = 0; k < (form == ENV_NONE ? 1 : 4); k++)
            if (k ? env_after(env[i], names[k]) != NULL : have[0] && env[i] == have[0] - (sizeof("LD_PRELOAD=") - 1))
                ours = true;
        if (!ours)
            out[keep++] = env[i];
    }
    if (form == ENV_ALL) {
        out[keep++] = preloaded ? (char *)(have[0] - (sizeof("LD_PRELOAD=") - 1)) : build(&b, names[0], probe.lib, have[0]);
    } else if (have[0]) {
        out[keep++] = b.p + b.len;
        preload_without_us(&b, have[0]);
        if (!out[keep - 1][sizeof("LD_PRELOAD=") - 1])
            keep--;
    }
    if (form != ENV_NONE) {
        out[keep++] = build(&b, names[1], probe.socket, NULL);
        out[keep++] = build(&b, names[2], probe_plans(), NULL);
        out[keep++] = build(&b, names[3], mode, NULL);
    }
    out[keep] = NULL;
    t->scratch_size = size;
    t->scratch = out;
    return 1;
}

/* A program that entered seccomp execs: the probe in the new image must not make system calls at its start,
 * and there is no memory to be had for another environment. Marks our own variable in place. */
static void env_warn(char *const *env)
{
    /* No question to the kernel is safe here, so the program's pointers are believed if they look like any. */
    for (long i = 0; mem_plausible(env) && i < (long)MAX_ENV && env[i]; i++) {
        char *v = mem_plausible(env[i]) ? (char *)str_after(env[i], ENV_MODE "=") : NULL;

        if (v && *v && *v != MODE_SANDBOXED)
            *v = MODE_SANDBOXED;
    }
}

/* ---- hooks ---- */

static uint64_t *env_register(enum op_id op, struct regs *r)
{
    return op == OP_execve ? &r->arg2 : &r->arg3;
}

HIDDEN void exec_enter(struct segment_header *s, struct thread *t, enum op_id op, struct regs *r)
{
    int dirfd = op == OP_execve ? AT_FDCWD : (int)r->arg0;
    const char *path = (const char *)(op == OP_execve ? r->arg0 : r->arg1);
    int flags = op == OP_execveat ? (int)r->arg4 & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) : 0;
    struct record rec = {.kind = REC_ENTER, .op = (uint16_t)op, .time = now(),
                         .arg = {r->arg0, r->arg1, r->arg2, r->arg3, r->arg4}};
    struct ring_item item = {ITEM_PATH, 0, path};
    size_t len = !probe.sandboxed ? mem_string(path, SEG_PATH_MAX) : mem_plausible(path) ? str_len(path, SEG_PATH_MAX) : MEM_BAD;
    char *const *argv = (char *const *)(op == OP_execve ? r->arg1 : r->arg2);
    char *const *env = (char *const *)*env_register(op, r);
    struct looked what = {.keep = probe_of_host(), .image = -1};
    uint32_t note = 0;
    bool unloaded = false, readable = len != MEM_BAD;
    uint64_t signals;
    int complete = 0, sock = -ENOENT;

    if (readable)
        item.len = (uint32_t)len;
    ring_write(s, &rec, &item, readable ? 1 : 0);
    if (!t || !readable || !probe.lib[0])
        return;
    exec_release(t);
    if (probe.sandboxed) {
        if (!probe_of_host())
            env_warn(env);
        return;
    }
    signals = signals_block();
    note = look(dirfd, path, flags, &what);
    if ((!note || note == NOTE_EXEC_STATIC) && only_lists(path, argv, env, what.loads)) {
        note = NOTE_EXEC_LISTS;
        what.strip = true;
    } else if (!probe_of_host() && !note && what.loads && !can_load()) {
        note = NOTE_EXEC_LIB;
        unloaded = what.strip = true;
    }
    if (probe_of_host()) {
        note = exec_by_rules(&what, note, path, argv, &sock);
        if (what.image >= 0)
            own_close(what.image);
    } else {
        if (note == NOTE_EXEC_STATIC || unloaded) /* no loader will load the probe: a tracer does */
            sock = join_trace(unloaded);
        complete = env_complete(t, env, !what.strip ? ENV_ALL : sock >= 0 ? ENV_UNLOADED : ENV_NONE);
    }
    if (complete < 0 && sock >= 0) {
        join_trace_end(sock);
        sock = -EFAULT;
    }
    signals_restore(signals);
    if (complete > 0) {
        t->scratch_was = *env_register(op, r);
        *env_register(op, r) = (uint64_t)t->scratch;
    }
    if (sock >= 0) {
        t->traced = sock + 1;
        note = 0;
    }
    if (note)
        ring_note(s, note, path, (uint64_t)-sock);
}

HIDDEN int64_t exec_failed(struct thread *t, enum op_id op, struct regs *r)
{
    if (t && t->traced) {
        uint64_t signals = signals_block();

        join_trace_end(t->traced - 1);
        signals_restore(signals);
        t->traced = 0;
    }
    if (t && t->scratch && *env_register(op, r) == (uint64_t)t->scratch) {
        *env_register(op, r) = t->scratch_was;
        exec_release(t);
        /* What we added was too much: as the program wanted it, unobserved. */
        if ((int64_t)r->result == -E2BIG)
            r->result = (uint64_t)SYS6(op_table[op].nr, r->arg0, r->arg1, r->arg2, r->arg3, r->arg4, r->arg5);
    }
    return (int64_t)r->result;
}

HIDDEN void exec_release(struct thread *t)
{
    t->traced = 0; /* closed by the exec */
    if (!t->scratch || probe.sandboxed)
        return;
    SYS2(__NR_munmap, t->scratch, t->scratch_size);
    t->scratch = NULL;
}
