/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in a pod of the DaemonSet: it has its node observed as long as it lives (scope start), and gives it the
 * rules and the configuration of a ConfigMap. What the node does goes on when this ends by accident; told to end, it
 * undoes all.
 */
#ifndef SCOPE_K8S_NODE_H
#define SCOPE_K8S_NODE_H

struct k8s_node_options {
    const char *root;       /* where the node's / is mounted */
    const char *config_dir; /* rules.yml and scope.yml, of a ConfigMap */
    const char *etc;        /* the node's directory for them, below root */
    const char *self;       /* executable of scope */
};

/* Until SIGTERM or SIGINT: an exit status after messages to the log. `scope start` and `scope stop` are other
 * processes, as they go into the node's namespaces. */
int k8s_node(const struct k8s_node_options *);

#endif
