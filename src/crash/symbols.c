/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/symbols.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "crash/demangle.h"
#include "crash/gotable.h"
#include "crash/perfmap.h"

#define SYMBOLS_MAX (8u << 20) /* of one module */
#define UNITS_MAX (1u << 20)
#define ENCLOSING 16u   /* symbols looked at for one that holds an address */
#define ORIGINS_MAX 8u  /* from an inlined function to what declares it */
#define DEPTH_MAX 64u   /* of namespaces, of blocks */
#define INLINED_MAX 32u /* at one address */
#define NAMED_MAX 8192u /* addresses whose names are remembered; a power of two */

struct symbol {
    uint64_t lo, hi; /* hi == lo: no size is known */
    const char *name;
    unsigned char rank;
};
struct unit {
    uint64_t lo, hi; /* as in the file */
    Dwarf_Off die;
};
struct table {
    struct symbols *s;
    const struct module *file;
    Dwfl_Module *mod;
    bool read, units_read, go_read, is_go;
    struct symbol *v;
    size_t count;
    struct unit *units;
    size_t unit_count;
    Dwarf *dwarf;
    Dwarf_Addr bias;
    struct gotable go;
    Dwarf_Addr go_bias;
};
struct named {
    uint64_t pc;
    uint32_t flags, first, count; /* count 0: free */
};
struct symbols {
    const struct look *l;
    Dwfl *dwfl;
    struct table *tables; /* one for each module of l->modules */
    struct named *named;
    struct perfmap perf;
    bool perf_read;
};

/*
 * libdwfl asks a server for what it doesn't find, if these are there. They stand here so that the linker leaves out its
 * own, which load a library as soon as the program starts: scope asks nobody.
 */
int __libdwfl_debuginfod_find_executable(Dwfl *dwfl, const unsigned char *id, size_t len);
int __libdwfl_debuginfod_find_debuginfo(Dwfl *dwfl, const unsigned char *id, size_t len);
void __libdwfl_debuginfod_end(void *client);

int __libdwfl_debuginfod_find_executable(Dwfl *dwfl, const unsigned char *id, size_t len)
{
    return -ENOSYS;
}

int __libdwfl_debuginfod_find_debuginfo(Dwfl *dwfl, const unsigned char *id, size_t len)
{
    return -ENOSYS;
}

void __libdwfl_debuginfod_end(void *client) {}

/* --- files --- */

static bool has_build_id(int fd, const void *id, int size)
{
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    const void *theirs;
    ssize_t n = elf ? dwelf_elf_gnu_build_id(elf, &theirs) : -1;
    bool same = n == size && memcmp(theirs, id, (size_t)size) == 0;

    elf_end(elf);
    return same;
}

/* A file of debug information by the number that links it to its program, in the process's root directory. */
static int open_by_build_id(const struct symbols *s, const unsigned char *id, int size)
{
    char path[200] = "/usr/lib/debug/.build-id/";
    size_t at = strlen(path);
    int fd;

    if (size < 3 || size > 64)
        return -1;
    for (int i = 0; i < size; i++)
        at += (size_t)snprintf(path + at, sizeof(path) - at, i == 1 ? "/%02x" : "%02x", id[i]);
    snprintf(path + at, sizeof(path) - at, ".debug");
    fd = facts_open_below(s->l->root, path);
    if (fd >= 0 && !has_build_id(fd, id, size)) {
        close(fd);
        fd = -1;
    }
    return fd < 0 ? -1 : fd;
}

static int find_elf(Dwfl_Module *mod, void **userdata, const char *name, Dwarf_Addr base, char **ret_name,
                    Elf **ret_elf)
{
    struct table *t = *userdata;
    const struct module *m = t ? t->file : NULL;

    if (!m)
        return -1;
    if (m->fd >= 0) {
        *ret_name = xstrdup(m->name);
        return dup(m->fd); /* libdwfl closes it */
    }
    if (m->image)
        *ret_elf = elf_memory(m->image, m->image_size);
    return -1;
}

