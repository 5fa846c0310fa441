/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors coming and going. */
#ifndef SCOPE_MODEL_FDS_H
#define SCOPE_MODEL_FDS_H

#include "model/process.h"

struct desc *fds_open(struct proc *p, int64_t fd, struct file *f /* taken */, uint32_t gen, bool cloexec, uint64_t time_ns);
/* Ends a descriptor: reports fs.close, net.close as due. op names the reason. */
void fds_close(struct proc *p, int64_t fd, const char *op, uint64_t time_ns, bool explicit_);
/* Drops a descriptor whose close was lost, without a word: what it transferred is not known. */
void fds_forget(struct proc *p, int64_t fd);
/* What an inherited or missed descriptor is, from /proc; never NULL unless fd is impossible. */
struct desc *fds_look(struct proc *p, int64_t fd, uint32_t gen); /* fds_lookup_gen(), where it isn't known yet */
static inline struct desc *fds_lookup_gen(struct proc *p, int64_t fd, uint32_t gen) /* not inherited, but of that generation */
{
    struct desc *d = fd_get(&p->fds, fd, false);

    return d && d->file ? d : fds_look(p, fd, gen);
}
static inline struct desc *fds_lookup(struct proc *p, int64_t fd)
{
    return fds_lookup_gen(p, fd, 0);
}
/* Reads what a process that we know nothing about has open. */
void fds_snapshot(struct proc *p, uint64_t time_ns);
/* More about what it had open when it was attached to: close-on-exec, addresses of sockets. pidfd: of the process. */
void fds_attached(struct proc *p, int pidfd, uint64_t time_ns);
/* Close-on-exec; names the standard streams, by their numbers. */
void fds_exec(struct proc *p, uint64_t time_ns);
/* Everything that is still open at the end. */
void fds_end(struct proc *p, const char *op, uint64_t time_ns);
/* Has it decided whether what passes through d shall be captured (model_watch.wants), and the process told. */
void fds_decide(struct proc *p, int64_t fd, struct desc *d);
/* Of what is written to d, the beginning of each call is enough for now, or not any more. */
void fds_sample(struct proc *p, int64_t fd, struct desc *d, bool enough);
const char *fds_stream(const struct desc *d, size_t *ret_len); /* DF_STREAM: stdin, stdout, stderr */
/* The image begins: remembers what its standard streams are, and finds others of its descriptors that are the same. */
void fds_streams(struct proc *p);
/* d has just been opened by that name: is it one of the standard streams once more? */
void fds_reopened(struct proc *p, struct desc *d);
/* Which stream a duplicate of `from` is that has the number fd. */
uint8_t fds_label(const struct proc *p, const struct desc *from, int64_t fd);
/* A device that isn't a terminal. rdev: in the kernel's encoding (makedev(3)). */
bool fds_sink(uint32_t mode, uint64_t rdev);
bool fds_unresolved(const struct desc *d); /* it has a name in the file system that isn't what that should be (path.h) */
const char *fds_label_name(const struct desc *d, size_t *ret_len); /* DF_LABEL: stdin, stdout, stderr */
static inline const char *fds_name(const struct desc *d, size_t *ret_len) /* for events: path, or stdout */
{
    if (d->flags & DF_LABEL)
        return fds_label_name(d, ret_len);
    *ret_len = d->file ? d->file->path_len : 0;
    return d->file ? d->file->path : "";
}
void fds_gauge(struct proc *p, struct desc *d, uint8_t flag, int64_t fd, uint64_t time_ns); /* DF_PORT or DF_CONN begins */

#endif
