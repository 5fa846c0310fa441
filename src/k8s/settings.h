/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration for the pods of each namespace: a directory in which a ConfigMap is mounted. NAMESPACE.scope.yml is for
 * that namespace, scope.yml for all others. What can't be used is told, and the last good one stays in force.
 */
#ifndef SCOPE_K8S_SETTINGS_H
#define SCOPE_K8S_SETTINGS_H

#include <stdbool.h>

#include "k8s/pod.h"

#define K8S_CONFIG_MAX (64u << 10) /* of one file: it becomes an annotation, of which a pod may have 256 KiB */

struct k8s_namespaces;
/* dir may be NULL: there is only `text`, which is for who has no file. Both are copied. */
struct k8s_namespaces *k8s_namespaces_new(const char *dir, const char *text);
void k8s_namespaces_free(struct k8s_namespaces *);
/* Reads what has changed. Returns how many files could not be used. */
unsigned k8s_namespaces_read(struct k8s_namespaces *);
/* k8s_settings_fn; ctx is a struct k8s_namespaces. */
const struct k8s_settings *k8s_namespaces_for(void *ctx, const char *ns);

#endif