static int find_debuginfo(Dwfl_Module *mod, void **userdata, const char *name, Dwarf_Addr base, const char *file,
                          const char *link, GElf_Word crc, char **ret_name)
{
    static const char *const places[] = {"%.*s/%s", "%.*s/.debug/%s", "/usr/lib/debug%.*s/%s"};
    struct table *t = *userdata;
    const unsigned char *id;
    GElf_Addr at;
    int n = dwfl_module_build_id(mod, &id, &at), fd;
    const char *end;

    if (!t || n <= 0)
        return -1;
    fd = open_by_build_id(t->s, id, n);
    end = strrchr(t->file->name, '/');
    for (size_t i = 0; fd < 0 && end && link && !strchr(link, '/') && i < sizeof(places) / sizeof(*places); i++) {
        char *path = xasprintf(places[i], (int)(end - t->file->name), t->file->name, link); // NOLINT: all of one kind

        fd = facts_open_below(t->s->l->root, path);
        free(path);
        if (fd >= 0 && !has_build_id(fd, id, n)) {
            close(fd);
            fd = -1;
        }
    }
    return fd < 0 ? -1 : fd;
}

static int no_section_address(Dwfl_Module *mod, void **userdata, const char *name, Dwarf_Addr base, const char *section,
                              GElf_Word index, const GElf_Shdr *header, Dwarf_Addr *ret)
{
    return -1;
}

/* What dwz has moved out of several files of debug information, likewise. The library would look for it on its own, by
 * any path that the file names. */
static void set_alternative(const struct symbols *s, Dwarf *dwarf)
{
    static const char dir[] = "/.dwz/";
    const char *name, *rest;
    const void *id;
    ssize_t n = dwelf_dwarf_gnu_debugaltlink(dwarf, &name, &id);
    Dwarf *alt = NULL;
    int fd;

    if (n <= 0)
        return;
    fd = n <= 64 ? open_by_build_id(s, id, (int)n) : -1;
    rest = strstr(name, dir);
    if (fd < 0 && rest) {
        char *path = xasprintf("/usr/lib/debug%s", rest);

        fd = facts_open_below(s->l->root, path);
        free(path);
        if (fd >= 0 && !has_build_id(fd, id, (int)n)) {
            close(fd);
            fd = -1;
        }
    }
    if (fd >= 0)
        alt = dwarf_begin(fd, DWARF_C_READ);
    dwarf_setalt(dwarf, alt ? alt : dwarf); /* itself: what it refers to isn't there */
}

struct symbols *symbols_new(const struct look *l)
{
    static const Dwfl_Callbacks callbacks = {
        .find_elf = find_elf, .find_debuginfo = find_debuginfo, .section_address = no_section_address};
    struct symbols *s = xcalloc(1, sizeof(*s));

    s->l = l;
    s->tables = xcalloc(l->modules.count + 1, sizeof(*s->tables));
    s->named = xcalloc(NAMED_MAX, sizeof(*s->named));
    elf_version(EV_CURRENT);
    s->dwfl = dwfl_begin(&callbacks);
    if (!s->dwfl)
        return NULL;
    dwfl_report_begin(s->dwfl);
    for (size_t i = 0; i < l->modules.count; i++) {
        const struct module *m = &l->modules.v[i];
        struct table *t = &s->tables[i];
        void **userdata;

        t->s = s;
        t->file = m;
        t->mod = dwfl_report_module(s->dwfl, *m->name ? m->name : "(probe)", m->lo, m->hi);
        if (t->mod && dwfl_module_info(t->mod, &userdata, NULL, NULL, NULL, NULL, NULL, NULL))
            *userdata = t;
    }
    dwfl_report_end(s->dwfl, NULL, NULL);
    return s;
}

Dwfl *symbols_dwfl(struct symbols *s)
{
    return s->dwfl;
}

static struct table *table_at(struct symbols *s, uint64_t address)
{
    const struct module *m = modules_at(&s->l->modules, address);
    struct table *t = m ? &s->tables[m - s->l->modules.v] : NULL;

