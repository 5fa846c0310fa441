/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/elf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Younger than the <elf.h> of glibc 2.35 (gABI, "Dynamic Section"). */
enum { DT_RELRSZ_ = 35, DT_RELR_ = 36 };

static int inside(size_t size, uint64_t off, uint64_t len)
{
    return off <= size && len <= size - off;
}

/* Copies a structure out of the image: files don't promise alignment. */
static int get(const struct elf_image *elf, uint64_t off, void *to, size_t len)
{
    if (!inside(elf->size, off, len))
        return 0;
    memcpy(to, elf->image + off, len);
    return 1;
}

static int get_ehdr(const void *image, size_t size, Elf64_Ehdr *eh)
{
    if (size < sizeof(*eh))
        return -ENOEXEC;
    memcpy(eh, image, sizeof(*eh));
    if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
        eh->e_ident[EI_DATA] != ELFDATA2LSB || (eh->e_type != ET_EXEC && eh->e_type != ET_DYN) ||
        eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0 || eh->e_phnum > ELF_MAX_PHDRS ||
        !inside(size, eh->e_phoff, (uint64_t)eh->e_phnum * sizeof(Elf64_Phdr)))
        return -ENOEXEC;
    return 0;
}

/* Section headers are optional: a strange table counts as none. */
static unsigned section_count(const struct elf_image *elf, Elf64_Ehdr *eh)
{
    if (!get(elf, 0, eh, sizeof(*eh)) || eh->e_shentsize != sizeof(Elf64_Shdr) ||
        !inside(elf->size, eh->e_shoff, (uint64_t)eh->e_shnum * sizeof(Elf64_Shdr)))
        return 0;
    return eh->e_shnum;
}

static void section(const struct elf_image *elf, const Elf64_Ehdr *eh, unsigned i, Elf64_Shdr *sh)
{
    memcpy(sh, elf->image + eh->e_shoff + (size_t)i * sizeof(*sh), sizeof(*sh));
}

