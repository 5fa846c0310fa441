/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services that are observed by themselves (`scope service`, docs/services.md): what is put into their set-up, and taken
 * out of it again. Nothing of others' is changed: with systemd it is a drop-in and units of our own, else a block of
 * lines at the end of the file that the service's script reads. Each has a collector of its own, outside of its sandbox,
 * which is started before it and tells the service's environment by a file that only root can read: where there is no
 * collector there is no such file, and the service runs as without us.
 *
 * Changes are planned first, and then made file by file, each by rename. A crash in the middle leaves a service that
 * runs, observed or not; doing it again completes it. Single-threaded.
 */
#ifndef SCOPE_HOST_SERVICE_H
#define SCOPE_HOST_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "host/host.h"

#define SERVICE_CONFIG "/etc/scope"                /* NAME/scope.yml */
#define SERVICE_RUN    "/run/appscope/service"     /* KEY/socket, socket+ */
#define SERVICE_ENV    "/run/appscope/environment" /* KEY/service: the service's environment; goes with the collector */
#define SERVICE_STORE  "/var/lib/appscope-service" /* KEY: SCOPE_HOME of its collector, for its user alone */
#define SERVICE_REFUSED 78 /* exit status of a collector that won't run for this unit: not started again by itself */

struct service {
    enum host_init init;
    char *name;       /* as its init system calls it, of aliases the service itself; without ".service" */
    char *key;        /* the same of letters, digits and "_-:" only, in files of ours */
    char *file;       /* unit, or script */
    char *program;    /* what its first ExecStart= runs; NULL: not known */
    char *user;       /* whom systemd starts it as; NULL: root */
    char *preload;    /* LD_PRELOAD that its unit sets; NULL: none */
    bool dynamic_user, starts, forks, oneshot;  /* of systemd: DynamicUser=, whether a process is there when it has started */
    bool accepts;     /* of systemd: an instance of it is started for each connection */
    char **sandbox;   /* lines for its [Service] section, without which it couldn't be observed; NULL-terminated */
    char **note;      /* what people ought to know; NULL-terminated */
};

/* Finds a service by its name. 0, or -errno with *ret_why (malloc'ed, may be NULL): -EINVAL no name, -ENOENT there is
 * none, -EPERM it can't be observed like this, -ENOTSUP no init system that is known. */
int service_find(const char *word, struct service *ret, char **ret_why);
void service_clear(struct service *);
/* Where its collector has its sessions, also if it isn't set up or there any more: malloc'ed, or NULL if that is no name
 * of a service. */
char *service_store(const char *word);
/* All names there are, NULL-terminated, to be freed with each of its members. */
char **service_names(enum host_init init);
/* Those that are set up, likewise. */
char **service_list(enum host_init init);

/* Processes in its control groups, of a template in those of its instances, as systemd has made them: what users make
 * below their own managers never counts. *ret: malloc'ed, NULL if there are none. How many. */
size_t service_processes(const struct service *, pid_t **ret);

struct service_setup {
    const char *scope;    /* path of the tool */
    const char *user;     /* of its collector; NULL: root */
    const char *config;   /* text of its scope.yml; NULL: it stays as it is */
    bool attach;          /* a static program: it is attached to once it has been started */
};

struct service_change {
    char *path;
    char *text;           /* what it will hold; NULL: it is removed */
    size_t len;
    mode_t mode;
    bool there;           /* replaces a file */
    unsigned made;        /* removing: so many directories above it were made for it, and go, too */
};
struct service_plan {
    struct service_change *change;
    size_t count;
    char **kept;          /* removing: what stays, with the reason; NULL-terminated, or NULL */
};

/* What has to be changed: nothing (count 0) if all is as it should be. 0 or -errno with *ret_why. */
int service_plan(const struct service *, const struct service_setup *, struct service_plan *ret, char **ret_why);
/* What takes it out again; the service itself needn't be there any more. -ENOENT: it isn't set up. */
int service_plan_undo(enum host_init init, const char *word, struct service_plan *ret, char **ret_name, char **ret_why);
int service_apply(const struct service_plan *, char **ret_why);
void service_plan_clear(struct service_plan *);

/* Whether the set-up still is what the service's unit asks for: NULL, or why not (malloc'ed). Then its sandbox could end
 * a process that joins. */
char *service_outdated(const struct service *);

#endif