    return t && t->mod ? t : NULL;
}

bool symbols_has_cfi(struct symbols *s, uint64_t pc)
{
    struct table *t = table_at(s, pc);
    Dwarf_Frame *frame = NULL;
    Dwarf_Addr bias;
    Dwarf_CFI *cfi;

    if (!t)
        return false;
    cfi = dwfl_module_eh_cfi(t->mod, &bias);
    if (!cfi || dwarf_cfi_addrframe(cfi, pc - bias, &frame) != 0) {
        cfi = dwfl_module_dwarf_cfi(t->mod, &bias);
        if (!cfi || dwarf_cfi_addrframe(cfi, pc - bias, &frame) != 0)
            return false;
    }
    free(frame);
    return true;
}

bool symbols_code(struct symbols *s, uint64_t address, void *to, size_t size)
{
    const struct module *m = modules_at(&s->l->modules, address);
    const struct process_map *map = process_map_at(&s->l->view.maps, address);
    uint64_t at;

    if (!m || !map || size > map->hi - address)
        return false;
    if (m->fd >= 0)
        return pread(m->fd, to, size, (off_t)(map->offset + (address - map->lo))) == (ssize_t)size;
    at = address - m->lo; /* made of what is loaded at m->lo: right where file and memory have one layout */
    if (!m->image || at > m->image_size || size > m->image_size - at)
        return false;
    memcpy(to, (const char *)m->image + at, size);
    return true;
}

/* --- symbols --- */

static unsigned char rank_of(const GElf_Sym *sym)
{
    unsigned bind = GELF_ST_BIND(sym->st_info);

    return bind == STB_GLOBAL ? 0 : bind == STB_WEAK ? 1 : 2;
}

static int by_address(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;

    if (x->lo != y->lo)
        return x->lo < y->lo ? -1 : 1;
    return (int)y->rank - (int)x->rank; /* the best comes last */
}

static void read_symbols(struct table *t)
{
    int n = dwfl_module_getsymtab(t->mod);
    size_t room = 0;

    t->read = true;
    for (int i = 1; i < n && t->count < SYMBOLS_MAX; i++) {
        GElf_Sym sym;
        GElf_Addr value;
        const char *name = dwfl_module_getsym_info(t->mod, i, &sym, &value, NULL, NULL, NULL);
        unsigned type = GELF_ST_TYPE(sym.st_info);

        if (!name || !*name || sym.st_shndx == SHN_UNDEF ||
            (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) ||
            value - t->file->lo >= t->file->hi - t->file->lo)
            continue;
        if (t->count == room) {
            room = room ? 2 * room : 1024;
            t->v = xrealloc(t->v, room, sizeof(*t->v));
        }
        t->v[t->count++] = (struct symbol){value, value + sym.st_size, name, rank_of(&sym)};
    }
    if (t->count)
        qsort(t->v, t->count, sizeof(*t->v), by_address);
}