void elf_addresses_add(struct elf_addresses *a, uint64_t v)
{
    if (a->count == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 256;
        a->v = xrealloc(a->v, a->cap, sizeof(*a->v));
    }
    a->v[a->count++] = v;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

void elf_addresses_sort(struct elf_addresses *a)
{
    size_t n = 0;

    if (a->count)
        qsort(a->v, a->count, sizeof(*a->v), compare_u64);
    for (size_t i = 0; i < a->count; i++)
        if (!n || a->v[i] != a->v[n - 1])
            a->v[n++] = a->v[i];
    a->count = n;
}

void elf_addresses_free(struct elf_addresses *a)
{
    free(a->v);
    memset(a, 0, sizeof(*a));
}

static int compare_range(const void *a, const void *b)
{
    const struct elf_range *x = a, *y = b;

    return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

static void add_text(struct elf_image *elf, uint64_t vaddr, uint64_t size)
{
    uint64_t left;
    const uint8_t *p = elf_at(elf, vaddr, 1, &left);

    if (!p || elf->text_count == ELF_MAX_TEXT || !size)
        return;
    elf->text[elf->text_count++] = (struct elf_range){vaddr, size < left ? size : left, p};
}

int elf_open(const void *image, size_t size, struct elf_image *elf)
{
    Elf64_Ehdr eh;
    struct elf_range exec[ELF_MAX_SEGMENTS];
    unsigned exec_count = 0, n;
    int r = get_ehdr(image, size, &eh);

    if (r < 0)
        return r;
    memset(elf, 0, sizeof(*elf));
    elf->image = image;
    elf->size = size;
    elf->machine = eh.e_machine;
    elf->position_dependent = eh.e_type == ET_EXEC;
    elf->entry = eh.e_entry;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf64_Phdr ph;

        memcpy(&ph, elf->image + eh.e_phoff + (size_t)i * sizeof(ph), sizeof(ph));
        if (ph.p_type != PT_LOAD || !ph.p_filesz || ph.p_offset >= size)
            continue;
        if (ph.p_filesz > size - ph.p_offset) /* a file that was cut short */
            ph.p_filesz = size - ph.p_offset;
        if (ph.p_vaddr + ph.p_filesz < ph.p_vaddr || ph.p_vaddr + ph.p_filesz > INT64_MAX)
            return -ENOEXEC;
        if (elf->segment_count == ELF_MAX_SEGMENTS)
            return -ENOEXEC;
        elf->segments[elf->segment_count] = (struct elf_range){ph.p_vaddr, ph.p_filesz, elf->image + ph.p_offset};
        if (ph.p_flags & PF_X)
            exec[exec_count++] = elf->segments[elf->segment_count];
        elf->segment_count++;
    }
    /* Sections say which parts of an executable segment are code; only the segments say what is mapped. */
    n = section_count(elf, &eh);
    for (unsigned i = 0; i < n; i++) {
        Elf64_Shdr sh;

        section(elf, &eh, i, &sh);
        if (sh.sh_type != SHT_PROGBITS || (sh.sh_flags & (SHF_ALLOC | SHF_EXECINSTR)) != (SHF_ALLOC | SHF_EXECINSTR))
            continue;
        for (unsigned k = 0; k < exec_count; k++)
            if (sh.sh_addr >= exec[k].vaddr && sh.sh_addr - exec[k].vaddr < exec[k].size)
                add_text(elf, sh.sh_addr,
                         sh.sh_size < exec[k].size - (sh.sh_addr - exec[k].vaddr)
                             ? sh.sh_size
                             : exec[k].size - (sh.sh_addr - exec[k].vaddr));
    }
    if (!elf->text_count)
        for (unsigned k = 0; k < exec_count; k++)
            add_text(elf, exec[k].vaddr, exec[k].size);
    qsort(elf->text, elf->text_count, sizeof(elf->text[0]), compare_range);
    n = 0;
    for (unsigned i = 0; i < elf->text_count; i++) {
        struct elf_range *prev = n ? &elf->text[n - 1] : NULL;

        if (prev && elf->text[i].vaddr < prev->vaddr + prev->size) /* overlapping: a lie, keep the first */
            continue;
        elf->text[n++] = elf->text[i];
    }
    elf->text_count = n;
    if (n && elf->text[n - 1].vaddr + elf->text[n - 1].size - elf->text[0].vaddr > ELF_MAX_TEXT_SPAN)
        return -EFBIG;
    return 0;
}

const uint8_t *elf_at(const struct elf_image *elf, uint64_t vaddr, uint64_t size, uint64_t *left)
{
    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct elf_range *s = &elf->segments[i];

        if (vaddr >= s->vaddr && vaddr - s->vaddr < s->size && size <= s->size - (vaddr - s->vaddr)) {
            if (left)
                *left = s->size - (vaddr - s->vaddr);
            return s->bytes + (vaddr - s->vaddr);
        }
    }
    return NULL;
}

const struct elf_range *elf_text_at(const struct elf_image *elf, uint64_t vaddr)
{
    for (unsigned i = 0; i < elf->text_count; i++)
        if (vaddr >= elf->text[i].vaddr && vaddr - elf->text[i].vaddr < elf->text[i].size)
            return &elf->text[i];
    return NULL;
}

void elf_functions(const struct elf_image *elf, int labels, struct elf_addresses *out)
{
    Elf64_Ehdr eh;
    unsigned n = section_count(elf, &eh), seen = 0;

    if (!labels && elf_text_at(elf, elf->entry))
        elf_addresses_add(out, elf->entry);
    for (unsigned i = 0; i < n; i++) {
        Elf64_Shdr sh;

        section(elf, &eh, i, &sh);
        if ((sh.sh_type != SHT_SYMTAB && sh.sh_type != SHT_DYNSYM) || !inside(elf->size, sh.sh_offset, sh.sh_size) ||
            (seen & 1u << (sh.sh_type == SHT_DYNSYM))) /* a file has one of each (gABI, "Sections") */
            continue;
        seen |= 1u << (sh.sh_type == SHT_DYNSYM);
        for (uint64_t k = 0; k + sizeof(Elf64_Sym) <= sh.sh_size; k += sizeof(Elf64_Sym)) {
            Elf64_Sym sym;
            unsigned type;

            memcpy(&sym, elf->image + sh.sh_offset + k, sizeof(sym));
            type = ELF64_ST_TYPE(sym.st_info);
            if (labels ? type != STT_NOTYPE : type != STT_FUNC && type != STT_GNU_IFUNC)
                continue;
            if (sym.st_shndx != SHN_UNDEF && elf_text_at(elf, sym.st_value))
                elf_addresses_add(out, sym.st_value);
        }
    }
}

