/* SPDX-License-Identifier: Apache-2.0 */
#include "session/payload_files.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_open(const struct payload_files *all, const struct payload_file *f)
{
    return f->newer || f->older || all->newest == f;
}

static void link_newest(struct payload_files *all, struct payload_file *f)
{
    f->newer = NULL;
    f->older = all->newest;
    if (all->newest)
        all->newest->newer = f;
    else
        all->oldest = f;
    all->newest = f;
}

static void unlink_file(struct payload_files *all, struct payload_file *f)
{
    if (f->newer)
        f->newer->older = f->older;
    else
        all->newest = f->older;
    if (f->older)
        f->older->newer = f->newer;
    else
        all->oldest = f->newer;
    f->newer = f->older = NULL;
}

static void close_file(struct payload_files *all, struct payload_file *f)
{
    unlink_file(all, f);
    close(f->fd);
    all->open--;
}

void payload_file_opened(struct payload_files *all, struct payload_file *f, int fd)
{
    if (all->open >= all->max && all->oldest)
        close_file(all, all->oldest);
    f->fd = fd;
    all->open++;
    link_newest(all, f);
}

int payload_file_use(struct payload_files *all, struct payload_file *f)
{
    if (!is_open(all, f))
        return -1;
    if (all->newest != f) {
        unlink_file(all, f);
        link_newest(all, f);
    }
    return f->fd;
}

void payload_file_clear(struct payload_files *all, struct payload_file *f)
{
    if (is_open(all, f))
        close_file(all, f);
    free(f->name);
    f->name = NULL;
}