static const struct symbol *symbol_at(struct table *t, uint64_t address)
{
    size_t lo = 0, hi;

    if (!t->read)
        read_symbols(t);
    hi = t->count;
    while (lo < hi) { /* the first behind the address */
        size_t mid = lo + (hi - lo) / 2;

        if (t->v[mid].lo <= address)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (size_t i = 0; i < ENCLOSING && i < lo; i++)
        if (address < t->v[lo - 1 - i].hi)
            return &t->v[lo - 1 - i];
    /* Assembly often has no sizes. */
    return lo && t->v[lo - 1].hi == t->v[lo - 1].lo ? &t->v[lo - 1] : NULL;
}

/* --- Go --- */

/* A word that the loader relocates: what it adds the base to. */
static uint64_t addend_at(Elf *elf, uint64_t place)
{
    Elf_Scn *section = NULL;

    while ((section = elf_nextscn(elf, section))) {
        GElf_Shdr header;
        Elf_Data *data;

        if (!gelf_getshdr(section, &header) || header.sh_type != SHT_RELA || !(header.sh_flags & SHF_ALLOC) ||
            !(data = elf_getdata(section, NULL)))
            continue;
        for (size_t i = 0; header.sh_entsize && i < data->d_size / header.sh_entsize && i < INT32_MAX; i++) {
            GElf_Rela rela;

            if (gelf_getrela(data, (int)i, &rela) && rela.r_offset == place && rela.r_addend > 0)
                return (uint64_t)rela.r_addend;
        }
    }
    return 0;
}

static void read_go(struct table *t)
{
    static const char name[] = ".gopclntab";
    Elf *elf = dwfl_module_getelf(t->mod, &t->go_bias);
    Elf_Scn *section = NULL;
    size_t strings;

    t->go_read = true;
    if (!elf || elf_getshdrstrndx(elf, &strings) != 0)
        return;
    while ((section = elf_nextscn(elf, section))) {
        GElf_Shdr header;
        const char *s = gelf_getshdr(section, &header) ? elf_strptr(elf, strings, header.sh_name) : NULL;
        size_t n = s ? strlen(s) : 0, place;
        uint64_t text = 0;
        Elf_Data *data;

        if (n < sizeof(name) - 1 || strcmp(s + n - (sizeof(name) - 1), name) != 0 || header.sh_type == SHT_NOBITS ||
            !(data = elf_rawdata(section, NULL)))
            continue;
        place = gotable_text_place(data->d_buf, data->d_size);
        if (place && place + 8 <= data->d_size) {
            memcpy(&text, (const char *)data->d_buf + place, sizeof(text));
            text = text ? text : addend_at(elf, header.sh_addr + place);
        }
        t->is_go = gotable_open(&t->go, data->d_buf, data->d_size, text);
        return;
    }
}

static bool go_function_at(struct table *t, uint64_t address, struct gofunction *ret)
{
    if (!t->go_read)
        read_go(t);
    return t->is_go && gotable_function(&t->go, address - t->go_bias, ret);
}

bool symbols_go_frame(struct symbols *s, uint64_t address, int64_t *ret_size)
{
    struct table *t = table_at(s, address);
    struct gofunction f;

    if (!t || !go_function_at(t, address, &f))
        return false;
    *ret_size = gotable_frame_size(&t->go, &f, address - t->go_bias);
    return true;
}

const char *symbols_function(struct symbols *s, uint64_t address, uint64_t *ret_start)
{
    struct table *t = table_at(s, address);
    const struct symbol *sym = t ? symbol_at(t, address) : NULL;
    struct gofunction f;

    if (!sym && t && go_function_at(t, address, &f)) {
        if (ret_start)
            *ret_start = f.entry + t->go_bias;
        return f.name;
    }
    if (ret_start)
        *ret_start = sym ? sym->lo : 0;
    return sym ? sym->name : "";
}

/* --- lines --- */

static void read_units(struct table *t)
{
    Dwarf_Die *unit = NULL;
    size_t room = 0;
    Dwarf_Addr bias;

    t->units_read = true;
    t->dwarf = dwfl_module_getdwarf(t->mod, &t->bias);
    if (!t->dwarf)
        return;
    set_alternative(t->s, t->dwarf);
    while ((unit = dwfl_module_nextcu(t->mod, unit, &bias))) {
        Dwarf_Addr base, lo, hi;

        for (ptrdiff_t at = 0; t->unit_count < UNITS_MAX && (at = dwarf_ranges(unit, at, &base, &lo, &hi)) > 0;) {
            if (t->unit_count == room) {
                room = room ? 2 * room : 256;
                t->units = xrealloc(t->units, room, sizeof(*t->units));
            }
            t->units[t->unit_count++] = (struct unit){lo, hi, dwarf_dieoffset(unit)};
        }
    }
}

static bool is_called(Dwarf_Die *die, const char *name)
{
    const char *s = dwarf_diename(die);

    return s && strcmp(s, name) == 0;
}

static uint64_t member_place(Dwarf_Die *of, const char *name)
{
    Dwarf_Attribute attr;
    Dwarf_Word place;
    Dwarf_Die die;

    for (int rc = dwarf_child(of, &die); rc == 0; rc = dwarf_siblingof(&die, &die))
        if (dwarf_tag(&die) == DW_TAG_member && is_called(&die, name) &&
            dwarf_attr(&die, DW_AT_data_member_location, &attr) && dwarf_formudata(&attr, &place) == 0)
            return place;
    return 0;
}

uint64_t symbols_goid_place(struct symbols *s)
{
    for (size_t i = 0; i < s->l->modules.count; i++) {
        struct table *t = &s->tables[i];
        Dwarf_Die *unit = NULL, die;
        Dwarf_Addr bias;

        if (t->mod && !t->go_read)
            read_go(t);
        if (!t->is_go)
            continue;
        while ((unit = dwfl_module_nextcu(t->mod, unit, &bias)))
            for (int rc = is_called(unit, "runtime") ? dwarf_child(unit, &die) : 1; rc == 0;
                 rc = dwarf_siblingof(&die, &die))
                if (dwarf_tag(&die) == DW_TAG_structure_type && is_called(&die, "runtime.g"))
                    return member_place(&die, "goid");
    }
    return 0;
}

/* The compilation unit of an address. The table that compilers may make of them (.debug_aranges) is not always there.
 */
static bool unit_at(struct table *t, uint64_t address, Dwarf_Die *ret)
{
    if (!t->units_read)
        read_units(t);
    if (!t->dwarf)
        return false;
    address -= t->bias;
    for (size_t i = 0; i < t->unit_count; i++)
        if (address - t->units[i].lo < t->units[i].hi - t->units[i].lo)
            return dwarf_offdie(t->dwarf, t->units[i].die, ret) != NULL;
    return false;
}

/* Adds the names of what is around a function: namespaces and classes. */
static char *with_surroundings(Dwarf_Die *die, const char *name)
{
    Dwarf_Die origin = *die, *scopes = NULL;
    char *all = xstrdup(name);
    Dwarf_Attribute attr;
    int n;

    for (unsigned i = 0; i < ORIGINS_MAX && (dwarf_attr(&origin, DW_AT_abstract_origin, &attr) ||
                                             dwarf_attr(&origin, DW_AT_specification, &attr));
         i++)
        if (!dwarf_formref_die(&attr, &origin))
            break;
    n = dwarf_getscopes_die(&origin, &scopes);
    for (int i = 1; i < n && strlen(all) < DEMANGLE_SHOWN; i++) {
        int tag = dwarf_tag(&scopes[i]);
        const char *outer = dwarf_diename(&scopes[i]);
        char *longer;

        if (tag != DW_TAG_namespace && tag != DW_TAG_class_type && tag != DW_TAG_structure_type &&
            tag != DW_TAG_union_type && tag != DW_TAG_enumeration_type)
            continue;
        longer = xasprintf("%.512s::%s", outer ? outer : "(anonymous)", all);
        free(all);
        all = longer;
    }
    free(scopes);
    return all;
}

/* A function's name as it is linked, or as the source has it with what is around it: malloc'ed, NULL if there is none.
 */
static char *die_name(Dwarf_Die *die, Dwarf_Die *unit)
{
    Dwarf_Attribute attr;
    const char *name = NULL;

    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attr) ||
        dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attr))
        name = dwarf_formstring(&attr);
    if (name)
        return xstrdup(name);
    name = dwarf_attr_integrate(die, DW_AT_name, &attr) ? dwarf_formstring(&attr) : NULL;
    if (!name)
        return NULL;
    switch (dwarf_srclang(unit)) {
    case DW_LANG_C_plus_plus:
    case DW_LANG_C_plus_plus_03:
    case DW_LANG_C_plus_plus_11:
    case DW_LANG_C_plus_plus_14:
    case DW_LANG_Rust:
        return with_surroundings(die, name);
    default:
        return xstrdup(name);
    }
}