void elf_each_function(const struct elf_image *elf, void (*fn)(void *arg, const char *name, uint64_t vaddr), void *arg)
{
    Elf64_Ehdr eh;
    unsigned n = section_count(elf, &eh), seen = 0;

    for (unsigned i = 0; i < n; i++) {
        Elf64_Shdr sh, names;
        const char *text;

        section(elf, &eh, i, &sh);
        if ((sh.sh_type != SHT_SYMTAB && sh.sh_type != SHT_DYNSYM) || !inside(elf->size, sh.sh_offset, sh.sh_size) ||
            sh.sh_link >= n || (seen & 1u << (sh.sh_type == SHT_DYNSYM)))
            continue;
        section(elf, &eh, sh.sh_link, &names);
        if (!names.sh_size || !inside(elf->size, names.sh_offset, names.sh_size))
            continue;
        text = (const char *)elf->image + names.sh_offset;
        if (text[names.sh_size - 1]) /* each name ends within the table: it ends with a NUL (gABI, "String Table") */
            continue;
        seen |= 1u << (sh.sh_type == SHT_DYNSYM);
        for (uint64_t k = 0; k + sizeof(Elf64_Sym) <= sh.sh_size; k += sizeof(Elf64_Sym)) {
            Elf64_Sym sym;

            memcpy(&sym, elf->image + sh.sh_offset + k, sizeof(sym));
            if (ELF64_ST_TYPE(sym.st_info) == STT_FUNC && sym.st_shndx != SHN_UNDEF && sym.st_name < names.sh_size &&
                elf_text_at(elf, sym.st_value))
                fn(arg, text + sym.st_name, sym.st_value);
        }
    }
}

int elf_is_exported(const struct elf_image *elf, uint64_t vaddr)
{
    Elf64_Ehdr eh;
    unsigned n = section_count(elf, &eh);

    for (unsigned i = 0; i < n; i++) {
        Elf64_Shdr sh;

        section(elf, &eh, i, &sh);
        if (sh.sh_type != SHT_DYNSYM || !inside(elf->size, sh.sh_offset, sh.sh_size))
            continue;
        for (uint64_t k = 0; k + sizeof(Elf64_Sym) <= sh.sh_size; k += sizeof(Elf64_Sym)) {
            Elf64_Sym sym;

            memcpy(&sym, elf->image + sh.sh_offset + k, sizeof(sym));
            if (sym.st_shndx != SHN_UNDEF && sym.st_value == vaddr)
                return 1;
        }
        break;
    }
    return 0;
}

/* Whether there is a dynamic tag, and its value (0 if not). */
static int dynamic_find(const struct elf_image *elf, int64_t tag, uint64_t *ret_value)
{
    Elf64_Ehdr eh;

    *ret_value = 0;
    if (!get(elf, 0, &eh, sizeof(eh)))
        return 0;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf64_Phdr ph;

        memcpy(&ph, elf->image + eh.e_phoff + (size_t)i * sizeof(ph), sizeof(ph));
        if (ph.p_type != PT_DYNAMIC)
            continue;
        for (uint64_t off = 0; off + sizeof(Elf64_Dyn) <= ph.p_filesz; off += sizeof(Elf64_Dyn)) {
            Elf64_Dyn dyn;

            if (ph.p_offset + off < off || !get(elf, ph.p_offset + off, &dyn, sizeof(dyn)) || dyn.d_tag == DT_NULL)
                return 0;
            if (dyn.d_tag == tag) {
                *ret_value = dyn.d_un.d_val;
                return 1;
            }
        }
    }
    return 0;
}

static uint64_t dynamic_value(const struct elf_image *elf, int64_t tag)
{
    uint64_t value;

    dynamic_find(elf, tag, &value);
    return value;
}

int elf_text_relocations(const struct elf_image *elf)
{
    uint64_t value;

    return dynamic_find(elf, DT_TEXTREL, &value) || (dynamic_value(elf, DT_FLAGS) & DF_TEXTREL);
}

static int is_relative(const struct elf_image *elf, uint64_t info)
{
    return ELF64_R_TYPE(info) == (elf->machine == EM_AARCH64 ? R_AARCH64_RELATIVE : R_X86_64_RELATIVE);
}

void elf_each_relative(const struct elf_image *elf, void (*fn)(void *arg, uint64_t place, uint64_t value), void *arg)
{
    uint64_t table = dynamic_value(elf, DT_RELA), size = dynamic_value(elf, DT_RELASZ), place = 0;
    const uint8_t *p = table ? elf_at(elf, table, size, NULL) : NULL;
    uint64_t word;

    for (uint64_t off = 0; p && off + sizeof(Elf64_Rela) <= size; off += sizeof(Elf64_Rela)) {
        Elf64_Rela rela;

        memcpy(&rela, p + off, sizeof(rela));
        if (is_relative(elf, rela.r_info))
            fn(arg, rela.r_offset, (uint64_t)rela.r_addend);
    }
    /* DT_RELR keeps values in the data. gABI, "Relative Relocation Table": an even entry is an address, an odd one a
     * bitmap of the 63 words after. */
    table = dynamic_value(elf, DT_RELR_);
    size = dynamic_value(elf, DT_RELRSZ_);
    p = table ? elf_at(elf, table, size, NULL) : NULL;
    for (uint64_t off = 0; p && off + sizeof(word) <= size; off += sizeof(word)) {
        const uint8_t *data;
        uint64_t value;

        memcpy(&word, p + off, sizeof(word));
        if (!(word & 1)) {
            place = word;
            data = elf_at(elf, place, sizeof(value), NULL);
            if (data) {
                memcpy(&value, data, sizeof(value));
                fn(arg, place, value);
            }
            place += sizeof(word);
            continue;
        }
        for (unsigned bit = 1; bit < 64; bit++)
            if (word >> bit & 1) {
                data = elf_at(elf, place + (bit - 1) * sizeof(word), sizeof(value), NULL);
                if (data) {
                    memcpy(&value, data, sizeof(value));
                    fn(arg, place + (bit - 1) * sizeof(word), value);
                }
            }
        place += 63 * sizeof(word);
    }
}

struct constants_arg {
    const struct elf_image *elf;
    struct elf_addresses *out;
};

static void add_constant(void *arg, uint64_t place, uint64_t value)
{
    struct constants_arg *a = arg;

    if (elf_text_at(a->elf, value))
        elf_addresses_add(a->out, value);
}

int elf_address_constants(const struct elf_image *elf, struct elf_addresses *out)
{
    struct constants_arg arg = {elf, out};
    uint64_t total = 0;

    if (dynamic_value(elf, DT_RELASZ) > ELF_MAX_TABLE || dynamic_value(elf, DT_RELRSZ_) > ELF_MAX_TABLE)
        return -EFBIG;
    elf_each_relative(elf, add_constant, &arg);
    if (!elf->position_dependent)
        return 0;
    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct elf_range *s = &elf->segments[i];

        if (elf_text_at(elf, s->vaddr) || elf_text_at(elf, s->vaddr + s->size - 1))
            continue;
        total += s->size;
        if (total > ELF_MAX_DATA)
            return -EFBIG;
        for (uint64_t off = -s->vaddr & 7; off + 8 <= s->size; off += 8) {
            uint64_t v;

            memcpy(&v, s->bytes + off, sizeof(v));
            if (elf_text_at(elf, v))
                elf_addresses_add(out, v);
        }
    }
    return 0;
}

struct rseq_arg {
    uint64_t addr, size;
    uint8_t *copy;
};

static void relocate_rseq(void *arg, uint64_t place, uint64_t value)
{
    struct rseq_arg *a = arg;

    if (place >= a->addr && place - a->addr < a->size && a->size - (place - a->addr) >= sizeof(value))
        memcpy(a->copy + (place - a->addr), &value, sizeof(value));
}

/* The name of a section, cut to what fits. */
static void section_name(const struct elf_image *elf, const Elf64_Shdr *names, const Elf64_Shdr *sh, char *to,
                         size_t size)
{
    size_t n = size - 1;

    to[0] = 0;
    if (sh->sh_name >= names->sh_size || names->sh_offset + sh->sh_name < names->sh_offset)
        return;
    if (n > names->sh_size - sh->sh_name)
        n = (size_t)(names->sh_size - sh->sh_name);
    if (!get(elf, names->sh_offset + sh->sh_name, to, n))
        n = 0;
    to[n] = 0;
}