static char *full_path(Dwarf_Die *unit, const char *file)
{
    Dwarf_Attribute attr;
    const char *dir = dwarf_attr(unit, DW_AT_comp_dir, &attr) ? dwarf_formstring(&attr) : NULL;

    return *file != '/' && dir ? xasprintf("%s/%s", dir, file) : xstrdup(file);
}

struct place {
    char *file;
    unsigned line;
};

static uint32_t add_readable(struct results *r, const char *name)
{
    char *plain = demangle(name);
    uint32_t at = results_add_text(r, plain);

    free(plain);
    return at;
}

static void add_frame(struct results *r, const struct result_frame *like, const char *function, uint64_t offset,
                      const struct place *at, uint32_t flags)
{
    struct result_frame *f = results_add_frame(r);

    if (!f)
        return;
    *f = *like;
    f->function = function ? add_readable(r, function) : 0;
    f->file = at->file ? results_add_text(r, at->file) : 0;
    f->line = at->line;
    f->offset = offset;
    f->flags |= flags;
}

/* The function that holds an address, also below namespaces and classes, where dwarf_getscopes() doesn't look; deep:
 * below other functions, too, where those of lambdas are. */
static bool function_die(Dwarf_Die *in, uint64_t address, bool deep, unsigned depth, Dwarf_Die *ret)
{
    Dwarf_Die die;

    for (int rc = dwarf_child(in, &die); rc == 0; rc = dwarf_siblingof(&die, &die)) {
        bool into = false;

        switch (dwarf_tag(&die)) {
        case DW_TAG_subprogram:
            if (dwarf_haspc(&die, address) > 0) {
                *ret = die;
                return true;
            }
            into = deep;
            break;
        case DW_TAG_lexical_block:
            into = deep;
            break;
        case DW_TAG_namespace:
        case DW_TAG_module:
        case DW_TAG_class_type:
        case DW_TAG_structure_type:
        case DW_TAG_union_type:
        case DW_TAG_enumeration_type:
            into = true;
            break;
        default:
            break;
        }
        if (into && depth < DEPTH_MAX && dwarf_haschildren(&die) > 0 && function_die(&die, address, deep, depth + 1, ret))
            return true;
    }
    return false;
}

/* What has been inlined there into a function, the outermost first: returns how many. */
static unsigned inlined_dies(const Dwarf_Die *function, uint64_t address, Dwarf_Die ret[INLINED_MAX])
{
    Dwarf_Die in = *function, die;
    unsigned n = 0;
    bool on = true;

    for (unsigned depth = 0; on && depth < DEPTH_MAX && n < INLINED_MAX; depth++) {
        on = false;
        for (int rc = dwarf_child(&in, &die); rc == 0; rc = dwarf_siblingof(&die, &die)) {
            int tag = dwarf_tag(&die);

            if ((tag != DW_TAG_inlined_subroutine && tag != DW_TAG_lexical_block && tag != DW_TAG_try_block &&
                 tag != DW_TAG_catch_block) ||
                dwarf_haspc(&die, address) <= 0)
                continue;
            if (tag == DW_TAG_inlined_subroutine)
                ret[n++] = die;
            in = die;
            on = true;
            break;
        }
    }
    return n;
}

/* Where the call was that has been inlined. */
static void call_place(Dwarf_Die *die, Dwarf_Die *unit, struct place *at)
{
    Dwarf_Attribute attr;
    size_t count = 0;
    Dwarf_Files *files;
    Dwarf_Word v;

    free(at->file);
    *at = (struct place){0};
    if (dwarf_attr(die, DW_AT_call_file, &attr) && dwarf_formudata(&attr, &v) == 0 &&
        dwarf_getsrcfiles(unit, &files, &count) == 0 && v < count) {
        const char *name = dwarf_filesrc(files, v, NULL, NULL);

        at->file = name ? full_path(unit, name) : NULL;
    }
    if (dwarf_attr(die, DW_AT_call_line, &attr) && dwarf_formudata(&attr, &v) == 0)
        at->line = (unsigned)v;
}

/* Adds the functions that have been inlined at an address, the innermost first; *at becomes the place in the function
 * that isn't. Returns the name of that, malloc'ed, or NULL. */