int elf_section(const struct elf_image *elf, const char *name, uint64_t *ret_vaddr)
{
    Elf64_Ehdr eh;
    Elf64_Shdr names, sh;
    unsigned n = section_count(elf, &eh);

    if (!n || eh.e_shstrndx >= n)
        return 0;
    section(elf, &eh, eh.e_shstrndx, &names);
    for (unsigned i = 0; i < n; i++) {
        char found[64];
        size_t len;

        section(elf, &eh, i, &sh);
        section_name(elf, &names, &sh, found, sizeof(found));
        len = strlen(found);
        if (len >= strlen(name) && strcmp(found + len - strlen(name), name) == 0) {
            *ret_vaddr = sh.sh_addr;
            return 1;
        }
    }
    return 0;
}

size_t elf_rseq(const struct elf_image *elf, struct elf_rseq *out, size_t max)
{
    Elf64_Ehdr eh;
    Elf64_Shdr names, sh;
    unsigned n = section_count(elf, &eh);
    size_t count = 0;

    if (!n || eh.e_shstrndx >= n || dynamic_value(elf, DT_RELASZ) > ELF_MAX_TABLE ||
        dynamic_value(elf, DT_RELRSZ_) > ELF_MAX_TABLE)
        return 0;
    section(elf, &eh, eh.e_shstrndx, &names);
    for (unsigned i = 0; i < n; i++) {
        struct rseq_arg arg;
        char name[16];

        section(elf, &eh, i, &sh);
        section_name(elf, &names, &sh, name, sizeof(name));
        if (sh.sh_type != SHT_PROGBITS || strcmp(name, "__rseq_cs") != 0 ||
            !inside(elf->size, sh.sh_offset, sh.sh_size))
            continue;
        arg = (struct rseq_arg){sh.sh_addr, sh.sh_size, xmemdup(elf->image + sh.sh_offset, sh.sh_size)};
        elf_each_relative(elf, relocate_rseq, &arg);
        for (uint64_t off = 0; off + 32 <= sh.sh_size && count < max; off += 32) {
            uint64_t v[4]; /* version and flags, start_ip, post_commit_offset, abort_ip */

            memcpy(v, arg.copy + off, sizeof(v));
            out[count++] = (struct elf_rseq){v[1], v[2], v[3]};
        }
        free(arg.copy);
        break;
    }
    return count;
}

size_t elf_note(const void *image, size_t size, const char *owner, uint32_t type, const uint8_t **ret)
{
    size_t owner_size = strlen(owner) + 1;
    const uint8_t *p = image;
    Elf64_Ehdr eh;

    if (get_ehdr(image, size, &eh) < 0)
        return 0;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf64_Phdr ph;

        memcpy(&ph, p + eh.e_phoff + (size_t)i * sizeof(ph), sizeof(ph));
        if (ph.p_type != PT_NOTE || !inside(size, ph.p_offset, ph.p_filesz))
            continue;
        for (uint64_t off = 0; off + sizeof(Elf64_Nhdr) <= ph.p_filesz;) {
            Elf64_Nhdr note;
            uint64_t name, desc;

            memcpy(&note, p + ph.p_offset + off, sizeof(note));
            name = off + sizeof(note);
            desc = name + ((note.n_namesz + UINT64_C(3)) & ~UINT64_C(3));
            if (desc > ph.p_filesz || note.n_descsz > ph.p_filesz - desc)
                break;
            /* Go pads its owner's name with a zero that it counts. */
            if (note.n_type == type && note.n_namesz >= owner_size &&
                note.n_namesz <= ((owner_size + 3) & ~(size_t)3) && note.n_descsz &&
                memcmp(p + ph.p_offset + name, owner, owner_size) == 0) {
                *ret = p + ph.p_offset + desc;
                return note.n_descsz;
            }
            off = desc + ((note.n_descsz + UINT64_C(3)) & ~UINT64_C(3));
        }
    }
    return 0;
}

size_t elf_build_id(const void *image, size_t size, const uint8_t **ret_id)
{
    return elf_note(image, size, "GNU", NT_GNU_BUILD_ID, ret_id);
}