static char *add_inlined(struct table *t, struct results *r, const struct result_frame *bare, uint64_t address,
                         Dwarf_Die *unit, struct place *at)
{
    Dwarf_Die function, inlined[INLINED_MAX];
    unsigned n;

    if (!function_die(unit, address - t->bias, false, 0, &function) &&
        !function_die(unit, address - t->bias, true, 0, &function))
        return NULL;
    n = inlined_dies(&function, address - t->bias, inlined);
    while (n-- > 0) {
        char *name = die_name(&inlined[n], unit);

        add_frame(r, bare, name, 0, at, FRAME_INLINED);
        free(name);
        call_place(&inlined[n], unit, at);
    }
    return die_name(&function, unit);
}

/* Code that a JIT compiler has made. */
static const struct perfmap_entry *generated_at(struct symbols *s, uint64_t address)
{
    if (!s->perf_read) {
        struct stat st;
        void *text = MAP_FAILED;

        s->perf_read = true;
        if (s->l->perf >= 0 && fstat(s->l->perf, &st) == 0 && st.st_size > 0 && st.st_size <= PERF_MAP_MAX)
            text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, s->l->perf, 0);
        if (text != MAP_FAILED)
            perfmap_read(&s->perf, text, (size_t)st.st_size);
    }
    return perfmap_at(&s->perf, address);
}

static void name_generated(struct symbols *s, struct results *r, const struct result_frame *bare, uint64_t address)
{
    const struct perfmap_entry *e = generated_at(s, address);
    struct place nowhere = {0};
    char *name = e ? xstrndup(e->name, e->len) : NULL;

    add_frame(r, bare, name, e ? bare->pc - e->lo : 0, &nowhere, 0);
    free(name);
}

static void name_frame(struct symbols *s, struct results *r, const struct result_frame *bare)
{
    uint64_t address = bare->flags & FRAME_EXACT_PC ? bare->pc : bare->pc - 1;
    struct table *t = table_at(s, address);
    char *in_dwarf = NULL;
    const struct symbol *sym;
    struct place at = {0};
    struct gofunction f;
    Dwarf_Line *line;
    Dwarf_Die unit;

    if (!t) {
        name_generated(s, r, bare, address);
        return;
    }
    if (unit_at(t, address, &unit)) {
        line = dwarf_getsrc_die(&unit, address - t->bias);
        if (line) {
            const char *file = dwarf_linesrc(line, NULL, NULL);
            int n = 0;

            at.file = file ? full_path(&unit, file) : NULL;
            at.line = dwarf_lineno(line, &n) == 0 ? (unsigned)n : 0;
        }
        in_dwarf = add_inlined(t, r, bare, address, &unit, &at);
    }
    sym = symbol_at(t, address);
    if (sym || in_dwarf) {
        add_frame(r, bare, in_dwarf ? in_dwarf : sym->name, sym ? bare->pc - sym->lo : 0, &at, 0);
    } else if (go_function_at(t, address, &f)) {
        const char *file;

        at.line = gotable_line(&t->go, &f, address - t->go_bias, &file);
        at.file = file ? xstrdup(file) : NULL;
        add_frame(r, bare, f.name, bare->pc - t->go_bias - f.entry, &at, 0);
    } else
        add_frame(r, bare, NULL, bare->pc - t->file->lo, &at, FRAME_OF_MODULE);
    free(in_dwarf);
    free(at.file);
}

/* Many threads stand at the same place. */
void symbols_name(struct symbols *s, struct results *r, const struct result_frame *bare)
{
    struct named *n = &s->named[(bare->pc * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (NAMED_MAX - 1)];

    if (n->count && n->pc == bare->pc && n->flags == bare->flags) {
        for (uint32_t i = 0; i < n->count; i++) {
            struct result_frame *f = results_add_frame(r);

            if (f)
                *f = r->frames[n->first + i];
        }
        return;
    }
    *n = (struct named){bare->pc, bare->flags, r->frame_count, 0};
    name_frame(s, r, bare);
    n->count = r->frame_count - n->first;
}
